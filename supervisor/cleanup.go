package main

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"slices"
	"time"

	"walkeep/common/archive"
	"walkeep/common/cli"
	"walkeep/common/config"
	"walkeep/common/host"
	"walkeep/common/notes"
	"walkeep/common/recovery"
	"walkeep/common/wal"
	"walkeep/supervisor/retain"
)

const aboutCleanup = `Removes the backups that the retention rules do not keep, and the WAL that no
kept backup, no standby and no running restore needs. Without a rule all
backups stay. One backup that can be restored always stays.

Where repositories are configured, cleanup works on each of them, by the rules
of its section, and then on the spool, from which WAL and backups leave by
shipping alone. In a repository it removes nothing at once: it marks what the
rules do not keep. A later cleanup removes what was marked delete-grace ago (24
hours if the section has no such key), and is still not kept. --undelete takes
all marks back.

With --drop-timeline, a timeline is removed instead: that of a copy that was
restored for a look, or of a standby that was promoted for a test. Stop the
server that writes it first. The timeline that the production server is on
stays, and so does one that a backup, a standby or another timeline comes from.

(walmgr's cleanup removed its installation, with all backups, and its stop
disabled archiving: see setup --undo for both. This command does the work of
its xpurgewals, and of the rotation with which its backup began.)`

type cleanupOptions struct {
	DryRun   bool    `long:"dry-run" description:"remove nothing, and print what would be marked and removed"`
	JSON     bool    `long:"json" description:"print the outcome as JSON"`
	Undelete bool    `long:"undelete" description:"take back what is marked for removal in repositories, and remove nothing"`
	Drop     *uint32 `long:"drop-timeline" value-name:"N" description:"remove this timeline, which must not be needed, and nothing else"`
	Stream   string  `long:"forget-stream" value-name:"SLOT" description:"remove the note of a stream that is gone for good, so that no check warns of it"`
	Forget   string  `long:"forget-standby" value-name:"ID" description:"remove the note of a standby that is gone for good, so that the archive keeps no WAL for it"`
}

func cleanupCommand() command {
	var o cleanupOptions
	return command{
		Subcommand: config.Subcommand{
			Name: "cleanup", Aliases: []string{"xpurgewals"}, Short: "remove what the retention rules do not keep", About: aboutCleanup,
			Options: &o, Parts: func(c *config.Config) []any { return []any{&c.Retention} },
		},
		run: func(ctx context.Context, call *invocation) error { return cleanup(ctx, call, o) },
	}
}

// A cleaning is what a cleanup did in one of several places.
type cleaning struct {
	Name    string             `json:"name"` // of the repository; "spool"
	URL     string             `json:"url"`  // of the repository; the spool's directory
	Cleanup *retain.Report     `json:"cleanup,omitempty"`
	Dropped *retain.Dropped    `json:"drop_timeline,omitempty"`
	Taken   []retain.Undeleted `json:"undelete,omitempty"`
	Error   string             `json:"error"` // empty if it succeeded

	place place
	err   error
}

func cleanup(ctx context.Context, call *invocation, o cleanupOptions) error {
	if err := o.check(); err != nil {
		return usage(err)
	}
	places, err := call.places(ctx)
	if err != nil {
		return err
	}
	if o.Undelete {
		places = slices.DeleteFunc(places, func(p place) bool { return p.spool })
		if len(places) == 0 {
			return usage(errors.New("--undelete: there is no repository, and what cleanup removes from a spool is gone"))
		}
	}
	if len(places) > 1 && places[0].spool {
		places = append(places[1:], places[0])
	}
	var others []notes.Notes // a standby's restore-cmd leaves its note in this host's spool
	if call.Spool != "" && len(call.List) > 0 && !o.Undelete {
		spool, err := call.openSpoolArchive()
		if err != nil {
			return cli.Fail(exitFailed, fmt.Errorf("walkeep cannot determine what this host's standbys and restores need: %w", err), "mount the spool's file system, or clean up on a host without a spool")
		}
		others = []notes.Notes{spool.Notes()}
	}
	var done []*cleaning
	for _, p := range places {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		c := &cleaning{Name: p.name, URL: p.url, place: p, err: p.err}
		done = append(done, c)
		if len(places) > 1 && p.spool && p.err == nil {
			if _, err := p.stored.Identity(ctx); errors.Is(err, archive.ErrUnbound) {
				continue // nothing was archived on this host yet
			}
		}
		if c.err == nil {
			c.err = call.clean(ctx, c, o, len(places) > 1, others)
		}
	}
	return call.cleaned(done, o)
}

