package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/cli"
	"walkeep/common/config"
	"walkeep/common/recovery"
	"walkeep/common/wal"
	"walkeep/supervisor/pgserver"
	"walkeep/supervisor/progress"
	"walkeep/supervisor/promote"
)

const aboutPromote = `Brings the standby at --conninfo online, with the least possible loss, and says
what was lost. Run it on the standby's host, as the server's user; the role must
be a superuser.

It refuses while the old primary answers, or accepts connections and hangs:
--primary-conninfo says where that is, or else the standby's own
primary_conninfo does. It also refuses while a stream of the archive hears a
server that is open, or the old timeline's WAL goes on in the archive. A host
from which nothing comes back cannot be told from one that is off: that is a
warning. A standby that was just started is waited
for until it accepts connections. The standby then replays all
that the archive holds, and what was streamed of the segment that was being
written. What keeps it from doing so is an error, and the standby stays one;
--force promotes all the same. A promotion that was cut short is completed by
repeating it.

walmgr called this boot.`

func promoteCommand() command {
	var o struct {
		Force   bool          `long:"force" description:"promote even if the old primary answers, or WAL that is there cannot be replayed"`
		Timeout time.Duration `long:"timeout" value-name:"TIME" default:"1m" description:"how long all that comes before the server is told to open may take, or the standby is left as it is"`
	}
	return command{
		Subcommand: config.Subcommand{
			Name: "promote", Aliases: []string{"boot"}, Short: "bring a standby online", About: aboutPromote, Options: &o,
			Parts: func(c *config.Config) []any { return []any{&c.Standby, &c.Backup, &c.Compression, &c.Effort} },
		},
		run: func(ctx context.Context, call *invocation) error {
			if o.Timeout <= 0 {
				return cli.Fail(exitUsage, fmt.Errorf("--timeout is a time such as 1m, not %s", o.Timeout), "")
			}
			return call.promote(ctx, o.Force, o.Timeout)
		},
		interrupted: "repeat the promotion to complete it",
	}
}

func (call *invocation) promote(ctx context.Context, force bool, timeout time.Duration) error {
	s, err := call.openSpool()
	if err != nil {
		return err
	}
	done, err := promote.Run(ctx, promote.Options{
		Conninfo: call.Conninfo, Primary: call.PrimaryConninfo, PGData: call.PGData, Spool: s, Force: force, Timeout: timeout,
		Step: func(message string) { call.msg.Detail("%s", message) },
		Warn: func(hint, message string) { call.msg.Warn(hint, "%s", message) },
	})
	if err != nil {
		return explainPromote(err)
	}
	if err := call.reportPromotion(done); err != nil {
		return err
	}
	if !call.BackupAfter {
		return nil
	}
	if done.Already { // this may be the repetition of a promotion whose backup was not taken
		inv, err := recovery.ReadInventory(ctx, s.Archive)
		if err != nil {
			return err
		}
		taken := slices.ContainsFunc(inv.Backups, func(b *backup.Manifest) bool { return b.Timeline >= done.Timeline })
		if taken || done.Timeline == 1 {
			return nil
		}
	}
	if err := takeBackup(ctx, call); err != nil {
		err = fmt.Errorf("the server is open for writing, but the backup after it failed: %w", err)
		return remedies{{err, "{backup} takes one, and so does this command when it is repeated"}}.explain(err)
	}
	return nil
}

// reportPromotion says how it came out.
func (call *invocation) reportPromotion(done *promote.Result) error {
	if done.Already {
		fmt.Fprintf(call.out, "the server is open for writing already, on timeline %d: nothing was done\n", done.Timeline)
	} else {
		fmt.Fprintf(call.out, "the server is open for writing, on timeline %d, in %s\n", done.Timeline, done.Took.Round(time.Millisecond))
	}
	for _, place := range done.Down {
		fmt.Fprintf(call.out, "took %s for down: nothing listens there\n", place)
	}
	if done.End != 0 {
		commit := "none was replayed"
		if !done.LastCommit.IsZero() {
			commit = wal.FormatTime(done.LastCommit)
		}
		fmt.Fprintf(call.out, "it has replayed up to %s; last commit: %s\n", done.End, commit)
	}
	if done.Offered > 0 {
		fmt.Fprintf(call.out, "of that, %s had been streamed of the segment that was being written\n", progress.Bytes(done.Offered))
	}
	if done.Torn > 0 {
		fmt.Fprintf(call.out, "behind that, %s had been streamed of a record that is not whole, or of what is none\n", progress.Bytes(done.Torn))
	}
	if done.Already && (done.End == 0 || !done.Loss.Streamed) { // what streamed the old timeline is forgotten by now
		return nil
	}
	_, err := fmt.Fprintf(call.out, "lost: %s\n", describeLoss(done))
	return err
}

// describeLoss says what is known of what was lost, and no more than that.
func describeLoss(done *promote.Result) string {
	l := done.Loss
	heard := wal.FormatTime(l.Heard)
	switch {
	case l.Kept > done.End:
		return fmt.Sprintf("%s up to %s, which the archive has (whole records up to %s), and which the server has not replayed; clients may have been told that commits among them were done",
			progress.Bytes(l.Bytes), l.Written, l.Kept)
	case !l.Streamed:
		return fmt.Sprintf("what the old primary wrote after %s, if anything; nothing streamed it, so that is not known", done.End)
	case l.Bytes > 0 && l.Synchronous:
		return fmt.Sprintf("%s that the old primary had written up to %s, of which no commit was confirmed to a client that waited for the stream", progress.Bytes(l.Bytes), l.Written)
	case l.Bytes > 0:
		return fmt.Sprintf("%s that the old primary had written up to %s, and what it wrote after %s, when it was last heard", progress.Bytes(l.Bytes), l.Written, heard)
	case l.Synchronous:
		return "nothing that was confirmed to a client that waited for the stream"
	}
	return fmt.Sprintf("nothing of the whole records that were streamed; what the old primary wrote after %s, when it was last heard, is not known", heard)
}

// explainPromote adds what to do about errors of other packages than promote.
func explainPromote(err error) error {
	switch {
	case cli.Hint(err) != "", errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, archive.ErrForeign):
		return cli.Hinted(err, "check --spool and --conninfo: they are of two different clusters")
	case errors.Is(err, context.DeadlineExceeded):
		return cli.Hinted(fmt.Errorf("the standby was not ready to be promoted in time: %w", err), "it stays a standby; --timeout gives it longer")
	case pgserver.Answered(err):
		return cli.Hinted(err, "the standby must accept connections (hot_standby = on), and the role must be a superuser")
	}
	return err
}
