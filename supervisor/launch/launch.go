// Package launch starts the server of a data directory, follows its recovery to the end, and determines whether a
// server runs on a data directory. For that it finds PostgreSQL's programs.
package launch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"walkeep/common/cli"
	"walkeep/common/host"
	"walkeep/common/pgdata"
	"walkeep/common/recovery"
	"walkeep/common/wal"
	"walkeep/supervisor/pgconf"
	"walkeep/supervisor/pgserver"
)

// Errors of Start, to be found with errors.Is.
var (
	ErrRoot = cli.NewError("PostgreSQL does not run as root",
		"restore as the server's user, or start the server by hand as that user")
	ErrStopped = cli.NewError("the server stopped before it had recovered",
		"the directory is restored; the server's log is in it, "+LogName+", or where the server is set to log; if another server uses its port, set another one in its postgresql.conf and start it with pg_ctl")
	ErrNoAnswer = cli.NewError("the server runs, but could not be asked whether it has recovered",
		"name the role to connect as with --conninfo, such as user=postgres")
	ErrPaused = cli.NewError("replay paused before it reached its target",
		"raise the setting that is too low in the restored server's postgresql.auto.conf, and restart the server: it continues from there; if somebody has paused replay, SELECT pg_wal_replay_resume() continues it")
)

// A Server describes a restored data directory and how to start its server.
type Server struct {
	Plan     recovery.Plan // the backup and the target of its recovery
	Dir      string        // the data directory; absolute
	Standby  bool          // it replays until it is promoted
	Action   string        // at the target: pause, promote or shutdown
	Bindir   string        // of the server's programs; empty: the system's
	Conninfo string        // to query the server; Start adds the address
	// Arguments are given to the server.
	Arguments []string
	// Replayed is called with the current position of replay. Optional.
	Replayed func(wal.LSN)

	begun  time.Time
	config pgconf.Config
}

// LogName is the file in the data directory for the log of a server that Start starts, unless the server is
// configured to log elsewhere.
const LogName = "walkeep.start.log"

// poll is the interval of the checks on a recovering server.
const poll = 100 * time.Millisecond

// longest is the longest time that pg_ctl can wait, in seconds: it counts tenths of seconds in an int.
const longest = "200000000"

// Check reports whether a server of a major version can be started, and returns the directory of its programs.
func Check(ctx context.Context, bindir string, major int) (string, error) {
	if os.Geteuid() == 0 {
		return "", ErrRoot
	}
	return Bindir(ctx, bindir, major)
}

// isOdd reports whether pg_ctl cannot start a server with this directory as -D: it starts the server through a shell,
// and puts the name between double quotes there (start_postmaster in src/bin/pg_ctl/pg_ctl.c). No shell reads PGDATA.
func isOdd(dir string) bool { return runtime.GOOS != "windows" && strings.ContainsAny(dir, "\"$`\\") }

// Command returns the shell command that starts the server of a data directory of a major version. bindir may be
// empty.
func Command(bindir, dir string, major int) string {
	words := []string{filepath.Join(bindir, "pg_ctl")}
	log := filepath.Join(dir, LogName)
	odd := isOdd(dir)
	if odd {
		log = LogName
	} else {
		words = append(words, "-D", dir)
	}
	words = append(words, "-l", log)
	if arguments := pgconf.Find(dir, major).Arguments(dir); len(arguments) > 0 {
		words = append(words, "-o", cli.Line(arguments...))
	}
	line := cli.Line(append(words, "start")...)
	if odd {
		line = cli.Line("cd", dir) + " && PGDATA=$PWD " + line
	}
	return line
}

// Start starts the server, waits until it has recovered, and returns the outcome: open, paused or shut down; [Hot] or
// [Warm] for a standby. If ctx ends before, the server keeps running.
func Start(ctx context.Context, s Server) (string, error) {
	bindir, err := Check(ctx, s.Bindir, s.Plan.Backup.Major)
	if err != nil {
		return "", err
	}
	s.config = pgconf.Find(s.Dir, s.Plan.Backup.Major)
	if s.config.File == "" {
		return "", fmt.Errorf("%s: %w", s.Dir, pgconf.ErrNone)
	}
	s.begun = time.Now()
	log, err := os.OpenFile(filepath.Join(s.Dir, LogName), os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return "", err
	}
	defer log.Close()
	// pg_ctl waits, because it reliably detects that the server that it has started has ended.
	cmd := exec.CommandContext(ctx, Program(bindir, "pg_ctl"), "start", "-w", "-t", longest)
	if runtime.GOOS != "windows" { // cmd.exe cannot open a file that is open for writing; the server has pg_ctl's output
		cmd.Args = append(cmd.Args, "-l", LogName)
	}
	cmd.Dir = s.Dir
	if isOdd(s.Dir) {
		cmd.Env = append(os.Environ(), "PGDATA="+s.Dir)
	} else {
		cmd.Args = append(cmd.Args, "-D", s.Dir)
	}
	if arguments := append(s.config.Arguments(s.Dir), s.Arguments...); len(arguments) > 0 {
		cmd.Args = append(cmd.Args, "-o", cli.Line(arguments...)) // a shell reads them
	}
	cmd.Stdout, cmd.Stderr = log, log // not a pipe, which the server would keep open
	if err := cmd.Start(); err != nil {
		return "", err
	}
	ready := make(chan error, 1)
	go func() { ready <- cmd.Wait() }()
	return s.wait(ctx, ready)
}

