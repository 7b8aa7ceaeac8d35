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
	"walkeep/supervisor/restore"
)

// startRestored starts the server of a restored directory, shows its replay, and prints how that ended.
func (call *invocation) startRestored(ctx context.Context, r restore.Options, f feed) error {
	from, to := r.Plan.Backup.Start, r.Plan.To
	if r.Plan.At != 0 {
		to = r.Plan.At
	}
	bar := call.bar("replay", int64(max(to, from)-from))
	begun, at := time.Now(), from
	server := r.Server()
	server.Bindir, server.Conninfo = call.Bindir, call.Conninfo
	server.Replayed = func(lsn wal.LSN) {
		if lsn > at {
			bar.Add(int64(lsn - at))
			at = lsn
		}
	}
	outcome, err := launch.Start(ctx, server)
	bar.Done()
	if errors.Is(err, context.Canceled) {
		return cli.Fail(exitFailed, errors.New("interrupted"), "the directory is restored; a server that was started continues to recover")
	}
	if err != nil {
		return err
	}
	if outcome == launch.Hot || outcome == launch.Warm {
		return call.reportStarted(outcome, at, begun)
	}
	what := map[string]string{
		"open":      "the server has recovered, and the database is open",
		"paused":    "the server has recovered to its target, and is paused there: look at the data, and open it with SELECT pg_wal_replay_resume()",
		"shut down": "the server has recovered to its target, and has shut down",
	}
	if outcome == "open" {
		f.remove()
	}
	_, err = fmt.Fprintf(call.out, "%s (in %s)\n", what[outcome], took(time.Since(begun)))
	return err
}

// reportStarted prints how far a standby has replayed.
func (call *invocation) reportStarted(outcome string, at wal.LSN, begun time.Time) error {
	what := "the standby runs, and replays; nobody can connect to it (hot_standby = off)"
	if outcome == launch.Hot {
		what = "the standby is consistent, and accepts connections"
	}
	_, err := fmt.Fprintf(call.out, "%s: replayed up to %s (in %s)\n", what, at, took(time.Since(begun)))
	return err
}

// startWith returns the command that starts a restored server.
func startWith(bindir string, r restore.Options) string {
	if bindir == "" {
		bindir = fmt.Sprintf("/usr/lib/postgresql/%d/bin", r.Plan.Backup.Major)
		if _, err := os.Stat(bindir); err != nil {
			bindir = ""
		}
	}
	return launch.Command(bindir, r.Dir, r.Plan.Backup.Major)
}
