package basebackup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/codec"
	"walkeep/common/recovery"
	"walkeep/common/wal"
	"walkeep/supervisor/pgserver"
)

const (
	pollInterval = 25 * time.Millisecond
	// shippedInterval is the interval where the WAL comes into a repository: each look can be a request to a distant store.
	shippedInterval = 500 * time.Millisecond
	// switchAfter is how long the server may take to fill or to switch the segment in which the backup ends, before
	// Take asks for a switch.
	switchAfter = 2 * time.Second
)

// waitArchived waits until the archive has all WAL that a restore needs. Then it asks the inventory, as all other
// commands do, whether the backup can be restored.
func (t *taker) waitArchived(ctx context.Context, m *backup.Manifest) error {
	next, last := m.FirstSegment(), m.LastSegment()
	t.Waiting(last)
	begun, switched, interval := time.Now(), false, pollInterval
	if t.Spool != nil || t.a.AppendOnly {
		interval = shippedInterval
	}
	var unshipped error
	for wal.Compare(next, last) <= 0 {
		trailer, err := t.a.Trailer(ctx, next)
		switch {
		case err == nil && trailer.WALCheck == codec.Damaged:
			return fmt.Errorf("%w: %s has broken WAL records at %s", ErrNotArchived, next, wal.LSN(trailer.DamageLSN))
		case err == nil:
			next = next.Next(m.SegmentSize)
			continue
		case !errors.Is(err, archive.ErrNotStored):
			return err
		case time.Since(begun) > t.ArchiveTimeout:
			return errors.Join(t.notArchived(ctx, next), unshipped)
		case !switched && next == last && time.Since(begun) > switchAfter:
			t.switchWAL(ctx, m)
			switched = true
		}
		if t.Ship != nil {
			if there, err := t.Spool.HasName(ctx, next); err == nil && there {
				unshipped = t.Ship(ctx)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(interval):
		}
	}
	inv, err := recovery.ReadInventory(ctx, t.a)
	if err != nil {
		return err
	}
	_, err = inv.Reach(m, m.Timeline)
	return err
}

// switchWAL ends the segment in which the backup ended, if the server still writes to it. If the role lacks the right
// for that, the segment is archived when it is full.
func (t *taker) switchWAL(ctx context.Context, m *backup.Manifest) {
	if t.server.InRecovery {
		return
	}
	t.sql.SwitchWAL(ctx, m.Stop, m.SegmentSize)
}

// notArchived returns the error for missing WAL, with the server's reason if it has one.
func (t *taker) notArchived(ctx context.Context, missing wal.Name) error {
	err := fmt.Errorf("%w: %s did not come within %s", ErrNotArchived, missing, t.ArchiveTimeout)
	if t.server.InRecovery {
		return fmt.Errorf("%w; the server is a standby, so its primary has to archive it, and does so when the segment is full or after pg_switch_wal()", err)
	}
	stat, failed := t.sql.ArchiverStat(ctx)
	if failed != nil || stat.LastFailed == "" || stat.LastFailedTime.Before(stat.LastArchivedTime) {
		return err
	}
	return fmt.Errorf("%w; the server's archive_command fails since %s, last for %s", err, stat.LastFailedTime.Format(time.RFC3339), stat.LastFailed)
}

// CheckArchiving fails with [ErrNotArchived] if a backup could not be completed because the server cannot archive:
// its last attempt failed, or, if the backup before failed for that, the archive lacks the file that the server last
// reported as archived.
func CheckArchiving(ctx context.Context, a *archive.Archive, conninfo string, failed bool) error {
	c, err := pgserver.Connect(ctx, conninfo)
	if err != nil {
		return err
	}
	defer c.Close(context.WithoutCancel(ctx))
	t := &taker{a: a, sql: c}
	if t.server, err = c.Info(ctx); err != nil || t.server.InRecovery || t.server.ArchiveMode == "off" {
		return err
	}
	if streams, err := t.streams(ctx); err != nil || streams {
		return err
	}
	stat, err := c.ArchiverStat(ctx)
	if err != nil {
		return err
	}
	if stat.LastFailedTime.After(stat.LastArchivedTime) {
		return fmt.Errorf("%w, and would not be: the server's archive_command fails since %s, last for %s; no file was copied", ErrNotArchived,
			stat.LastFailedTime.Format(time.RFC3339), stat.LastFailed)
	}
	if n, err := wal.ParseName(stat.LastArchived); failed && err == nil {
		there, err := a.HasName(ctx, n)
		if err != nil {
			return err
		}
		if !there {
			return fmt.Errorf("%w, and would not be: the server has reported %s as archived, and the archive does not have it; no file was copied", ErrNotArchived, n)
		}
	}
	return nil
}
