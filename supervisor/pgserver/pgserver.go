// Package pgserver talks to the running PostgreSQL server: what it is, how it is set, what it is doing. A role with
// REPLICATION and pg_monitor is enough for all of it.
package pgserver

import (
	"context"
	"fmt"
	"strconv"

	"walkeep/common/wal"
)

// Info describes a server.
type Info struct {
	Version     string // as SHOW server_version prints it
	Major       int
	SystemID    wal.SystemID
	SegmentSize wal.SegmentSize
	Timeline    wal.Timeline // of its last checkpoint
	InRecovery  bool
	ArchiveMode string // off, on, always
	DataDir     string // empty if the role may not read it
	Checksums   bool   // pages have checksums
}

// Newer returns a warning if a major version is newer than those that this program knows, and an empty text otherwise. Such a
// server is served nevertheless.
func Newer(major int) string {
	if major <= wal.NewestMajor {
		return ""
	}
	return fmt.Sprintf("PostgreSQL %d is newer than %d, the newest version that this program knows: what is new in it is not checked",
		major, wal.NewestMajor)
}

// Info asks the server what it is.
func (c *Conn) Info(ctx context.Context) (Info, error) {
	var i Info
	var number, segment, checksums string
	var system, timeline int64
	err := c.QueryRow(ctx, `SELECT current_setting('server_version'), current_setting('server_version_num'),
		current_setting('archive_mode'), current_setting('data_checksums'), current_setting('wal_segment_size'), pg_is_in_recovery(),
		(SELECT system_identifier FROM pg_control_system()), (SELECT timeline_id FROM pg_control_checkpoint())`).
		Scan(&i.Version, &number, &i.ArchiveMode, &checksums, &segment, &i.InRecovery, &system, &timeline)
	if err != nil {
		return i, fmt.Errorf("ask the server what it is: %w", err)
	}
	n, err := strconv.Atoi(number)
	if err != nil {
		return i, fmt.Errorf("server_version_num is %q", number)
	}
	i.Major, i.SystemID, i.Timeline, i.Checksums = n/10000, wal.SystemID(system), wal.Timeline(timeline), checksums == "on"
	if i.SegmentSize, err = wal.ParseSegmentSize(segment); err != nil {
		return i, err
	}
	// Only pg_monitor and pg_read_all_settings may read it; it is of use, but not needed.
	c.QueryRow(ctx, `SELECT setting FROM pg_settings WHERE name = 'data_directory'`).Scan(&i.DataDir)
	return i, nil
}
