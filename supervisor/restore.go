package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"walkeep/common/archive"
	"walkeep/common/cli"
	"walkeep/common/config"
	"walkeep/common/recovery"
	"walkeep/supervisor/progress"
	"walkeep/supervisor/restore"
)

const aboutRestore = `Restores a data directory from the backup BACKUP, or from the one that needs the
least WAL to reach the target, and configures it to recover to the target when
it is started: to the end of the WAL, unless a target is given. The command
checks that the target can be reached before it copies anything.

The directory must be empty, or missing. With --delta it may hold an older
state of the same cluster: then only what differs is written, and what the
backup does not have is removed. A restore that was interrupted leaves a
directory that does not start; repeat it with --delta.

With --standby the server replays what is archived, along the newest timeline,
until it is promoted; with --primary-conninfo it also streams from its primary,
and finds its password in ~/.pgpass or passfile. A standby that is restored with
--delta keeps its directory's configuration files and tablespaces; without
--standby they become the backup's. The archive keeps the WAL that the standby
needs. The standby reports its restartpoint by archive_cleanup_command. Remove
the note of a standby that is gone for good with cleanup --forget-standby.

At a target the server pauses, as is PostgreSQL's default: look at the data,
and call pg_wal_replay_resume() to open the database, or restore again to
another target. --target-action promote opens it at once.

When PostgreSQL replays the creation of a tablespace, it creates that at its
original location. If that is not free here, the restore is refused: choose a
target before it, or a backup that has it and that --tablespace-map can move.

The files belong to the user who calls this. Root must make the directory first,
and give it to the server's user.`

// restoreOptions are the options of restore.
type restoreOptions struct {
	targetOptions
	TargetDir      string   `long:"target-dir" value-name:"DIR" required:"yes" description:"data directory to restore"`
	Action         string   `long:"target-action" choice:"pause" choice:"promote" choice:"shutdown" description:"what the server does at the target (else pause)"`
	Standby        bool     `long:"standby" description:"set up a standby, which replays until it is promoted"`
	Slot           string   `long:"primary-slot" value-name:"NAME" description:"replication slot of the primary that the standby streams from; it must be there"`
	Delta          bool     `long:"delta" description:"write only what differs from what is in the directory"`
	TablespaceMap  []string `long:"tablespace-map" value-name:"OLD=NEW" description:"restore the tablespace at OLD to NEW; can be repeated; an equals sign in OLD or NEW is written \\="`
	RestoreCommand string   `long:"restore-command" value-name:"COMMAND" description:"restore_command for the server (else restore-cmd beside this program, with this spool)"`
	Start          bool     `long:"start" description:"start the server, and wait until it has recovered, or as a standby is consistent"`
	Args           struct {
		Backup string `positional-arg-name:"BACKUP" description:"the backup to restore, as list names it"`
	} `positional-args:"yes"`
}

func restoreCommand() command {
	var o restoreOptions
	return command{
		Subcommand: config.Subcommand{
			Name: "restore", Short: "restore a data directory", About: aboutRestore, Options: &o,
			Parts: func(c *config.Config) []any { return []any{&c.Effort, &c.Standby, &c.Encryption, &c.Decryption} },
		},
		run:         func(ctx context.Context, call *invocation) error { return runRestore(ctx, call, &o) },
		interrupted: "a directory that is not complete does not start; repeat the restore with --delta to complete it",
	}
}

func runRestore(ctx context.Context, call *invocation, o *restoreOptions) error {
	call.giveUpSpool()
	what, err := o.read(call)
	if err != nil {
		return usage(err)
	}
	return call.restore(ctx, what)
}

// read checks the options and returns the restore that they describe.
func (o *restoreOptions) read(call *invocation) (what restoring, err error) {
	t, err := o.parse()
	if err != nil {
		return what, err
	}
	if o.Standby {
		if err := o.checkStandby(t); err != nil {
			return what, err
		}
		t.Follow = true
	} else if o.Slot != "" || call.Given("primary-conninfo") {
		return what, errors.New("--primary-conninfo and --primary-slot are for --standby")
	}
	if t.Kind == recovery.ToLatest && (o.Action == "pause" || o.Action == "shutdown") {
		return what, fmt.Errorf("--target-action %s needs a target: at the end of the WAL the server always opens the database", o.Action)
	}
	r := restore.Options{Delta: o.Delta, Keep: o.Standby && o.Delta, Jobs: call.jobs()}
	if r.Dir, err = filepath.Abs(o.TargetDir); err != nil {
		return what, err
	}
	if r.Tablespaces, err = mapping(o.TablespaceMap); err != nil {
		return what, err
	}
	if o.Standby {
		what.feed, err = call.asStandby(&r, o.RestoreCommand, o.Slot)
	} else {
		if r.Recovery.Action = o.Action; o.Action == "" {
			r.Recovery.Action = "pause"
		}
		what.feed, err = call.fromSpool(&r, o.RestoreCommand)
	}
	what.Options, what.target, what.backup, what.start, what.report, what.explain = r, t, o.Args.Backup, o.Start, call.reportRestore, explainRestore
	return what, err
}

