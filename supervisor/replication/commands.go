package replication

import (
	"context"
	"fmt"
	"strconv"

	"walkeep/common/wal"
)

// A System is what a server reports about itself.
type System struct {
	ID          wal.SystemID
	Flushed     Position // how far the server has flushed its WAL
	SegmentSize wal.SegmentSize
	Major       int // version
}

// IdentifySystem asks the server which cluster it belongs to and how far its WAL reaches.
func (c *Conn) IdentifySystem(ctx context.Context) (s System, err error) {
	row, err := c.row(ctx, "IDENTIFY_SYSTEM", 3)
	if err != nil {
		return s, err
	}
	id, err := strconv.ParseUint(row[0], 10, 64)
	if err != nil {
		return s, fmt.Errorf("the server gives %q as its system identifier", row[0])
	}
	s.ID = wal.SystemID(id)
	if s.Flushed, err = parsePosition(row[1], row[2]); err != nil {
		return s, err
	}
	size, err := c.Show(ctx, "wal_segment_size")
	if err != nil {
		return s, err
	}
	if s.SegmentSize, err = wal.ParseSegmentSize(size); err != nil {
		return s, err
	}
	version, err := c.Show(ctx, "server_version_num")
	if err != nil {
		return s, err
	}
	number, err := strconv.Atoi(version)
	if err != nil {
		return s, fmt.Errorf("the server gives %q as its version", version)
	}
	s.Major = number / 10000
	return s, nil
}

// Show returns the value of a setting.
func (c *Conn) Show(ctx context.Context, setting string) (string, error) {
	row, err := c.row(ctx, "SHOW "+setting, 1)
	if err != nil {
		return "", err
	}
	return row[0], nil
}

// TimelineHistory returns the content of a timeline's history file. The error has the code [UndefinedFile] if the server
// does not have the file.
func (c *Conn) TimelineHistory(ctx context.Context, tli wal.Timeline) ([]byte, error) {
	row, err := c.row(ctx, fmt.Sprintf("TIMELINE_HISTORY %d", tli), 2)
	if err != nil {
		return nil, err
	}
	return []byte(row[1]), nil
}

// CreatePhysicalSlot creates a slot that keeps WAL from the last checkpoint on. The error has the code [DuplicateObject] if
// the slot exists.
func (c *Conn) CreatePhysicalSlot(ctx context.Context, slot string) error {
	_, err := c.query(ctx, fmt.Sprintf(`CREATE_REPLICATION_SLOT "%s" PHYSICAL RESERVE_WAL`, slot))
	return err
}

// DropSlot drops a slot.
func (c *Conn) DropSlot(ctx context.Context, slot string) error {
	_, err := c.query(ctx, fmt.Sprintf(`DROP_REPLICATION_SLOT "%s"`, slot))
	return err
}
