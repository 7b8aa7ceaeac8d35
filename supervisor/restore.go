package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"walkeep/common/archive"
	"walkeep/common/cli"
	"walkeep/common/config"
	"walkeep/common/storage"
	"walkeep/supervisor/launch"
	"walkeep/supervisor/pgserver"
	"walkeep/supervisor/progress"
	"walkeep/supervisor/restore"
)

const aboutRestore = `Restores a data directory from the backup BACKUP, or from the one that gets to
the target with the least WAL, and sets it up to recover to the target when it
is started: to the end of the WAL, unless a target is given. Nothing is copied
before it is known that the target can be reached.

The directory must be empty, or missing. With --delta it may hold an older
state of the same cluster, of which only what differs is written, and what the
backup does not have is removed. A restore that was interrupted leaves a
directory that does not start; repeat it with --delta.

With --standby the server goes on replaying what is archived, along the newest
timeline, until it is promoted; with --primary-conninfo it also streams from
its primary, and finds its password in ~/.pgpass or passfile. A standby that is
restored with --delta keeps its directory's configuration files and tablespaces;
without --standby they become the backup's. The archive keeps the WAL that the
standby needs, which says by archive_cleanup_command how far it has come: cleanup --forget-standby lets go of one that is no more.

At a target the server pauses, as is PostgreSQL's default: look at the data,
and call pg_wal_replay_resume() to open the database, or restore again to
another target. --target-action promote opens it at once.

PostgreSQL makes a tablespace that was created after the backup where it was. If
that place is not free here, the restore is refused: end before it, or take a
backup that has it, which --tablespace-map puts elsewhere.

The files belong to who calls this. Root must make the directory first, and
give it to the server's user.`

// restoreOptions are those of the command restore.
type restoreOptions struct {
	targetOptions
	TargetDir      string   `long:"target-dir" value-name:"DIR" required:"yes" description:"data directory to restore"`
	Action         string   `long:"target-action" choice:"pause" choice:"promote" choice:"shutdown" description:"what the server does at the target (else pause)"`
	Standby        bool     `long:"standby" description:"set up a standby, which goes on replaying"`
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
			Parts: func(c *config.Config) []any { return []any{&c.Effort, &c.Standby} },
		},
		run:         func(ctx context.Context, call *invocation) error { return runRestore(ctx, call, &o) },
		interrupted: "a directory that is not complete does not start; repeat the restore with --delta to complete it",
	}
}

// planned is the way to a target, with the lease that keeps it open.
type planned struct {
	plan archive.Plan
	inv  *archive.Inventory
	held *archive.Held
}

// plan takes a lease of a kind and finds the way to a target, from the backup id or, if that is empty, the one that suits best.
// An archive that cannot be written to can be read all the same. complete adds to the inventory what the archive does not know.
func (call *invocation) plan(ctx context.Context, a *archive.Archive, kind string, t target, id string, complete func(*archive.Inventory)) (_ *planned, err error) {
	if _, err := a.Identity(ctx); err != nil {
		return nil, err // nothing is written into a directory that is no archive
	}
	held, err := a.Hold(ctx, archive.Lease{Kind: kind})
	if err != nil {
		if ctx.Err() != nil || errors.Is(err, storage.ErrUnavailable) {
			return nil, err
		}
		call.warnUnheld(err)
	}
	defer func() {
		if err != nil {
			held.Release()
		}
	}()
	p := &planned{held: held}
	if p.inv, err = a.Inventory(ctx); err != nil {
		return nil, err
	}
	if t.badPages {
		p.inv.AcceptPageErrors()
	}
	complete(p.inv)
	// A backup that turns out not to be whole is passed over by the next plan, or refused if it was named.
	for err = error(archive.ErrUnsound); errors.Is(err, archive.ErrUnsound); {
		if p.plan, err = a.Plan(ctx, p.inv, t.in(p.inv, id), id); err != nil {
			return nil, err
		}
		err = a.Probe(ctx, p.inv, p.plan.Backup)
	}
	if err != nil {
		return nil, err
	}
	b := p.plan.Backup
	if err := held.Change(ctx, func(l *archive.Lease) { l.Backup, l.Timeline, l.LSN = b.ID, b.Timeline, b.Start }); err != nil {
		call.warnUnheld(err) // as far as it could be written, it holds more
	}
	return p, nil
}

