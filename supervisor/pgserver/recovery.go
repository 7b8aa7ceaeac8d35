package pgserver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"walkeep/common/pgdata"
	"walkeep/common/wal"
)

// A Recovery is how far a server has recovered.
type Recovery struct {
	Running    bool // false: the server is open for writing, and what follows is where it was at the end
	Paused     bool
	Replayed   wal.LSN   // end of the last record that was replayed; 0 if none was
	Received   wal.LSN   // up to where its primary's WAL was received by streaming; 0 if none was
	LastCommit time.Time // by the primary's clock, of the last transaction that was replayed; zero if none was
	Timeline   wal.Timeline
}

// Recovery asks how far the server has recovered.
func (c *Conn) Recovery(ctx context.Context) (Recovery, error) {
	var r Recovery
	var replayed, received string
	var commit *time.Time
	var tli int64
	err := c.QueryRow(ctx, `SELECT in_recovery, CASE WHEN in_recovery THEN pg_is_wal_replay_paused() ELSE false END,
		coalesce(pg_last_wal_replay_lsn()::text, ''), coalesce(pg_last_wal_receive_lsn()::text, ''), pg_last_xact_replay_timestamp(),
		(SELECT greatest(timeline_id, (SELECT min_recovery_end_timeline FROM pg_control_recovery())) FROM pg_control_checkpoint())
		FROM pg_is_in_recovery() AS in_recovery`).
		Scan(&r.Running, &r.Paused, &replayed, &received, &commit, &tli)
	if err != nil {
		return r, fmt.Errorf("ask the server how far it has recovered: %w", err)
	}
	r.Timeline = wal.Timeline(tli)
	if commit != nil {
		r.LastCommit = commit.UTC()
	}
	for _, p := range []struct {
		text string
		to   *wal.LSN
	}{{replayed, &r.Replayed}, {received, &r.Received}} {
		if p.text == "" {
			continue
		}
		if *p.to, err = wal.ParseLSN(p.text); err != nil {
			return r, err
		}
	}
	return r, nil
}

// WritesTo is the timeline and the position to which an open server writes.
func (c *Conn) WritesTo(ctx context.Context) (wal.Timeline, wal.LSN, error) {
	var file, at string
	if err := c.QueryRow(ctx, `SELECT pg_walfile_name(lsn), lsn::text FROM pg_current_wal_lsn() AS lsn`).Scan(&file, &at); err != nil {
		return 0, 0, fmt.Errorf("ask the server for its position: %w", err)
	}
	n, err := wal.ParseName(file)
	if err != nil {
		return 0, 0, err
	}
	lsn, err := wal.ParseLSN(at)
	return n.Timeline, lsn, err
}

// Streams tells whether a standby receives WAL from its primary by streaming.
func (c *Conn) Streams(ctx context.Context) (bool, error) {
	var n int
	err := c.QueryRow(ctx, `SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'`).Scan(&n)
	return n > 0, err
}

// EndStreaming ends the process of a standby that receives WAL, so that it looks at once for WAL elsewhere.
func (c *Conn) EndStreaming(ctx context.Context) error {
	_, err := c.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'walreceiver'`)
	return err
}

// Resume lets a paused replay go on.
func (c *Conn) Resume(ctx context.Context) error {
	if _, err := c.Exec(ctx, `SELECT pg_wal_replay_resume()`); err != nil {
		return fmt.Errorf("resume replay: %w", err)
	}
	return nil
}

// Reload makes the server read its configuration anew. A standby that waits before it asks for WAL again does so at once.
func (c *Conn) Reload(ctx context.Context) error {
	_, err := c.Exec(ctx, `SELECT pg_reload_conf()`)
	return err
}

// Promote asks a standby of version 12 or later to end its recovery, and does not wait for it.
func (c *Conn) Promote(ctx context.Context) error {
	if _, err := c.Exec(ctx, `SELECT pg_promote(false)`); err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	return nil
}

// RecoverySetting gives the value with which a standby was started: up to 11 it stands in recovery.conf.
func (c *Conn) RecoverySetting(ctx context.Context, major int, name string) (value string, err error) {
	if major < 12 {
		text, err := c.Strings(ctx, `SELECT pg_read_file('recovery.conf')`)
		if err != nil || len(text) == 0 {
			return "", fmt.Errorf("read recovery.conf: %w", err)
		}
		for line := range strings.Lines(text[0]) { // the last one counts
			if n, v := pgdata.Setting(line); strings.EqualFold(n, name) {
				value = v
			}
		}
		return value, nil
	}
	err = c.QueryRow(ctx, `SELECT setting FROM pg_settings WHERE name = $1`, name).Scan(&value)
	if errors.Is(err, pgx.ErrNoRows) { // not shown to everybody
		return "", fmt.Errorf("%s: %w", name, ErrNotShown)
	}
	return value, err
}

// ErrNotShown says that a setting is not shown to the role.
var ErrNotShown = errors.New("the role may not see the setting; it needs pg_read_all_settings")

// Denied tells whether the server refused because of missing rights.
func Denied(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "42501" // insufficient_privilege
}
