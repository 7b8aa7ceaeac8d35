package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"walkeep/common/archive"
	"walkeep/common/cli"
	"walkeep/common/config"
	"walkeep/common/pgdata"
	"walkeep/common/recovery"
	"walkeep/supervisor/progress"
	"walkeep/supervisor/restore"
)

const aboutRejoin = `Makes the stopped server of --pgdata a standby: the old primary after a
failover, or one that was promoted for a test. It follows the timeline of the
production server, if the archive knows that, or else the newest, or the one that
--target-timeline names. The server need not have been shut down cleanly, and is
not started for this. The command copies only the blocks that differ from the
backup BACKUP, or from the newest that leads to the timeline; the server replays
the rest.

WAL that the archive does not hold, such as the last transactions of the old
primary, is kept in pg_wal/walkeep.kept, and the command prints where the
timelines parted. The data directory keeps its configuration: postgresql.conf
and what it includes, postgresql.auto.conf except for the settings of recovery,
pg_hba.conf, pg_ident.conf, pg_hosts.conf, conf.d, and the certificates and keys
that they name. It also keeps its log and the locations of its tablespaces.
Everything else becomes what it is on that timeline.

After an interruption the server does not start; repeat the command.
(walmgr called this restore, too.)`

func rejoinCommand() command {
	var o rejoinOptions
	return command{
		Subcommand: config.Subcommand{
			Name: "rejoin", Short: "make a promoted or diverged server a standby again", About: aboutRejoin, Options: &o,
			Parts: func(c *config.Config) []any { return []any{&c.Effort, &c.Standby, &c.Encryption, &c.Decryption} },
		},
		run:         func(ctx context.Context, call *invocation) error { return rejoin(ctx, call, &o) },
		interrupted: "the server does not start as it is; repeat the command, which continues where this one stopped",
	}
}

// rejoinOptions are the options of rejoin.
type rejoinOptions struct {
	Slot           string `long:"primary-slot" value-name:"NAME" description:"replication slot of the primary that the standby streams from; it must be there"`
	RestoreCommand string `long:"restore-command" value-name:"COMMAND" description:"restore_command for the server (else restore-cmd beside this program, with this spool)"`
	Start          bool   `long:"start" description:"start the server, and wait until it is consistent"`
	Timeline       string `long:"target-timeline" value-name:"TIMELINE" default:"latest" description:"timeline to follow: a number, or latest for the production server's or else the newest"`
	Args           struct {
		Backup string `positional-arg-name:"BACKUP" description:"the backup to compare with, as list names it"`
	} `positional-args:"yes"`
}

func rejoin(ctx context.Context, call *invocation, o *rejoinOptions) error {
	if call.PGData == "" {
		return usage(errors.New("no server is named: name its data directory with --pgdata"))
	}
	call.giveUpSpool()
	t := target{Target: recovery.Target{Kind: recovery.ToLatest, Follow: true}}
	if err := t.along(o.Timeline); err != nil {
		return usage(err)
	}
	r := restore.Options{Delta: true, Keep: true, Jobs: call.jobs()}
	var err error
	if r.Dir, err = filepath.Abs(call.PGData); err != nil {
		return err
	}
	f, err := call.asStandby(&r, o.RestoreCommand, o.Slot)
	if err != nil {
		return usage(err)
	}
	if entries, err := os.ReadDir(r.Dir); err != nil || len(entries) == 0 {
		return cli.Fail(exitFailed, fmt.Errorf("%s is no data directory: it is empty, or does not exist (%v)", r.Dir, err),
			cli.Call("restore", "--standby", "--target-dir")+" DIR makes a new standby")
	}
	return call.restore(ctx, restoring{
		Options: r, target: t, backup: o.Args.Backup, start: o.Start, feed: f, rejoins: true, report: call.reportRejoin, explain: explainRejoin,
	})
}

// reportRejoin prints what the server was, and what it is now.
func (call *invocation) reportRejoin(r restore.Options, done *restore.Result, standby string) error {
	fmt.Fprintln(call.out, describeBefore(r, done))
	b := done.Before
	if b != nil && b.Timeline == r.Plan.Timeline && len(done.Conflicts) == 0 && (b.State == pgdata.ShutDown || b.State == pgdata.InProduction) {
		call.msg.Warn("once the new primary has archived its timeline (00000002.history and the like), repeat this",
			"the server was a primary, and the archive has no newer timeline than the server's: as far as the archive shows, no other server was promoted")
	}
	return call.reportRestore(r, done, standby)
}

// describeBefore describes where the server was, and where the followed timeline parts from that.
func describeBefore(r restore.Options, done *restore.Result) string {
	b, f, newest, which := done.Before, done.Fork, r.Plan.Timeline, "the newest"
	if r.Plan.Said {
		which = "the production server's"
	}
	if b == nil && done.BeforeErr != nil {
		return fmt.Sprintf("the position of the server is unknown: %v; all of its WAL that the archive does not hold was kept", done.BeforeErr)
	}
	if b == nil {
		return "the position of the server is unknown: its control file was missing"
	}
	how := "was not shut down"
	if b.State == pgdata.ShutDown || b.State == pgdata.ShutDownInRecovery {
		how = "was shut down"
	}
	was := fmt.Sprintf("the server %s on timeline %d at %s", how, b.Timeline, b.LSN)
	switch {
	case f == nil && len(done.Conflicts) > 0:
		return fmt.Sprintf("%s, and had diverged: the archive holds WAL of another server under the same names (%s)", was, strings.Join(done.Conflicts, " "))
	case f == nil:
		return fmt.Sprintf("%s, and timeline %d is %s", was, newest, which)
	case done.Diverged() && f.Timeline == newest:
		return fmt.Sprintf("%s, and had diverged: it had left timeline %d, %s, at %s, %s before", was, newest, which, f.LSN, progress.Bytes(int64(b.LSN-f.LSN)))
	case done.Diverged():
		return fmt.Sprintf("%s, and had diverged: timeline %d, %s, left timeline %d at %s, %s before", was, newest, which, f.Timeline, f.LSN, progress.Bytes(int64(b.LSN-f.LSN)))
	}
	return fmt.Sprintf("%s, and had not diverged: timeline %d, %s, left timeline %d at %s", was, newest, which, f.Timeline, f.LSN)
}

// rejoinRemedies replace those of restore.
var rejoinRemedies = remedies{
	{restore.ErrNotData, "give the right directory; {restore --standby} makes a new standby in an empty one"},
	{archive.ErrForeign, "check --pgdata, and the spool or the repository: they are of two different clusters"},
	{recovery.ErrUnreachable, "{list} shows what can be recovered; missing segments may still lie in the pg_wal of this server, or of another one: archive-cmd stores them from there; else take a backup of the new primary"},
	{restore.ErrNotEmpty, "a tablespace that the server does not have goes where the backup had it: make room there"},
}

// explainRejoin adds the exit code and the hint.
func explainRejoin(err error) error {
	if errors.Is(err, restore.ErrPlace) {
		return cli.Fail(exitUsage, err, "choose a spool and a data directory of which neither contains the other")
	}
	return explainRestore(rejoinRemedies.explain(err))
}