func (call *invocation) warnUnheld(err error) {
	call.msg.Warn("where another host can write to the archive, let nobody clean it up until this is done",
		"the archive cannot be told what is needed of it, which does no harm to what follows: %v", err)
}

// warnPassed says which backups the plan has passed over, and what else is known against the one that it has chosen.
func (call *invocation) warnPassed(p *planned) {
	b := p.plan.Backup
	for _, f := range p.inv.Faults {
		if !strings.HasPrefix(f.Object, "wal/") { // what is wrong with WAL, the plan goes by
			call.msg.Warn("", "%v", f)
		}
	}
	if newer := pgserver.Newer(b.Major); newer != "" {
		call.msg.Warn(cli.NewerHint, "backup %s: %s", b.ID, newer)
	}
	for _, err := range p.plan.Passed {
		call.msg.Warn("", "%v; the older backup %s is used instead, with the WAL since then", err, b.ID)
	}
	if n := len(b.PageErrors); n > 0 {
		call.msg.Warn("look at these files once the server runs, and take what else there is of them from an older backup", "backup %s holds pages that were damaged on the server: %s", b.ID, strings.Join(b.PageErrors, "; "))
	}
	if d := p.inv.Records[b.ID].Drill; d != nil && !d.OK {
		call.msg.Warn("name an older backup if this one turns out to be of no use", "the last drill of backup %s failed: %s", b.ID, d.Error)
	}
}

func runRestore(ctx context.Context, call *invocation, o *restoreOptions) error {
	what, err := o.read(call)
	if err != nil {
		return usage(err)
	}
	return call.restore(ctx, what)
}

// A restoring is a restore as the commands restore and rejoin do it.
type restoring struct {
	restore.Options // but for the plan
	target          target
	backup          string // empty: the one that suits best
	start           bool
	rejoins         bool // the directory's server follows another one from now on
	// report says what was done; standby is the ID of the note of a standby.
	report  func(r restore.Options, done *restore.Result, standby string) error
	explain func(err error) error
}

