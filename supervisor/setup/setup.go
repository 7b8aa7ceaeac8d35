// Package setup makes a server archive into a spool, and takes that back.
//
// What was there before is written down, durably, before anything is changed: the note setup.json in the spool, a JSON
// object whose fields are those of the type note. Every step looks for what is there already, so that a setup or an undo
// that was killed is completed by the next one, or taken back. A spool that setup makes appears together with its note: it
// is made under another name, beside its own, and renamed.
//
// The order of the steps is such that the server can be started at any time in between: wal_level goes up before what
// needs it, and down after that; a slot is dropped before them.
package setup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"walkeep/common/account"
	"walkeep/common/cli"
	"walkeep/supervisor/pgserver"
)

// Options are what to set up.
type Options struct {
	Conninfo string // who sets it up: a superuser
	PGData   string // empty: what the server says
	Bindir   string // empty: where the system has it
	Spool    string // absolute path
	Program  string // absolute path of archive-cmd
	Slot     string
	Role     string // to be made; empty: none
	File     string // absolute path of the configuration file
	FileArg  bool   // the file is not the one that archive-cmd looks for by itself

	Synchronous bool // commits wait for the stream
	// FlushInterval is for the configuration file, where it is not the usual one.
	FlushInterval time.Duration
	Replace       bool // the archive_command of another archiver is replaced
	// Histories has the archive hold the histories of the server's timelines, which it came to before it archived here.
	Histories func(ctx context.Context, server pgserver.Info, conninfo string) error
	DryRun    bool
	Restart   bool // restart the server if need be

	Out    io.Writer                  // takes the checks and the plan
	Notice func(hint, message string) // takes warnings
}

// A Problem is why something cannot be done, and what to do about it.
type Problem struct {
	Hint string
	err  error
}

func (p *Problem) Error() string { return p.err.Error() }
func (p *Problem) Unwrap() error { return p.err }

func problem(hint, format string, args ...any) error {
	return &Problem{hint, fmt.Errorf(format, args...)}
}

// halfDone says what to do about an error that came after something was changed.
func halfDone(ctx context.Context, err error) error {
	if p := (*Problem)(nil); err == nil || ctx.Err() != nil || errors.As(err, &p) {
		return err
	}
	return &Problem{"call it again to complete it; setup --undo takes back what was done", err}
}

// A setup is one call.
type setup struct {
	Options
	conn     *pgserver.Conn
	info     pgserver.Info
	settings map[string]pgserver.Setting
	data     string          // the data directory
	user     account.Account // the server's
	note     *note           // nil: there is none
	problems []*Problem

	plan plan
}

// Names of settings.
const (
	walLevel       = "wal_level"
	maxSenders     = "max_wal_senders"
	maxSlots       = "max_replication_slots"
	archiveCommand = "archive_command"
	archiveMode    = "archive_mode"
	archiveLibrary = "archive_library"
	syncNames      = "synchronous_standby_names"
	maxConnections = "max_connections"
	reserved       = "superuser_reserved_connections"
)

// order is that in which settings are changed. It is the reverse when they are changed back.
var order = []string{walLevel, maxSenders, maxSlots, archiveCommand, archiveMode, syncNames}

// Run sets the server up.
func Run(ctx context.Context, o Options) error {
	s := &setup{Options: o}
	defer s.close(ctx)
	if err := s.begin(ctx); err != nil {
		return err
	}
	if err := s.check(ctx); err != nil {
		return err
	}
	s.plan.print(s)
	if s.DryRun {
		s.say("nothing was changed: this was a dry run")
		return nil
	}
	return halfDone(ctx, s.change(ctx))
}

// change does what is planned.
func (s *setup) change(ctx context.Context) error {
	if err := s.apply(ctx); err != nil {
		return err
	}
	if err := s.refresh(ctx); err != nil {
		return err
	}
	if err := s.restartIfNeeded(ctx, "setup"); err != nil {
		return err
	}
	return s.finish(ctx)
}

// begin connects, and sees to it that there is no other setup.
func (s *setup) begin(ctx context.Context) error {
	var err error
	if s.conn, err = pgserver.Connect(ctx, s.Conninfo); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return problem("see that the server runs, and say with --conninfo how to connect as a superuser", "%w", err)
	}
	if s.info, err = s.conn.Info(ctx); err != nil {
		return err
	}
	if s.DryRun {
		return nil
	}
	// With synchronous_standby_names our own commits must not wait. The lock also waits for the session of a setup that
	// was killed, whose last statement may still be on its way.
	_, err = s.conn.Exec(ctx, `SET synchronous_commit = local; SET statement_timeout = 0; SET lock_timeout = '30s'`)
	if err == nil {
		_, err = s.conn.Exec(ctx, `SELECT pg_advisory_lock(7091117110101112)`)
	}
	if err != nil {
		return fmt.Errorf("wait for another setup to end: %w", err)
	}
	return nil
}

func (s *setup) close(ctx context.Context) {
	if s.conn != nil {
		s.conn.Close(context.WithoutCancel(ctx))
	}
}

// refresh asks for the settings.
func (s *setup) refresh(ctx context.Context) error {
	var err error
	s.settings, err = s.conn.Settings(ctx, append(slices.Clone(order), archiveLibrary, maxConnections, reserved)...)
	return err
}

// pending lists the settings of ours that wait for a restart.
func (s *setup) pending() []string {
	var names []string
	for _, name := range order {
		if s.settings[name].Pending() {
			names = append(names, name)
		}
	}
	return names
}

func (s *setup) say(format string, args ...any) { fmt.Fprintf(s.Out, format+"\n", args...) }

func (s *setup) notice(hint, format string, args ...any) {
	s.Notice(hint, fmt.Sprintf(format, args...))
}

// finish does what had to wait for a restart, and says what comes next.
func (s *setup) finish(ctx context.Context) error {
	if s.plan.slot {
		there, err := s.makeSlot(ctx)
		if err != nil {
			return err
		}
		if !there {
			s.say("the replication slot %s cannot be made before the restart: call setup again after it", s.Slot)
			return nil
		}
	}
	if s.info.Timeline > 1 && s.Histories != nil {
		if err := s.Histories(ctx, s.info, s.conn.Here()); err != nil && ctx.Err() == nil {
			s.notice("a base backup does it, too", "the histories of the server's timelines are not archived yet: %v", err)
		}
	}
	if s.plan.Empty() {
		return nil
	}
	if advice, err := s.conn.ShutdownAdvice(ctx); err == nil && advice != "" {
		s.say("next: %s", advice)
	}
	if s.Role != "" {
		s.say("next: the role %s has no password: let it in by pg_hba.conf, for replication and for the database postgres;", s.Role)
		s.say("      a password that you give it belongs into the password file (~/.pgpass) of who runs walkeep")
	}
	s.say("next: take a backup (%s), and start what streams (%s, or service install):", cli.Call("backup"), cli.Call("run"))
	s.say("      until then the slot %s keeps all WAL in %s", s.Slot, filepath.Join(s.data, "pg_wal"))
	s.say("next: let %s say when backups are taken and what is kept (backup-schedule, cleanup-schedule, keep-backups)", s.File)
	return nil
}
