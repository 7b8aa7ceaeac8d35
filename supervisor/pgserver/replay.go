package pgserver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"walkeep/common/cli"
	"walkeep/common/pgdata"
	"walkeep/common/wal"
)

// ErrNoRecovery reports that a server is not in recovery: it is no standby, or no longer one.
var ErrNoRecovery = errors.New("the server is not in recovery: it is a primary")

// Replay is how far a server in recovery has come.
type Replay struct {
	Received wal.LSN // by streaming; 0 if it never did
	Replayed wal.LSN // 0 if nothing was replayed yet
	Pausing  bool    // the server has been told to pause
	// Paused is set after replay has paused. Servers before 14 do not report that; for them it is set when they are
	// told to pause.
	Paused bool
	// Demand names the settings that stopped the replay because they are too low. A server of 14 or newer that is told
	// to continue then shuts down. It is empty if there are none, or the role may not see them.
	Demand string
	// Streaming reports whether a WAL receiver streams; nil if the role may not see it.
	Streaming *bool
	Timeline  wal.Timeline // the newest timeline of which the server has WAL; 0 if unknown
	// Committed is when the last transaction that was replayed has ended; zero if none was. Now is the server's time.
	Committed, Now time.Time
	Latest         bool // recovery follows the newest timeline, as far as is known
}

// Replay asks a server in recovery for its position. If the server is not in recovery, the error is [ErrNoRecovery],
// and the result is how far it came in a recovery since it was started.
func (c *Conn) Replay(ctx context.Context, major int) (Replay, error) {
	var r Replay
	state := "CASE WHEN pg_is_wal_replay_paused() THEN 'paused' ELSE 'not paused' END"
	if major >= 14 {
		state = "pg_get_wal_replay_pause_state()"
	}
	var received, replayed, pause string
	var committed *time.Time
	// In one CASE, because these functions fail where recovery has ended.
	err := c.QueryRow(ctx, `SELECT coalesce(pg_last_wal_receive_lsn()::text, '0/0'), coalesce(pg_last_wal_replay_lsn()::text, '0/0'),
		CASE WHEN pg_is_in_recovery() THEN `+state+` ELSE '' END, pg_last_xact_replay_timestamp(), clock_timestamp()`).
		Scan(&received, &replayed, &pause, &committed, &r.Now)
	if err != nil {
		return r, noRecovery(fmt.Errorf("ask the server how far it has replayed: %w", err))
	}
	if r.Received, err = wal.ParseLSN(received); err != nil {
		return r, err
	}
	if r.Replayed, err = wal.ParseLSN(replayed); err != nil {
		return r, err
	}
	if committed != nil {
		r.Committed = *committed
	}
	if pause == "" {
		return r, ErrNoRecovery
	}
	r.Pausing, r.Paused = pause != "not paused", pause == "paused"
	if r.Paused && major >= 14 {
		r.Demand = c.demand(ctx, major)
	}
	c.askReceiver(ctx, &r)
	if major >= 12 {
		var timeline string
		c.QueryRow(ctx, `SELECT current_setting('recovery_target_timeline')`).Scan(&timeline)
		r.Latest = timeline == "latest" || timeline == ""
	} else {
		r.Latest = true // those settings are not shown
	}
	return r, nil
}

// demand returns the settings of a server in recovery that are lower than its WAL requires, from its control file.
func (c *Conn) demand(ctx context.Context, major int) string {
	var control []byte
	var dir string
	set := make(map[string]string)
	err := c.QueryRow(ctx, `SELECT pg_read_binary_file('global/pg_control')`).Scan(&control)
	needed, parsed := pgdata.ParseLimits(control)
	if err != nil && sameHost(c.PgConn().Conn()) && c.QueryRow(ctx, `SELECT setting FROM pg_settings WHERE name = 'data_directory'`).Scan(&dir) == nil {
		needed, parsed = pgdata.ReadLimits(dir)
	}
	if parsed != nil || c.QueryRow(ctx, `SELECT json_object_agg(name, setting) FROM pg_settings WHERE name LIKE 'max\_%'`).Scan(&set) != nil {
		return ""
	}
	if low := pgdata.TooLow(needed, major, set); len(low) > 0 {
		return pgdata.Demand(low)
	}
	return ""
}

// askReceiver asks for the state of the WAL receiver, which not every role may see.
func (c *Conn) askReceiver(ctx context.Context, r *Replay) {
	var streams *bool
	var timeline, minimum int64
	if c.QueryRow(ctx, `SELECT min_recovery_end_timeline::bigint, (SELECT timeline_id::bigint FROM pg_control_checkpoint()) FROM pg_control_recovery()`).
		Scan(&minimum, &timeline) == nil {
		r.Timeline = wal.Timeline(max(minimum, timeline))
	}
	// A role without the right sees the row, if there is one, but nothing of it.
	if c.QueryRow(ctx, `SELECT CASE WHEN count(*) = 0 THEN false WHEN count(status) = 0 THEN NULL ELSE bool_or(status = 'streaming') END,
		coalesce(max(received_tli), 0)::bigint FROM pg_stat_wal_receiver`).Scan(&streams, &timeline) == nil {
		r.Streaming = streams
		r.Timeline = max(r.Timeline, wal.Timeline(timeline))
	}
}

// PauseReplay makes a server in recovery pause its replay, and ContinueReplay makes it resume.
func (c *Conn) PauseReplay(ctx context.Context) error {
	return c.tellReplay(ctx, "pg_wal_replay_pause()")
}
func (c *Conn) ContinueReplay(ctx context.Context) error {
	return c.tellReplay(ctx, "pg_wal_replay_resume()")
}

// A MissingRight is an error that names the right that a role lacks.
type MissingRight struct {
	Function, Role string
	err            error
}

func (m *MissingRight) Error() string {
	return fmt.Sprintf("role %q may not call %s: %v", m.Role, m.Function, m.err)
}

func (m *MissingRight) grant() string {
	return "GRANT EXECUTE ON FUNCTION " + m.Function + " TO " + pgx.Identifier{m.Role}.Sanitize()
}

// Hint returns how to give the right.
func (m *MissingRight) Hint() string { return "as a superuser, on the primary: " + m.grant() }

func (m *MissingRight) Unwrap() error { return m.err }

func (c *Conn) tellReplay(ctx context.Context, function string) error {
	_, err := c.Exec(ctx, "SELECT "+function)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "42501" { // insufficient_privilege
		return &MissingRight{function, c.Config().User, err}
	}
	return noRecovery(err)
}

// ErrDemand reports that replay has stopped at a setting that is too low.
var ErrDemand = cli.NewError("replay has stopped, and would shut the server down if it continued",
	"set it in the standby's configuration and restart the standby, which loses nothing; then repeat this")

// MayGoOn returns [ErrDemand] if replay has stopped at a setting that is too low.
func (r Replay) MayGoOn() error {
	if r.Demand != "" {
		return fmt.Errorf("%w: %s", ErrDemand, r.Demand)
	}
	return nil
}

// noRecovery returns ErrNoRecovery for the error with which recovery functions fail on a primary, and other errors as they
// are.
func noRecovery(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "55000" { // object_not_in_prerequisite_state
		return ErrNoRecovery
	}
	return err
}
