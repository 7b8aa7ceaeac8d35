package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"walkeep/common/account"
	"walkeep/common/archive"
	"walkeep/common/cli"
	"walkeep/common/notes"
	"walkeep/common/recovery"
	"walkeep/common/storage"
	"walkeep/supervisor/launch"
	"walkeep/supervisor/pgserver"
	"walkeep/supervisor/progress"
	"walkeep/supervisor/restore"
)

// A planned recovery is the plan, the inventory that it was made from, and the lease that keeps the archive's objects.
type planned struct {
	plan recovery.Plan
	inv  *recovery.Inventory
	held *notes.Held
}

// plan takes a lease of a kind and finds the way to a target, from the backup id or, if that is empty, the one that suits best.
// Without a lease, because the archive cannot be written to, it continues with a warning. complete adds to the inventory what the
// archive does not know.
func (call *invocation) plan(ctx context.Context, a *opened, kind string, t target, id string, complete func(*recovery.Inventory)) (_ *planned, err error) {
	if _, err := a.Identity(ctx); err != nil {
		return nil, err // nothing is written into a directory that is no archive
	}
	held, err := a.Notes().Hold(ctx, notes.Lease{Kind: kind})
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
	if p.inv, err = recovery.ReadInventory(ctx, a.Archive); err != nil {
		return nil, err
	}
	if t.badPages {
		p.inv.AcceptPageErrors()
	}
	complete(p.inv)
	// The next plan passes over a backup that is found incomplete, or fails if that one was named.
	for err = error(recovery.ErrUnsound); errors.Is(err, recovery.ErrUnsound); {
		if p.plan, err = p.inv.Plan(ctx, t.in(p.inv, id), id); err != nil {
			return nil, a.complete(err)
		}
		err = p.inv.Probe(ctx, p.plan.Backup)
	}
	if err != nil {
		return nil, err
	}
	b := p.plan.Backup
	if err := held.Change(ctx, func(l *notes.Lease) { l.Backup, l.Timeline, l.LSN = b.ID, b.Timeline, b.Start }); err != nil {
		call.warnUnheld(err) // the old lease holds more
	}
	return p, nil
}

func (call *invocation) warnUnheld(err error) {
	call.msg.Warn("if another host can write to the archive, let nobody clean it up until this command has ended",
		"the lease cannot be written to the archive; the command continues without it: %v", err)
}

