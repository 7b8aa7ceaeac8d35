package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"

	"walkeep/common/wal"
)

// CurrentLSN returns the position up to which WAL was written, or on a standby replayed, such as "0/3000148". It
// works with all versions.
func (c *Cluster) CurrentLSN(ctx context.Context) (string, error) {
	lsn, err := c.QueryString(ctx, `SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END`)
	return wal.ShortLSNs(lsn), err
}

// Timeline returns the timeline that a primary writes.
func (c *Cluster) Timeline(ctx context.Context) (uint32, error) {
	name, err := c.QueryString(ctx, "SELECT pg_walfile_name(pg_current_wal_lsn())")
	if err != nil {
		return 0, err
	}
	var timeline uint32
	if _, err := fmt.Sscanf(name, "%08X", &timeline); err != nil {
		return 0, fmt.Errorf("timeline of %q: %w", name, err)
	}
	return timeline, nil
}

// SwitchWAL ends the current WAL segment and returns its name, which the archiver gets next. It first writes a record
// to an empty segment, because PostgreSQL would not switch.
func (c *Cluster) SwitchWAL(ctx context.Context) (segment string, err error) {
	err = c.withConn(ctx, func(conn *pgx.Conn) error {
		if _, err := queryString(ctx, conn, "SELECT pg_create_restore_point('switch')"); err != nil {
			return err
		}
		end, err := queryString(ctx, conn, "SELECT pg_switch_wal()")
		if err != nil {
			return err
		}
		segment, err = endsIn(ctx, conn, end)
		return err
	})
	return segment, err
}

// ArchiveSegment ends the current WAL segment, waits, for up to Timeout, until it is archived, and returns its name.
func (c *Cluster) ArchiveSegment(ctx context.Context) (segment string, err error) {
	if segment, err = c.SwitchWAL(ctx); err != nil {
		return "", err
	}
	return segment, c.WaitArchived(ctx, segment)
}

// endsIn returns the segment of the byte before lsn. Versions differ in what pg_walfile_name returns for the start of
// a segment, and lsn is just that when the last record fills its segment.
func endsIn(ctx context.Context, conn *pgx.Conn, lsn string) (string, error) {
	var hi, lo uint32
	if _, err := fmt.Sscanf(lsn, "%X/%X", &hi, &lo); err != nil {
		return "", fmt.Errorf("LSN %q: %w", lsn, err)
	}
	last := (uint64(hi)<<32 | uint64(lo)) - 1
	return queryString(ctx, conn, "SELECT pg_walfile_name($1::pg_lsn)", fmt.Sprintf("%X/%X", last>>32, uint32(last)))
}

// CreateRestorePoint writes a named point for recovery_target_name and returns the LSN of its end.
func (c *Cluster) CreateRestorePoint(ctx context.Context, name string) (string, error) {
	return c.QueryString(ctx, "SELECT pg_create_restore_point($1)", name)
}

// Checkpoint writes a checkpoint, or on a standby a restartpoint.
func (c *Cluster) Checkpoint(ctx context.Context) error { return c.Exec(ctx, "CHECKPOINT") }

// WaitArchived waits, for up to Timeout, until the archiver has archived the named WAL segment.
func (c *Cluster) WaitArchived(ctx context.Context, name string) error {
	return c.WaitFor(ctx, Timeout, "archiving of "+name, func(ctx context.Context) (bool, error) {
		if _, err := os.Stat(c.Path("pg_wal/archive_status/" + name + ".done")); err == nil {
			return true, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		// The .done file is removed when the segment is recycled.
		var archived bool
		err := c.withConn(ctx, func(conn *pgx.Conn) error {
			row, err := queryRow(ctx, conn, "SELECT last_archived_wal, failed_count, last_failed_wal FROM pg_stat_archiver")
			if err != nil {
				return err
			}
			last := row[0]
			archived = len(last) >= 24 && strings.HasPrefix(last, name[:min(8, len(name))]) && last >= name
			if !archived {
				return fmt.Errorf("archiver: last archived %q, failed %s times, last on %q", last, row[1], row[2])
			}
			return nil
		})
		return archived, err
	})
}

// WaitReplayed waits, for up to Timeout, until a standby or a recovering server has replayed WAL up to an LSN, or has
// been promoted.
func (c *Cluster) WaitReplayed(ctx context.Context, lsn string) error {
	return c.WaitFor(ctx, Timeout, "replay of "+lsn, func(ctx context.Context) (bool, error) {
		s, err := c.QueryString(ctx, `SELECT NOT pg_is_in_recovery() OR coalesce(pg_last_wal_replay_lsn() >= $1::pg_lsn, false)`, lsn)
		return s == "t", err
	})
}

// WaitOpen waits, for up to Timeout, until recovery has ended and the server accepts writes. It fails when a server that was
// started here has ended meanwhile.
func (c *Cluster) WaitOpen(ctx context.Context) error {
	c.mu.Lock()
	proc := c.proc
	c.mu.Unlock()
	runs := proc != nil && !proc.ended()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	return c.WaitFor(ctx, Timeout, "end of recovery", func(ctx context.Context) (bool, error) {
		if runs && proc.ended() {
			end(errors.New("the server has ended"))
		}
		s, err := c.QueryString(ctx, "SELECT pg_is_in_recovery()")
		return s == "f", err
	})
}

// Promote ends a standby's recovery, by pg_ctl promote, and waits until it accepts writes.
func (c *Cluster) Promote(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	if err := c.run(ctx, "pg_ctl", "promote", "-W", "-D", c.Dir); err != nil {
		return c.withLog(err)
	}
	return c.WaitOpen(ctx)
}