// check fails for options that exclude each other.
func (o cleanupOptions) check() error {
	switch {
	case o.Drop != nil && *o.Drop == 0:
		return errors.New("--drop-timeline: timelines are counted from 1")
	case o.Drop != nil && (o.Forget != "" || o.Stream != ""):
		return errors.New("--drop-timeline removes a timeline and nothing else: call it without --forget-standby and --forget-stream")
	case o.Undelete && (o.Drop != nil || o.Forget != "" || o.Stream != ""):
		return errors.New("--undelete removes nothing: call it without --drop-timeline, --forget-standby and --forget-stream")
	}
	return nil
}

// clean does in one place what the options say, and prints it unless as JSON.
func (call *invocation) clean(ctx context.Context, c *cleaning, o cleanupOptions, several bool, others []notes.Notes) error {
	if several && !o.JSON {
		fmt.Fprintf(call.out, "%s:\n", c.place)
	}
	if o.Undelete {
		return call.undelete(ctx, c, o)
	}
	options := call.retention(c.place)
	options.DryRun, options.Forget, options.ForgetStream = o.DryRun, o.Forget, o.Stream
	if !c.place.spool {
		options.Others = others
	}
	if call.Verbose && !o.JSON {
		options.Removed = func(object string, bytes int64) { fmt.Fprintf(call.out, "%s %s\n", removes(o.DryRun), object) }
		options.Marked = func(object string, bytes int64) { fmt.Fprintf(call.out, "%s %s\n", marks(o.DryRun), object) }
	}
	if o.Drop != nil {
		return call.dropTimeline(ctx, c, wal.Timeline(*o.Drop), o, options)
	}
	r, err := retain.Clean(ctx, c.place.stored, options)
	if isAbsent(err) {
		return err
	}
	c.Cleanup = r
	for _, f := range r.Faults {
		call.msg.Warn("", "%v", f)
	}
	if r.Clock != "" {
		call.msg.Warn("check whether the clock is right, and whether backups are taken", "%s", r.Clock)
	}
	if failed := err != nil || r.Blocked; !o.JSON && (!failed || r.Total.Objects+r.Marked.Objects > 0) {
		printCleanup(call, r)
	}
	switch {
	case err != nil:
		return fmt.Errorf("clean up: %w", err)
	case r.Blocked:
		return cli.NewError("nothing was removed, because walkeep cannot determine what is still needed: "+r.KeepAllWAL,
			"repair or remove what cannot be read, then clean up again")
	}
	return nil
}

// retention returns the rules for a place.
func (call *invocation) retention(p place) retain.Options {
	o := retain.Options{Policy: retain.Policy{Backups: call.KeepBackups, Days: call.KeepDays}, Now: time.Now()}
	if p.spool {
		o.Shipped = len(call.List) > 0
		return o
	}
	here := host.Here()
	o.By = retain.By{Repository: p.name, Host: here.Host, Machine: here.Machine, Boot: here.Boot, Uptime: host.Uptime()}
	if u, err := user.Current(); err == nil {
		o.By.User = u.Username
	}
	for _, r := range call.List {
		if r.Name != p.name {
			continue
		}
		o.Grace = r.DeleteGrace
		if r.KeepBackups >= 0 {
			o.Policy.Backups = r.KeepBackups
		}
		if r.KeepDays >= 0 {
			o.Policy.Days = r.KeepDays
		}
	}
	return o
}

