package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"walkeep/common/cli"
	"walkeep/common/wal"
	"walkeep/supervisor/launch"
	"walkeep/supervisor/pgconf"
	"walkeep/supervisor/progress"
	"walkeep/supervisor/restore"
)

// startRestored starts the server of a restored directory, shows how far it has replayed, and says how that ended.
func (e *env) startRestored(ctx context.Context, r restore.Options) error {
	from, to := r.Plan.Backup.Start, r.Plan.To
	if r.Plan.At != 0 {
		to = r.Plan.At
	}
	var bar *progress.Bar
	if !e.Quiet {
		bar = progress.New(os.Stderr, "replay", int64(max(to, from)-from))
	}
	begun, at := time.Now(), from
	server := r.Server()
	server.Bindir, server.Conninfo = e.Bindir, e.Conninfo
	server.Replayed = func(lsn wal.LSN) {
		if lsn > at {
			bar.Add(int64(lsn - at))
			at = lsn
		}
	}
	outcome, err := launch.Start(ctx, server)
	bar.Done()
	if err != nil {
		return err
	}
	if outcome == launch.Hot || outcome == launch.Warm {
		return e.reportStarted(outcome, at, begun)
	}
	what := map[string]string{
		"open":      "the server has recovered, and the database is open",
		"paused":    "the server has recovered to its target, and is paused there: look at the data, and open it with SELECT pg_wal_replay_resume()",
		"shut down": "the server has recovered to its target, and has shut down",
	}
	_, err = fmt.Fprintf(e.out, "%s (in %s)\n", what[outcome], time.Since(begun).Round(100*time.Millisecond))
	return err
}

// reportStarted says how far a standby has come.
func (e *env) reportStarted(outcome string, at wal.LSN, begun time.Time) error {
	what := "the standby runs, and replays; nobody can connect to it (hot_standby = off)"
	if outcome == launch.Hot {
		what = "the standby is consistent, and accepts connections"
	}
	_, err := fmt.Fprintf(e.out, "%s: replayed up to %s (in %s)\n", what, at, time.Since(begun).Round(100*time.Millisecond))
	return err
}

// startWith is the command that starts a restored server.
func startWith(bindir string, r restore.Options) string {
	if bindir == "" {
		bindir = fmt.Sprintf("/usr/lib/postgresql/%d/bin", r.Plan.Backup.Major)
		if _, err := os.Stat(bindir); err != nil {
			bindir = ""
		}
	}
	return launch.Command(bindir, r.Dir, r.Plan.Backup.Major)
}

// explainStart adds what to do next.
func explainStart(err error) error {
	hint := ""
	switch {
	case errors.Is(err, context.Canceled):
		err, hint = errors.New("interrupted"), "the directory is restored; a server that was started goes on recovering"
	case errors.Is(err, launch.ErrRoot):
		hint = "restore as the server's user, or start the server by hand as that user"
	case errors.Is(err, pgconf.ErrNone):
		hint = "make a cluster for the directory, whose configuration is then used (pg_createcluster), or restore without --start, put a postgresql.conf into the directory, and start the server by hand"
	case errors.Is(err, launch.ErrPaused):
		hint = "set in the restored server's postgresql.auto.conf what is too low, and restart it: it goes on from there; where somebody has paused it, SELECT pg_wal_replay_resume() has it go on"
	case errors.Is(err, launch.ErrNoProgram):
		hint = "say where they are with --bindir"
	case errors.Is(err, launch.ErrStopped):
		hint = "the directory is restored; the server's log is in it, " + launch.LogName + ", or where the server is set to log; if another server uses its port, set another one in its postgresql.conf and start it with pg_ctl"
	case errors.Is(err, launch.ErrNoAnswer):
		hint = "say with --conninfo as whom to connect, such as user=postgres"
	default:
		return err
	}
	return cli.Fail(exitFailed, err, hint)
}