// restore finds the way to the target, restores, and starts the server if that is wanted.
func (call *invocation) restore(ctx context.Context, what restoring) (err error) {
	a, err := call.open()
	if err != nil {
		return err
	}
	unstored, err := call.storeStreamed(ctx)
	if err != nil {
		return err
	}
	p, err := call.plan(ctx, a, "restore", what.target, what.backup, func(inv *archive.Inventory) {
		if unstored {
			inv.NothingWaits()
		}
		if !what.target.latest() {
			return
		}
		if what.rejoins {
			call.disown(inv, what.Dir)
		}
		call.askProduction(ctx, a, inv)
	})
	if err != nil {
		return what.explain(err)
	}
	call.warnPassed(p)
	if what.Recovery.Standby == nil {
		call.warnStreamed(ctx, a, p)
	}
	if what.target.latest() && p.plan.Target.Kind == archive.ToLatest {
		call.warnBranches(ctx, a, p)
	}
	call.warnBeside(p)
	call.warnAgain(p)
	// It is held until the server has recovered, where that is waited for: it reads from the archive.
	defer func() { err = errors.Join(err, p.held.Release()) }()
	r := what.Options
	r.Plan = p.plan
	if r.Changes, err = call.changes(ctx, a, p); err != nil {
		return what.explain(err)
	}
	if r.Recovery.Standby == nil {
		call.warnDropped(p.plan, r.Changes)
	}
	if s := r.Recovery.Standby; s != nil {
		s.Pinned = !what.target.latest() || p.plan.Said // what PostgreSQL calls latest is another one
	}
	r.Starts = what.start
	if what.start { // what would be in the way is found before anything is copied
		if _, err := launch.Check(ctx, call.Bindir, p.plan.Backup.Major); err != nil {
			return err
		}
	}
	done, err := restoreWith(ctx, call, a.Backend(), p, r)
	if err != nil {
		return what.explain(err)
	}
	r.Dir = done.Dir
	standby, err := call.register(ctx, a, r)
	if err != nil {
		return err
	}
	if err := what.report(r, done, standby); err != nil {
		return err
	}
	if what.start {
		return call.startRestored(ctx, r)
	}
	_, err = fmt.Fprintf(call.out, "start it as the user who owns it: %s\n", startWith(call.Bindir, r))
	return err
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
	if t.Kind == archive.ToLatest && (o.Action == "pause" || o.Action == "shutdown") {
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
		err = call.asStandby(&r, o.RestoreCommand, o.Slot)
	} else {
		if r.Recovery.Action = o.Action; o.Action == "" {
			r.Recovery.Action = "pause"
		}
		err = call.fromSpool(&r, o.RestoreCommand)
	}
	return restoring{Options: r, target: t, backup: o.Args.Backup, start: o.Start, report: call.reportRestore, explain: explainRestore}, err
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

// cutMapping splits OLD=NEW at the first equals sign that no backslash stands before, as pg_basebackup does; those that are
// part of a name have one.
func cutMapping(m string) (from, to string, ok bool) {
	for i := 0; i < len(m); i++ {
		if m[i] == '=' && (i == 0 || m[i-1] != '\\') {
			plain := strings.NewReplacer(`\=`, "=")
			return plain.Replace(m[:i]), plain.Replace(m[i+1:]), true
		}
	}
	return "", "", false
}

// fromSpool has the server recover from the spool, by the command that is given, or by the restore-cmd beside this program.
func (call *invocation) fromSpool(r *restore.Options, command string) error {
	spool, err := filepath.Abs(call.Spool)
	if err != nil {
		return err
	}
	r.Avoid = []string{spool}
	if r.Recovery.Command = command; command == "" {
		r.Recovery.Command, err = call.restoreCommand(spool)
		if s := r.Recovery.Standby; s != nil && err == nil {
			s.Note, err = call.siblingCommand(spool, restore.NoteCommand)
		}
	}
	return err
}

// restoreCommand is the restore_command that calls the restore-cmd beside this program.
func (call *invocation) restoreCommand(spool string) (string, error) {
	return call.siblingCommand(spool, restore.Command)
}

// siblingCommand makes a command that calls the restore-cmd beside this program.
func (call *invocation) siblingCommand(spool string, command func(program, spool, file string) string) (string, error) {
	program, err := sibling("restore-cmd")
	if err != nil {
		return "", fmt.Errorf("%w; say with --restore-command what the server is to call", err)
	}
	file := ""
	if call.File != "" {
		if file, err = filepath.Abs(call.File); err != nil {
			return "", err
		}
	}
	return command(program, spool, file), nil
}

// restoreWith restores, and shows how far it is.
func restoreWith(ctx context.Context, call *invocation, b storage.Backend, p *planned, r restore.Options) (*restore.Result, error) {
	var bar *progress.Bar
	r.Begin = func(what string, bytes int64) {
		bar.Done()
		if !call.Quiet {
			bar = progress.New(os.Stderr, what, bytes)
		}
	}
	r.Progress = func(bytes int64) { bar.Add(bytes) }
	r.Notice = func(hint, message string) { call.msg.Warn(hint, "%s", message) }
	result, err := restore.Run(ctx, b, p.inv, r)
	bar.Done()
	return result, err
}

// reportRestore says what was done.
func (call *invocation) reportRestore(r restore.Options, done *restore.Result, standby string) error {
	m := r.Plan.Backup
	fmt.Fprintf(call.out, "restored backup %s to %s: %d files, %s, in %s\n", m.ID, r.Dir, done.Files, progress.Bytes(done.Bytes), done.Took.Round(100*time.Millisecond))
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
		"where archive_mode and archive_command are set, the restored server archives to the same archive, on a new timeline")
	return err
}