// warnPassed warns of the backups that the plan has passed over, and of what is known against the one that it has chosen.
func (call *invocation) warnPassed(p *planned) {
	b := p.plan.Backup
	for _, f := range p.inv.Faults {
		if !strings.HasPrefix(f.Object, archive.WALDir) { // the plan takes faults of WAL into account
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
		call.msg.Warn("examine these files once the server runs, and take the pages from an older backup if it has them", "backup %s holds pages that were damaged on the server: %s", b.ID, strings.Join(b.PageErrors, "; "))
	}
	if d := p.inv.Records[b.ID].Drill; d != nil && !d.OK {
		call.msg.Warn("name an older backup if this one proves useless", "the last drill of backup %s failed: %s", b.ID, d.Error)
	}
}

// A restoring is a restore as the commands restore and rejoin need it.
type restoring struct {
	restore.Options // but for the plan
	target          target
	backup          string // empty: the one that suits best
	start           bool
	feed            feed
	rejoins         bool // the directory's server follows another one from now on
	// report prints what was done; standby is the ID of the note of a standby.
	report  func(r restore.Options, done *restore.Result, standby string) error
	explain func(err error) error
}

// restore finds the way to the target, restores, and starts the server if that is wanted.
func (call *invocation) restore(ctx context.Context, what restoring) (err error) {
	if err := call.unlock(); err != nil {
		return err
	}
	a, err := call.open(ctx)
	if err != nil {
		return err
	}
	call.warnLost(a, "the recovery is planned without it; it stops where it needs what only that has")
	unstored, err := call.storeStreamed(ctx)
	if err != nil {
		return err
	}
	p, err := call.plan(ctx, a, "restore", what.target, what.backup, func(inv *recovery.Inventory) {
		if unstored {
			inv.NothingWaits()
		}
		if !what.target.latest() {
			return
		}
		if what.rejoins {
			call.disown(inv, what.Dir)
		}
		call.askProduction(ctx, a.Archive, inv)
	})
	if err != nil {
		return what.explain(err)
	}
	call.warnPassed(p)
	if what.Recovery.Standby == nil {
		call.warnStreamed(ctx, p)
	}
	if what.target.latest() && p.plan.Target.Kind == recovery.ToLatest {
		call.warnBranches(ctx, a.Archive, p)
	}
	call.warnBeside(p)
	call.warnAgain(p)
	// The lease lasts until the server has recovered, if the command waits for that: the server reads from the archive.
	defer func() { err = errors.Join(err, call.release(p.held)) }()
	r := what.Options
	r.Plan = p.plan
	if r.Changes, err = call.changes(ctx, p); err != nil {
		return what.explain(err)
	}
	if r.Recovery.Standby == nil {
		call.warnDropped(p.plan, r.Changes)
	}
	if s := r.Recovery.Standby; s != nil {
		s.Pinned = !what.target.latest() || p.plan.Said // what PostgreSQL calls latest is another one
	}
	r.Starts = what.start
	if what.start { // fail before anything is copied
		if _, err := launch.Check(ctx, call.Bindir, p.plan.Backup.Major); err != nil {
			return err
		}
	}
	if err := call.readable(what.Dir, what.feed); err != nil {
		return err
	}
	if err := what.feed.build(); err != nil {
		return err
	}
	done, err := restoreWith(ctx, call, a.Archive, p, r)
	if err != nil {
		what.feed.discard()
		return what.explain(err)
	}
	r.Dir = done.Dir
	standby, err := call.register(ctx, a.Archive, r, what.feed)
	if err != nil {
		return err
	}
	if err := what.report(r, done, standby); err != nil {
		return err
	}
	call.reportFeed(r, what.feed)
	if what.start {
		return call.startRestored(ctx, r, what.feed)
	}
	_, err = fmt.Fprintf(call.out, "start it as the user who owns it: %s\n", startWith(call.Bindir, r))
	return err
}

// fromSpool makes the server recover from the spool, by the given restore_command, or by the restore-cmd beside this program.
func (call *invocation) fromSpool(r *restore.Options, command string) (f feed, err error) {
	if r.Recovery.Command = command; command != "" {
		f = feed{holder: r.Dir}
		if call.Spool != "" {
			f.spool, err = filepath.Abs(call.Spool)
		}
	} else if f, err = call.feedIn(r.Dir+besideSuffix, r.Dir, false); err == nil {
		r.Recovery.Command, err = f.restoreCommand()
		if s := r.Recovery.Standby; s != nil && err == nil {
			s.Note, err = f.noteCommand()
		}
	}
	r.Avoid = call.avoid(f)
	return f, err
}

// readable returns an error if the server's user cannot read the private keys with which restore-cmd is to read the archive.
func (call *invocation) readable(data string, f feed) error {
	if !account.Root() || len(f.keys) == 0 {
		return nil
	}
	owner, err := account.OwnerOf(data)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // what is wrong with the directory is said elsewhere
	}
	if err != nil {
		return err
	}
	for _, file := range []string{call.IdentityFile, call.IdentityPassphraseFile} {
		if file == "" {
			continue
		}
		if file, err = filepath.Abs(file); err != nil {
			return err
		}
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		closed, open := owner.Enters(filepath.Dir(file))
		if open && owner.Reads(info) {
			continue
		}
		if open {
			closed = file
		}
		return cli.Hinted(fmt.Errorf("the server's user %s cannot read %s, which its restore-cmd needs: %s is closed", owner.Name, file, closed),
			"copy it to where that user can read it, for as long as the server recovers; or name the command that the server is to call with --restore-command")
	}
	return nil
}

// restoreCommand returns a restore_command that calls the restore-cmd beside this program.
func (f feed) restoreCommand() (string, error) {
	program, err := restoreProgram()
	return restore.Command(program, f.spool, f.file, f.keys...), err
}

// noteCommand returns an archive_cleanup_command for a standby.
func (f feed) noteCommand() (string, error) {
	program, err := restoreProgram()
	return restore.NoteCommand(program, f.spool, f.file), err
}

func restoreProgram() (string, error) {
	program, err := cli.Sibling("restore-cmd")
	if err != nil {
		err = fmt.Errorf("%w; name the command that the server is to call with --restore-command", err)
	}
	return program, err
}

