// Package setup configures a server so that it archives into a spool, and undoes that.
//
// Before it changes anything it durably records the previous state in setup.json in the spool, a JSON object with the
// fields of the type note. Every step first checks what exists already, so that the next setup completes, or the next
// undo takes back, a setup or an undo that was killed. A new spool appears together with its note: it is made under
// another name, beside its own, and renamed.
//
// The order of the steps allows the server to be started at any time in between: wal_level is raised before the
// settings that need it, and lowered after them; a slot is dropped before them.
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
	"walkeep/common/archive"
	"walkeep/common/cli"
	"walkeep/supervisor/pgserver"
)

// Options describe the setup.
type Options struct {
	Conninfo string // connects as a superuser
	PGData   string // empty: the server's own value
	Bindir   string // empty: the system's programs
	Spool    string // absolute path
	Program  string // absolute path of archive-cmd
	Slot     string
	Role     string // the role to be made; empty: none
	File     string // absolute path of the configuration file
	FileArg  bool   // archive-cmd needs the option --config to find File

	// Recipients is the absolute path of the list of those for whom WAL and backups are encrypted; empty: they are not.
	Recipients string

	Synchronous bool // commits wait for the stream
	// FlushInterval is written to the configuration file unless it is the default.
	FlushInterval time.Duration
	Replace       bool // replace the archive_command of another archiver
	// Repositories are those of the configuration. One that cannot be used is a warning, because the server archives into the spool
	// all the same; another cluster's is refused.
	Repositories []Repository
	// Histories archives the histories of the server's timelines from before it archived here.
	Histories func(ctx context.Context, server pgserver.Info, conninfo string) error
	DryRun    bool
	Restart   bool // restart the server if settings need it

	Out    io.Writer                  // receives the checks and the plan
	Notice func(hint, message string) // receives warnings
}

// A Repository is one of the configuration.
type Repository struct {
	Title string   // such as repository NAME (URL)
	Files []string // which the user of the service must be able to read
	// Test finds out whether the cluster's archive can be kept there. It changes nothing in a dry run.
	Test func(ctx context.Context, cluster archive.Identity) error
}

// A Problem is an error with a hint about what to do.
type Problem struct {
	hint string
	err  error
}

func (p *Problem) Error() string { return p.err.Error() }
func (p *Problem) Unwrap() error { return p.err }

// Hint returns what the user can do about the error.
func (p *Problem) Hint() string { return p.hint }

func problem(hint, format string, args ...any) error {
	return &Problem{hint, fmt.Errorf(format, args...)}
}

// halfDone adds a hint to an error that came after the first change.
func halfDone(ctx context.Context, err error) error {
	if p := (*Problem)(nil); err == nil || ctx.Err() != nil || errors.As(err, &p) {
		return err
	}
	return &Problem{"call setup again to complete it; setup --undo takes back what was done", err}
}

// A setup is one call of Run or Undo.
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

// order is the order in which settings are changed. Undo uses the reverse order.
var order = []string{walLevel, maxSenders, maxSlots, archiveCommand, archiveMode, syncNames}

// Run sets the server up. Errors that a user can act on are a [Problem].
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

// change carries out the plan.
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

// begin connects to the server, and locks out other setups.
func (s *setup) begin(ctx context.Context) error {
	var err error
	if s.conn, err = pgserver.Connect(ctx, s.Conninfo); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return problem("make sure that the server runs, and connect as a superuser with --conninfo", "%w", err)
	}
	if s.info, err = s.conn.Info(ctx); err != nil {
		return err
	}
	if s.DryRun {
		return nil
	}
	// With synchronous_standby_names the commits of setup must not wait. The lock also waits for the session of a
	// setup that was killed, whose last statement may still be running.
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

// refresh reads the settings.
func (s *setup) refresh(ctx context.Context) error {
	var err error
	s.settings, err = s.conn.Settings(ctx, append(slices.Clone(order), archiveLibrary, maxConnections, reserved)...)
	return err
}

// pending lists the settings of order that wait for a restart.
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

// finish makes what had to wait for a restart, and prints the next steps.
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
			s.notice("a base backup archives them, too", "the histories of the server's timelines are not archived yet: %v", err)
		}
	}
	if s.plan.Empty() {
		return nil
	}
	if advice, err := s.conn.ShutdownAdvice(ctx); err == nil && advice != "" {
		s.say("next: %s", advice)
	}
	if s.Role != "" {
		s.say("next: the role %s has no password: allow it in pg_hba.conf, for replication and for the database postgres;", s.Role)
		s.say("      a password that you give it belongs into the password file (~/.pgpass) of the user who runs walkeep")
	}
	s.say("next: take a backup (%s), and start the stream (%s, or service install):", cli.Call("backup"), cli.Call("run"))
	s.say("      until then the slot %s keeps all WAL in %s", s.Slot, filepath.Join(s.data, "pg_wal"))
	s.say("next: set in %s when backups are taken and what is kept (backup-schedule, cleanup-schedule, keep-backups)", s.File)
	return nil
}
