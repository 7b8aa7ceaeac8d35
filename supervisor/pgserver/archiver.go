package pgserver

import (
	"context"
	"fmt"
	"time"

	"walkeep/common/wal"
)

// Clock is the server's time.
func (c *Conn) Clock(ctx context.Context) (time.Time, error) {
	var now time.Time
	if err := c.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now); err != nil {
		return now, fmt.Errorf("ask the server for its time: %w", err)
	}
	return now.UTC(), nil
}

// SwitchWAL makes the server begin a new segment if the one that it writes to holds the position. It needs a right to
// execute pg_switch_wal.
func (c *Conn) SwitchWAL(ctx context.Context, at wal.LSN, size wal.SegmentSize) error {
	var text string
	if err := c.QueryRow(ctx, `SELECT pg_current_wal_insert_lsn()::text`).Scan(&text); err != nil {
		return fmt.Errorf("ask the server for its position: %w", err)
	}
	current, err := wal.ParseLSN(text)
	if err != nil {
		return err
	}
	if (current-1)/wal.LSN(size) > (at-1)/wal.LSN(size) {
		return nil
	}
	if _, err := c.Exec(ctx, `SELECT pg_switch_wal()`); err != nil {
		return fmt.Errorf("switch to a new segment: %w", err)
	}
	return nil
}

// ArchiverStat is a row of pg_stat_archiver. Times are zero if they are null.
type ArchiverStat struct {
	Archived, Failed                 int64
	LastArchived, LastFailed         string // names of WAL files
	LastArchivedTime, LastFailedTime time.Time
}

// ArchiverStat asks how archiving goes.
func (c *Conn) ArchiverStat(ctx context.Context) (ArchiverStat, error) {
	var s ArchiverStat
	var archived, failed *time.Time
	err := c.QueryRow(ctx, `SELECT archived_count, failed_count, coalesce(last_archived_wal, ''), coalesce(last_failed_wal, ''),
		last_archived_time, last_failed_time FROM pg_stat_archiver`).
		Scan(&s.Archived, &s.Failed, &s.LastArchived, &s.LastFailed, &archived, &failed)
	if err != nil {
		return s, fmt.Errorf("ask the server how archiving goes: %w", err)
	}
	if archived != nil {
		s.LastArchivedTime = archived.UTC()
	}
	if failed != nil {
		s.LastFailedTime = failed.UTC()
	}
	return s, nil
}