// release gives a lease back. Where this caller may remove nothing, it stays until it ends by itself.
func (call *invocation) release(held *notes.Held) error {
	err := held.Release()
	if errors.Is(err, storage.ErrDenied) {
		call.msg.Detail("the lease stays until it ends: %v", err)
		return nil
	}
	return err
}

// restoreWith restores, and shows the progress.
func restoreWith(ctx context.Context, call *invocation, a *archive.Archive, p *planned, r restore.Options) (*restore.Result, error) {
	var bar *progress.Bar
	r.Begin = func(what string, bytes int64) {
		bar.Done()
		bar = call.bar(what, bytes)
	}
	r.Progress = func(bytes int64) { bar.Add(bytes) }
	r.Notice = func(hint, message string) { call.msg.Warn(hint, "%s", message) }
	result, err := restore.Run(ctx, a, p.inv, r)
	bar.Done()
	return result, err
}

// changes returns what the WAL of a plan does when it is replayed.
func (call *invocation) changes(ctx context.Context, p *planned) (recovery.Changes, error) {
	bar := call.bar("read WAL", int64(p.plan.To-p.plan.Backup.Start))
	found, err := p.inv.Changes(ctx, p.plan, bar.Add)
	bar.Done()
	return found, err
}

// warnDropped warns of the databases that a recovery leaves without files, or invalid. A standby replays what is archived later,
// too, and needs no warning.
func (call *invocation) warnDropped(p recovery.Plan, found recovery.Changes) {
	where := "at the target"
	if p.Target.Kind == recovery.ToLatest {
		where = "at the end of the WAL that is archived now"
	}
	for _, d := range found.Dropped {
		hint := fmt.Sprintf("--target-lsn %s --target-exclusive ends before that", d.Before)
		if !d.Marked && p.Backup.Major > 10 {
			hint += "; if nobody can connect to the database there, only a backup that was taken before DROP DATABASE began has all of it"
		}
		call.msg.Warn(hint, "%s the database with OID %d is listed but has no files any more: DROP DATABASE removed them at %s, and its transaction ends later", where, d.OID, d.At)
	}
	for _, d := range found.Invalid {
		name := "a database"
		if d.Database != "" {
			name = fmt.Sprintf("the database %q", d.Database)
		}
		call.msg.Warn(fmt.Sprintf("--target-lsn %s --target-exclusive ends before that; DROP DATABASE removes what is left of it", d.Before),
			"%s %s is marked as invalid, and nobody can connect to it: DROP DATABASE began at %s, and ends later", where, name, d.Before)
	}
}

// register notes in the archive which WAL a restored standby needs, until restore-cmd reports its restartpoint, and returns the
// ID of the note. For a server that is no standby it removes the note of the standby that the directory may have held before.
func (call *invocation) register(ctx context.Context, a *archive.Archive, r restore.Options, f feed) (string, error) {
	if err := f.withdrawOffer(ctx, r.Dir); err != nil {
		return "", err
	}
	id, err := a.Notes().StandbyHere(ctx, r.Dir)
	if err != nil {
		return "", err
	}
	if r.Recovery.Standby == nil {
		if err := a.Notes().ForgetStandby(ctx, id); err != nil && !errors.Is(err, notes.ErrAbsent) {
			call.msg.Warn(cli.Call("cleanup", "--forget-standby", id)+" removes it", "the note of the standby that %s was cannot be removed: %v", r.Dir, err)
		}
		return "", nil
	}
	if err := f.bind(ctx, a); err != nil {
		call.msg.Warn("", "the spool %s cannot be made an archive of the cluster, so that notes of the standby are not shipped from there: %v", f.spool, err)
	}
	host, err := os.Hostname()
	if err != nil {
		return "", err
	}
	err = a.Notes().NoteStandby(ctx, notes.Standby{Host: host, Data: r.Dir, Restartpoint: r.Plan.Backup.FirstSegment().String(), Noted: time.Now().UTC()})
	if err != nil { // restore-cmd notes it again with each segment
		call.msg.Warn("if another host cleans up the archive, make sure that it keeps the WAL from "+r.Plan.Backup.FirstSegment().String()+" on",
			"the WAL that the standby needs cannot be noted in the archive: %v", err)
	}
	return id, nil
}
