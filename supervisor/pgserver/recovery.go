package pgserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"walkeep/common/pgdata"
	"walkeep/common/wal"
)

// WritesTo returns the timeline and the position to which an open server writes.
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

// RecoversAlong returns the timeline of the segment that a server in recovery is replaying; 0 if the role may not see
// it. The control file can name an older timeline for a long time after the server has changed to another.
func (c *Conn) RecoversAlong(ctx context.Context) (wal.Timeline, error) {
	var name string
	err := c.QueryRow(ctx, `WITH s AS (SELECT pg_size_bytes(current_setting('wal_segment_size')) AS size),
		n AS (SELECT size, trunc((pg_last_wal_replay_lsn() - '0/1'::pg_lsn) / size)::bigint AS number FROM s),
		f AS (SELECT lpad(to_hex(number / (4294967296 / size)), 8, '0') || lpad(to_hex(number % (4294967296 / size)), 8, '0') AS name FROM n)
		SELECT coalesce(max(substr(d.name, 1, 8)), '') FROM pg_ls_waldir() d, f WHERE d.name ~ '^[0-9A-F]{24}$' AND substr(d.name, 9) = upper(f.name)`).Scan(&name)
	if Denied(err) || err == nil && name == "" {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("ask the server for its WAL: %w", err)
	}
	return wal.ParseTimeline(name)
}

// EndStreaming ends the process of a standby that receives WAL, so that it looks at once for WAL elsewhere, if the standby runs
// on this host with this data directory. Otherwise it does nothing: pg_terminate_backend does not end that process.
func (c *Conn) EndStreaming(ctx context.Context, dir string) error {
	pids, err := c.Strings(ctx, `SELECT pid::text FROM pg_stat_activity WHERE backend_type = 'walreceiver'`)
	if err != nil || len(pids) == 0 {
		return err
	}
	if here, err := c.RunsOn(ctx, dir); err != nil || !here {
		return err
	}
	pid, err := strconv.Atoi(pids[0])
	if err != nil {
		return err
	}
	if process, err := os.FindProcess(pid); err == nil {
		process.Signal(syscall.SIGTERM) // or it is gone, or another user's, and the server waits for its wal_receiver_timeout
	}
	return nil
}

// RunsOn reports whether this is the server that runs on a data directory of this host, according to postmaster.pid. It
// fails if the role may not read that file through the server.
func (c *Conn) RunsOn(ctx context.Context, dir string) (bool, error) {
	var theirs string
	if err := c.QueryRow(ctx, `SELECT pg_read_file('postmaster.pid')`).Scan(&theirs); err != nil {
		return false, err
	}
	ours, err := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
	// Process, directory, time of its start and port; what follows may change.
	begin := func(text string) []string {
		lines := strings.Split(strings.ReplaceAll(text, "\r", ""), "\n")
		return lines[:min(4, len(lines))]
	}
	return err == nil && slices.Equal(begin(theirs), begin(string(ours))), nil
}

// Nudge makes a standby that waits before it asks for WAL again do so at once, as the signal to reload does.
func (c *Conn) Nudge(ctx context.Context) error {
	_, err := c.Exec(ctx, `SELECT pg_reload_conf()`)
	return err
}

// MayPromote reports whether the role may call pg_promote, which servers of version 12 and later have.
func (c *Conn) MayPromote(ctx context.Context) (may bool, err error) {
	err = c.QueryRow(ctx, `SELECT has_function_privilege('pg_promote(boolean, integer)', 'EXECUTE')`).Scan(&may)
	return may, err
}

// Promote asks a standby of version 12 or later to end its recovery, and does not wait for it.
func (c *Conn) Promote(ctx context.Context) error {
	if _, err := c.Exec(ctx, `SELECT pg_promote(false)`); err != nil {
		return fmt.Errorf("promote: %w", noRecovery(err))
	}
	return nil
}

// RecoverySetting returns the value of a recovery setting with which a standby was started. Up to version 11 it is read from
// recovery.conf; from 12 on the error is [ErrNotShown] if the role may not see the setting.
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

// ErrNotShown reports that the role may not see a setting.
var ErrNotShown = errors.New("the role may not see the setting; it needs pg_read_all_settings")

// Denied reports whether the server refused because of missing rights.
func Denied(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "42501" // insufficient_privilege
}