// wait waits until the server has recovered. ready receives pg_ctl's result: nil when the server accepts connections.
func (s *Server) wait(ctx context.Context, ready <-chan error) (string, error) {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	accepting := false
	for {
		select {
		case <-ctx.Done():
			if !accepting {
				<-ready
			}
			return "", ctx.Err()
		case err := <-ready:
			if err != nil {
				return s.stopped(ctx)
			}
			ready, accepting = nil, true
		case <-tick.C:
		}
		s.report()
		if !accepting {
			continue
		}
		switch outcome, err := s.outcome(ctx); {
		case errors.Is(err, ErrStopped):
			return s.stopped(ctx)
		case outcome != "" || err != nil:
			return outcome, err
		}
	}
}

// outcome returns the outcome of recovery; an empty string if it has not ended.
func (s *Server) outcome(ctx context.Context) (string, error) {
	p, err := pgdata.ReadPostmaster(s.Dir)
	if err != nil || !host.Running(p.PID) {
		return "", ErrStopped
	}
	state, err := pgdata.State(s.Dir)
	if err != nil {
		return "", err
	}
	if state == pgdata.InProduction {
		return "open", nil
	}
	if s.Standby {
		return s.following(ctx, p)
	}
	if low := s.tooLow(); low != nil {
		return "", low
	}
	if s.isWarm() {
		return "", nil // it accepts no connections
	}
	pauses := s.Plan.Target.Kind != recovery.ToLatest && s.Action == "pause"
	c, err := pgserver.ConnectAt(ctx, s.Conninfo, p.Host, p.Port)
	switch {
	case err == nil:
		defer c.Close(context.WithoutCancel(ctx))
		return s.paused(ctx, c, pauses)
	case ctx.Err() != nil:
		return "", ctx.Err()
	case !Served(s.Dir):
		return "", ErrStopped
	case pauses:
		return "", fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	return "", nil // the control file shows when it has recovered
}

// tooLow returns an error that names the setting that has stopped the replay. A server with hot_standby pauses for
// good at a record that needs a higher value (14 and newer; older ones end), and its control file contains that
// value.
func (s *Server) tooLow() error {
	needed, err := pgdata.ReadLimits(s.Dir)
	if err != nil || s.isWarm() {
		return nil
	}
	if low := pgdata.TooLow(needed, s.Plan.Backup.Major, s.config.Effective(s.Dir)); len(low) > 0 {
		return fmt.Errorf("%w: %s", ErrPaused, pgdata.Demand(low))
	}
	return nil
}

// paused determines whether the replay has paused, and whether it paused at its target.
func (s *Server) paused(ctx context.Context, c *pgserver.Conn, pauses bool) (string, error) {
	var paused bool
	var at string
	err := c.QueryRow(ctx, `SELECT CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() ELSE false END,
		coalesce(pg_last_wal_replay_lsn()::text, '0/0')`).Scan(&paused, &at)
	if err != nil || !paused {
		return "", nil // recovery may have ended in between; the next check finds out
	}
	lsn, err := wal.ParseLSN(at)
	if err != nil {
		return "", err
	}
	// The server's position and that of the plan can differ by a page's header.
	const header = 64
	if !pauses || lsn+header < s.Plan.At || s.Plan.Target.Kind == recovery.ToImmediate && lsn < s.Plan.From {
		return "", fmt.Errorf("%w: another session paused it at %s", ErrPaused, lsn)
	}
	return "paused", nil
}

// stopped returns the outcome or the error of a server that has stopped.
func (s *Server) stopped(ctx context.Context) (string, error) {
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if state, err := pgdata.State(s.Dir); err == nil && state == pgdata.ShutDownInRecovery && s.mayShutDown() {
		return "shut down", nil
	}
	if last := lastWords(s.Dir, s.config, s.begun); last != "" {
		return "", fmt.Errorf("%w: %s", ErrStopped, last)
	}
	return "", fmt.Errorf("%w: see its log", ErrStopped)
}

// mayShutDown reports whether the server shuts down at its target. It does so for the action pause, too, if it
// accepts no connections (hot_standby = off).
func (s *Server) mayShutDown() bool {
	if s.Standby {
		return false
	}
	if s.Plan.Target.Kind == recovery.ToLatest || s.Action != "pause" {
		return s.Action == "shutdown"
	}
	return s.isWarm()
}

// isWarm reports whether the server accepts no connections before recovery has ended.
func (s *Server) isWarm() bool {
	return pgconf.IsOff(s.config.Effective(s.Dir)["hot_standby"])
}

func (s *Server) report() {
	if s.Replayed == nil {
		return
	}
	p, err := pgdata.ReadPostmaster(s.Dir)
	if err != nil {
		return
	}
	if n, ok := recovering(p.PID); ok {
		if lsn, err := n.Start(s.Plan.Backup.SegmentSize); err == nil {
			s.Replayed(lsn)
		}
	}
}

// recovering returns the segment that a server replays, from the title of its startup process (Linux).
func recovering(postmaster int) (wal.Name, bool) {
	pid := strconv.Itoa(postmaster)
	children, err := os.ReadFile(filepath.Join("/proc", pid, "task", pid, "children"))
	if err != nil {
		return wal.Name{}, false
	}
	for _, child := range fields(children) {
		title, err := os.ReadFile(filepath.Join("/proc", child, "cmdline"))
		if err != nil {
			continue
		}
		words := fields(title)
		for i, word := range words {
			if word == "recovering" && i+1 < len(words) {
				n, err := wal.ParseName(words[i+1])
				return n, err == nil
			}
		}
	}
	return wal.Name{}, false
}