// cleaned prints JSON, and makes one error of those of all places. What is to be forgotten or dropped need be in one of them only.
func (call *invocation) cleaned(done []*cleaning, o cleanupOptions) error {
	found := slices.ContainsFunc(done, func(c *cleaning) bool { return !isAbsent(c.err) })
	var failed []error
	for _, c := range done {
		if found && isAbsent(c.err) {
			c.err = nil
		}
		if c.err != nil {
			c.Error = c.err.Error()
			failed = append(failed, c.err)
		}
	}
	if o.JSON {
		var printed error
		switch one := done[0]; {
		case len(done) > 1:
			printed = call.printJSON(struct {
				Places []*cleaning `json:"places"`
			}{done})
		case one.Cleanup != nil:
			printed = call.printJSON(one.Cleanup)
		case one.Dropped != nil:
			printed = call.printJSON(one.Dropped)
		case one.Taken != nil:
			printed = call.printJSON(one.Taken)
		}
		if printed != nil {
			return printed
		}
	}
	switch {
	case len(failed) == 0:
		return nil
	case len(done) == 1:
		if errors.Is(failed[0], retain.ErrNoStandby) || errors.Is(failed[0], retain.ErrNoStream) {
			return cli.Fail(exitUsage, failed[0], "")
		}
		return failed[0]
	case !found:
		return cli.Fail(exitUsage, failed[0], "")
	}
	var all error
	for _, c := range done {
		if c.err == nil {
			continue
		}
		one := fmt.Errorf("%s: %w", c.place, c.err)
		if all != nil {
			one = fmt.Errorf("%w; %w", all, one)
		}
		all = one
	}
	return all
}

// isAbsent reports whether an error only says that a place lacks what is to be forgotten or dropped.
func isAbsent(err error) bool {
	return errors.Is(err, retain.ErrNoStandby) || errors.Is(err, retain.ErrNoStream) || errors.Is(err, retain.ErrNoTimeline)
}

// undelete takes the marks of a repository back.
func (call *invocation) undelete(ctx context.Context, c *cleaning, o cleanupOptions) error {
	taken, faults, err := retain.Undelete(ctx, c.place.stored, o.DryRun)
	c.Taken = append([]retain.Undeleted{}, taken...)
	for _, f := range faults {
		call.msg.Warn("it marks nothing; remove it by hand", "%v", f)
	}
	if err != nil {
		return err
	}
	verb := "kept again"
	if o.DryRun {
		verb = "would be kept again"
	}
	lines := 0
	say := func(format string, args ...any) {
		lines++
		if !o.JSON {
			fmt.Fprintf(call.out, format+"\n", args...)
		}
	}
	for _, u := range taken {
		by := fmt.Sprintf("marked at %s by %s on %s", u.Marked.UTC().Format(time.RFC3339), u.User, u.Host)
		for _, id := range u.Backups {
			if !slices.Contains(u.Lost, id) {
				say("%s: backup %s, %s", verb, id, by)
			}
		}
		for _, r := range u.WAL {
			say("%s: WAL from %s to %s, %s", verb, r.First, r.Last, by)
		}
		for _, r := range u.Streamed {
			say("%s: streamed parts of segments from %s to %s, %s", verb, r.First, r.Last, by)
		}
		for _, tli := range u.Timelines {
			say("%s: timeline %d, %s", verb, tli, by)
		}
		if u.Begun {
			call.msg.Warn(cli.Call("verify")+" reports what is missing", "a cleanup had begun to remove what mark %s names: a part of it may be gone", u.ID)
		}
		for _, id := range u.Lost {
			call.msg.Warn("", "backup %s is lost: its manifest was removed", id)
		}
	}
	if lines == 0 {
		say("nothing is marked for removal")
	} else if !o.DryRun {
		call.msg.Warn("change keep-backups or keep-days of the repository before that", "the next cleanup marks what the retention rules do not keep again")
	}
	return nil
}

// dropTimeline removes a timeline from a place, as --drop-timeline asks.
func (call *invocation) dropTimeline(ctx context.Context, c *cleaning, tli wal.Timeline, o cleanupOptions, options retain.Options) error {
	a := c.place.stored
	inv, err := recovery.ReadInventory(ctx, a)
	if err != nil {
		return err
	}
	if call.serverNamed() {
		call.askServer(ctx, a, inv, call.Conninfo)
	}
	d, err := retain.Drop(ctx, a, tli, options)
	if errors.Is(err, retain.ErrNoTimeline) || errors.Is(err, retain.ErrNeeded) {
		return err
	}
	c.Dropped = d
	switch {
	case o.JSON || err != nil && d.Removed.Objects == 0:
	case d.Until != nil:
		fmt.Fprintf(call.out, "%s timeline %d; the first cleanup after %s removes it\n", marks(o.DryRun), d.Timeline, d.Until.UTC().Format(time.RFC3339))
	default:
		fmt.Fprintf(call.out, "%s of timeline %d: %s\n", removes(o.DryRun), d.Timeline, amount(d.Removed))
	}
	if err != nil {
		return cli.Fail(exitFailed, fmt.Errorf("drop timeline %d: %w", tli, err), "repeat the command, which completes the removal")
	}
	call.explainDropped(d)
	return nil
}

