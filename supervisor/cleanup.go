package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"walkeep/common/archive"
	"walkeep/common/cli"
	"walkeep/common/config"
	"walkeep/common/recovery"
	"walkeep/common/wal"
	"walkeep/supervisor/retain"
)

const aboutCleanup = `Removes the backups that the retention rules do not keep, and the WAL that no
kept backup, no standby and no running restore needs. Without a rule all
backups stay. One backup that can be restored always stays.

With --drop-timeline, a timeline is removed instead: that of a copy that was
restored for a look, or of a standby that was promoted for a test. Stop the
server that writes it first. The timeline that the production server is on
stays, and so does one that a backup, a standby or another timeline comes from.

(walmgr's cleanup removed its installation, with all backups, and its stop
disabled archiving: see setup --undo for both. This command does the work of
its xpurgewals, and of the rotation with which its backup began.)`

type cleanupOptions struct {
	DryRun bool    `long:"dry-run" description:"remove nothing, and print what would be removed"`
	JSON   bool    `long:"json" description:"print the outcome as JSON"`
	Drop   *uint32 `long:"drop-timeline" value-name:"N" description:"remove this timeline, which must not be needed, and nothing else"`
	Stream string  `long:"forget-stream" value-name:"SLOT" description:"remove the note of a stream that is gone for good, so that no check warns of it"`
	Forget string  `long:"forget-standby" value-name:"ID" description:"remove the note of a standby that is gone for good, so that the archive keeps no WAL for it"`
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

func cleanup(ctx context.Context, call *invocation, o cleanupOptions) error {
	a, err := call.alone(ctx)
	if err != nil {
		return err
	}
	options := retain.Options{
		Policy: retain.Policy{Backups: call.KeepBackups, Days: call.KeepDays}, Now: time.Now(), DryRun: o.DryRun, Forget: o.Forget, ForgetStream: o.Stream,
	}
	if call.Verbose && !o.JSON {
		options.Removed = func(object string, bytes int64) { fmt.Fprintf(call.out, "%s %s\n", removes(o.DryRun), object) }
	}
	if o.Drop != nil {
		return call.dropTimeline(ctx, a, wal.Timeline(*o.Drop), o, options)
	}
	r, err := retain.Clean(ctx, a, options)
	if errors.Is(err, retain.ErrNoStandby) || errors.Is(err, retain.ErrNoStream) {
		return cli.Fail(exitUsage, err, "")
	}
	for _, f := range r.Faults {
		call.msg.Warn("", "%v", f)
	}
	if r.Clock != "" {
		call.msg.Warn("check whether the clock is right, and whether backups are taken", "%s", r.Clock)
	}
	if o.JSON {
		if printed := call.printJSON(r); printed != nil {
			return printed
		}
	} else if failed := err != nil || r.Blocked; !failed || r.Total.Objects > 0 {
		printCleanup(call, r)
	}
	switch {
	case err != nil:
		return fmt.Errorf("clean up: %w", err)
	case r.Blocked:
		return cli.Fail(exitFailed, errors.New("nothing was removed, because walkeep cannot determine what is still needed: "+r.KeepAllWAL),
			"repair or remove what cannot be read, then clean up again")
	}
	return nil
}

// dropTimeline removes a timeline, as --drop-timeline asks.
func (call *invocation) dropTimeline(ctx context.Context, a *archive.Archive, tli wal.Timeline, o cleanupOptions, options retain.Options) error {
	if tli == 0 {
		return usage(errors.New("--drop-timeline: timelines are counted from 1"))
	}
	if o.Forget != "" || o.Stream != "" {
		return usage(errors.New("--drop-timeline removes a timeline and nothing else: call it without --forget-standby and --forget-stream"))
	}
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
	if o.JSON {
		if printed := call.printJSON(d); printed != nil {
			return printed
		}
	} else if err == nil || d.Removed.Objects > 0 {
		fmt.Fprintf(call.out, "%s of timeline %d: %s\n", removes(o.DryRun), d.Timeline, amount(d.Removed))
	}
	if err != nil {
		return cli.Fail(exitFailed, fmt.Errorf("drop timeline %d: %w", tli, err), "repeat the command, which completes the removal")
	}
	if d.HistoryStays != 0 {
		call.msg.Warn("", "its history stays while timeline %d exists: PostgreSQL finds the newest timeline by counting up to the first without a history", d.HistoryStays)
	}
	if d.Next != 0 {
		call.msg.Warn(cli.Call("cleanup", "--drop-timeline", fmt.Sprint(uint32(d.Next)))+" removes that, too, if it was dropped before",
			"timeline %d, of which only the history exists, is the newest now", d.Next)
	}
	return nil
}

func removes(dryRun bool) string {
	if dryRun {
		return "would remove"
	}
	return "removed"
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
	for _, b := range r.Backups {
		say("%s backup %s (%s): %s", verb, b.ID, amount(b.Sum), b.Why)
	}
	for _, b := range r.Unfinished {
		say("%s what there was of backup %s (%s): %s", verb, b.ID, amount(b.Sum), b.Why)
	}
	for _, l := range r.Lines {
		if l.Removed.Objects > 0 {
			say("%s WAL of timeline %d (%s)", verb, l.Timeline, amount(l.Removed))
		}
	}
	if r.Streamed.Objects > 0 {
		say("%s streamed segments that are not needed (%s)", verb, amount(r.Streamed))
	}
	say("%s %s in all", verb, amount(r.Total))
	for _, h := range r.Holders {
		hint := ""
		if h.Kind == "standby" {
			hint = "if it is gone for good, " + cli.Call("cleanup", "--forget-standby", h.ID) + " forgets it"
		}
		call.msg.Warn(hint, "%s holds %d segments that the kept backups do not need", h.Text, h.Segments)
	}
}