// mapping reads the values of --tablespace-map.
func mapping(values []string) (map[string]string, error) {
	places := make(map[string]string)
	for _, m := range values {
		from, to, ok := cutMapping(m)
		if !ok || from == "" || to == "" {
			return nil, fmt.Errorf("--tablespace-map: %q is not OLD=NEW", m)
		}
		if _, twice := places[from]; twice {
			return nil, fmt.Errorf("--tablespace-map: %s is mapped twice", from)
		}
		if !filepath.IsAbs(to) {
			return nil, fmt.Errorf("--tablespace-map: %s is not an absolute path", to)
		}
		places[from] = to
	}
	return places, nil
}

// cutMapping splits OLD=NEW at the first equals sign without a backslash before it, as pg_basebackup does.
func cutMapping(m string) (from, to string, ok bool) {
	for i := 0; i < len(m); i++ {
		if m[i] == '=' && (i == 0 || m[i-1] != '\\') {
			plain := strings.NewReplacer(`\=`, "=")
			return plain.Replace(m[:i]), plain.Replace(m[i+1:]), true
		}
	}
	return "", "", false
}

// reportRestore prints what was done.
func (call *invocation) reportRestore(r restore.Options, done *restore.Result, standby string) error {
	m := r.Plan.Backup
	fmt.Fprintf(call.out, "restored backup %s to %s: %d files, %s, in %s\n", m.ID, r.Dir, done.Files, progress.Bytes(done.Bytes), took(done.Took))
	if r.Delta {
		fmt.Fprintf(call.out, "delta: compared %s, %s differed, wrote %s, removed %d files and directories\n",
			progress.Bytes(done.Compared), progress.Bytes(done.Differed), progress.Bytes(done.Written), done.Removed)
	}
	call.reportKept(done)
	if r.Recovery.Standby != nil {
		return call.reportStandby(r, standby)
	}
	_, err := fmt.Fprintf(call.out, "it will recover to %s\n", describeTarget(r))
	call.msg.Warn("start it with pg_ctl -o '-c archive_mode=off' if this is only a copy to look at: postgresql.auto.conf beats a line in postgresql.conf",
		"if archive_mode and archive_command are set, the restored server archives to the same archive, on a new timeline")
	return err
}

// reportKept warns of WAL that was moved aside.
func (call *invocation) reportKept(done *restore.Result) {
	if len(done.Kept) > 0 {
		call.msg.Warn("archive-cmd can still archive it; remove it once you are sure that you do not need it",
			"WAL that the archive does not hold was moved to %s (%s): %s", done.KeptDir, progress.Bytes(done.KeptBytes), strings.Join(done.Kept, " "))
	}
}

// describeTarget describes where recovery will end.
func describeTarget(r restore.Options) string {
	t := r.Plan.Target
	where := ""
	switch t.Kind {
	case recovery.ToImmediate:
		where = "where the backup is consistent"
	case recovery.ToTime:
		where = "the time " + t.Time.Format(inputTime)
	case recovery.ToXID:
		where = fmt.Sprintf("transaction %d", t.XID)
	case recovery.ToLSN:
		where = "the position " + r.Plan.At.String()
	case recovery.ToName:
		where = fmt.Sprintf("the restore point %q", t.Name)
	default:
		return fmt.Sprintf("the end of the WAL of timeline %d, and open the database", r.Plan.Timeline)
	}
	if t.Exclusive {
		where = "just before " + where
	}
	then := map[string]string{
		"pause":    "pause there; pg_wal_replay_resume() opens the database",
		"promote":  "open the database there",
		"shutdown": "shut down there",
	}
	return fmt.Sprintf("%s, on timeline %d, and %s", where, r.Plan.Timeline, then[r.Recovery.Action])
}

// restoreRemedies are for errors of other packages than restore and launch, and for those whose remedy is an option.
var restoreRemedies = remedies{
	{recovery.ErrUnreachable, "{list} shows what can be recovered; --target-available recovers to the last record before a hole; --target-timeline chooses another timeline; SELECT pg_switch_wal() on a running server archives what it has just written"},
	{restore.ErrNotEmpty, "empty it; or add --delta if it is an older state of this cluster; --tablespace-map OLD=NEW puts a tablespace elsewhere"},
	{restore.ErrNotData, "give the right directory, or an empty one"},
	{archive.ErrForeign, "check --target-dir, and the spool or the repository: they are of two different clusters"},
	{archive.ErrDamaged, "this backup cannot be restored: choose another one ({list}), and keep this one to find out what happened"},
}

// explainRestore adds the exit code and the hint.
func explainRestore(err error) error {
	switch {
	case errors.Is(err, recovery.ErrUnreachable) && errors.Is(err, recovery.ErrUnsound):
		return cli.Hinted(err, cli.Call("list")+" shows what can be recovered; "+cli.Call("verify", "--deep")+" reports whether a backup that was repaired is whole again")
	case errors.Is(err, restore.ErrPlace):
		return cli.Fail(exitUsage, err, "choose other directories with --target-dir and --tablespace-map OLD=NEW")
	}
	return restoreRemedies.explain(err)
}