// explainDropped warns of what a dropped timeline leaves.
func (call *invocation) explainDropped(d *retain.Dropped) {
	if d.HistoryStays != 0 {
		call.msg.Warn("", "its history stays while timeline %d exists: PostgreSQL finds the newest timeline by counting up to the first without a history", d.HistoryStays)
	}
	if d.Next != 0 {
		call.msg.Warn(cli.Call("cleanup", "--drop-timeline", fmt.Sprint(uint32(d.Next)))+" removes that, too, if it was dropped before",
			"timeline %d, of which only the history exists, is the newest now", d.Next)
	}
}

func removes(dryRun bool) string {
	if dryRun {
		return "would remove"
	}
	return "removed"
}

func marks(dryRun bool) string {
	if dryRun {
		return "would mark"
	}
	return "marked"
}

func printCleanup(call *invocation, r *retain.Report) {
	say := func(format string, args ...any) { fmt.Fprintf(call.out, format+"\n", args...) }
	verb := removes(r.DryRun)
	if !call.Quiet {
		for _, b := range r.Keep {
			say("keep backup %s: %s", b.ID, b.Why)
		}
		for _, l := range r.Lines {
			if l.Oldest != "" {
				say("keep %d segments of timeline %d from %s on: %s", l.Kept, l.Timeline, l.Oldest, l.HeldBy)
			}
		}
	}
	for _, l := range r.Leases {
		say("%s lease %s of a %s on %s, which no process holds any more", verb, l.ID, l.Kind, l.Host)
	}
	printKinds(call, verb, "was", r.Backups, r.Unfinished, r.Lines, func(l retain.Line) retain.Sum { return l.Removed }, r.Streamed)
	for _, d := range r.Dropped {
		say("%s of timeline %d: %s", verb, d.Timeline, amount(d.Removed))
		call.explainDropped(&d)
	}
	for _, why := range r.KeptTimelines {
		call.msg.Warn(cli.Call("cleanup", "--undelete")+" takes the mark back", "not removed although it is marked: %s", why)
	}
	if r.Stale > 0 {
		say("%s %d objects whose writers were killed", verb, r.Stale)
	}
	if r.Notes.Objects > 0 {
		say("%s notes of what is gone or has ended (%s)", verb, amount(r.Notes))
	}
	printMarks(call, r)
	say("%s %s in all", verb, amount(r.Total))
	for _, h := range r.Holders {
		hint := ""
		if h.Kind == "standby" {
			hint = "if it is gone for good, " + cli.Call("cleanup", "--forget-standby", h.ID) + " forgets it"
		}
		call.msg.Warn(hint, "%s holds %d segments that the kept backups do not need", h.Text, h.Segments)
	}
}

// printMarks prints what was marked now, and what earlier cleanups have marked.
func printMarks(call *invocation, r *retain.Report) {
	say := func(format string, args ...any) { fmt.Fprintf(call.out, format+"\n", args...) }
	printKinds(call, marks(r.DryRun), "is", r.MarkedBackups, r.MarkedUnfinished, r.Lines, func(l retain.Line) retain.Sum { return l.Marked }, r.MarkedStreamed)
	for _, m := range r.Marks {
		say("marked at %s: %s; the first cleanup after %s removes it", m.Marked.UTC().Format(time.RFC3339), m.Text(), m.Until.UTC().Format(time.RFC3339))
	}
}

// printKinds prints what becomes of each kind of object.
func printKinds(call *invocation, verb, there string, backups, unfinished []retain.RemovedBackup, lines []retain.Line, of func(retain.Line) retain.Sum, streamed retain.Sum) {
	say := func(format string, args ...any) { fmt.Fprintf(call.out, format+"\n", args...) }
	for _, b := range backups {
		say("%s backup %s (%s): %s", verb, b.ID, amount(b.Sum), b.Why)
	}
	for _, b := range unfinished {
		say("%s what there %s of backup %s (%s): %s", verb, there, b.ID, amount(b.Sum), b.Why)
	}
	for _, l := range lines {
		if sum := of(l); sum.Objects > 0 {
			say("%s WAL of timeline %d (%s)", verb, l.Timeline, amount(sum))
		}
	}
	if streamed.Objects > 0 {
		say("%s streamed segments that are not needed (%s)", verb, amount(streamed))
	}
}