// reportKept says what WAL was put aside.
func (call *invocation) reportKept(done *restore.Result) {
	if len(done.Kept) > 0 {
		call.msg.Warn("archive-cmd can still archive it; remove it when you are sure that it is not needed",
			"WAL that the archive does not hold was moved to %s (%s): %s", done.KeptDir, progress.Bytes(done.KeptBytes), strings.Join(done.Kept, " "))
	}
}

// describeTarget says where recovery will end.
func describeTarget(r restore.Options) string {
	t := r.Plan.Target
	where := ""
	switch t.Kind {
	case archive.ToImmediate:
		where = "where the backup is consistent"
	case archive.ToTime:
		where = "the time " + t.Time.Format("2006-01-02 15:04:05.999999 -07:00")
	case archive.ToXID:
		where = fmt.Sprintf("transaction %d", t.XID)
	case archive.ToLSN:
		where = "the position " + r.Plan.At.String()
	case archive.ToName:
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

// changes finds out what the WAL of a plan does when it is replayed.
func (call *invocation) changes(ctx context.Context, a *archive.Archive, p *planned) (archive.Changes, error) {
	var bar *progress.Bar
	if !call.Quiet {
		bar = progress.New(os.Stderr, "read WAL", int64(p.plan.To-p.plan.Backup.Start))
	}
	found, err := a.Changes(ctx, p.inv, p.plan, bar.Add)
	bar.Done()
	return found, err
}

// warnDropped names the databases that a recovery leaves without files, or closed to everybody. A standby goes on to what is
// archived later.
func (call *invocation) warnDropped(p archive.Plan, found archive.Changes) {
	where := "at the target"
	if p.Target.Kind == archive.ToLatest {
		where = "at the end of the WAL that is archived now"
	}
	for _, d := range found.Dropped {
		hint := fmt.Sprintf("--target-lsn %s --target-exclusive ends before that", d.Before)
		if !d.Marked && p.Backup.Major > 10 {
			hint += "; where nobody can connect to the database there, only a backup that was taken before DROP DATABASE began has it whole"
		}
		call.msg.Warn(hint, "%s the database with OID %d is listed and has no files any more: DROP DATABASE removed them at %s, and its transaction does not end before", where, d.OID, d.At)
	}
	for _, d := range found.Invalid {
		name := "a database"
		if d.Database != "" {
			name = fmt.Sprintf("the database %q", d.Database)
		}
		call.msg.Warn(fmt.Sprintf("--target-lsn %s --target-exclusive ends before that; DROP DATABASE removes what is left of it", d.Before),
			"%s %s is marked as invalid, and nobody can connect to it: DROP DATABASE began at %s, and does not end before", where, name, d.Before)
	}
}

// restoreRemedies are for errors of other packages than restore and launch, and those whose remedy is an option.
var restoreRemedies = remedies{
	{archive.ErrUnreachable, "{list} shows what can be recovered; --target-available recovers to the last record before a hole; --target-timeline goes along another timeline; what a server that runs has just written is archived after SELECT pg_switch_wal()"},
	{restore.ErrNotEmpty, "empty it; or add --delta if it is an older state of this cluster; --tablespace-map OLD=NEW puts a tablespace elsewhere"},
	{restore.ErrNotData, "give the right directory, or an empty one"},
	{archive.ErrForeign, "check --target-dir and --spool: they are of two different clusters"},
	{archive.ErrDamaged, "this backup cannot be restored: choose another one ({list}), and keep this one to find out what happened"},
}

// explainRestore adds what to do next.
func explainRestore(err error) error {
	switch {
	case errors.Is(err, archive.ErrUnreachable) && errors.Is(err, archive.ErrUnsound):
		return cli.Hinted(err, cli.Call("list")+" shows what can be recovered; "+cli.Call("verify", "--deep")+" reports whether a backup that was repaired is whole again")
	case errors.Is(err, restore.ErrPlace):
		return cli.Fail(exitUsage, err, "choose other directories with --target-dir and --tablespace-map OLD=NEW")
	}
	return restoreRemedies.explain(err)
}
