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

const aboutPromote = `Brings the standby at --conninfo online, with the least possible loss, and
reports what was lost. Run it on the standby's host, as the server's user, with the
spool that its restore_command names; the role must be a superuser.

It refuses while the old primary answers, or accepts connections and hangs. It
finds the old primary by --primary-conninfo, or else by the standby's own
primary_conninfo. It also refuses while a stream of the archive receives WAL from
a server that is open, or the archive receives new WAL of the old timeline. A
host that does not answer at all may be off or unreachable: that is a warning. A
standby that was just started may take until --timeout to accept connections. It
then replays all that the archive holds, and what was streamed of the segment
that was being written. If it cannot, that is an error, and it stays a standby;
--force promotes it nevertheless. Repeat a promotion that was interrupted to
complete it.

walmgr called this boot.`

func promoteCommand() command {
	var o struct {
		Force   bool          `long:"force" description:"promote even if the old primary answers, or WAL that is there cannot be replayed"`
		Timeout time.Duration `long:"timeout" value-name:"TIME" default:"1m" description:"how long the steps before the server is told to open may take; after that it stays a standby"`
	}
	return command{
		Subcommand: config.Subcommand{
			Name: "promote", Aliases: []string{"boot"}, Short: "bring a standby online", About: aboutPromote, Options: &o,
			Parts: func(c *config.Config) []any {
				return []any{&c.Standby, &c.Backup, &c.Compression, &c.Encryption, &c.Decryption, &c.Effort}
			},
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
	if err := call.unlock(); err != nil {
		return err
	}
	s, err := call.openSpool()
	if err != nil {
		return err
	}
	a, err := call.open(ctx)
	if err != nil {
		return err
	}
	call.warnLost(a, "what only that holds is not replayed")
	done, err := promote.Run(ctx, promote.Options{
		Conninfo: call.Conninfo, Primary: call.PrimaryConninfo, PGData: call.PGData, Spool: s, Archive: a.Archive, Force: force, Timeout: timeout,
		WholeOnly: call.RecipientsFile != "" && !call.PartialPlain,
		Step:      func(message string) { call.msg.Detail("%s", message) },
		Warn:      func(hint, message string) { call.msg.Warn(hint, "%s", message) },
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
	if done.Already { // this may repeat a promotion whose backup was not taken
		inv, err := recovery.ReadInventory(ctx, a.Archive)
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

// reportPromotion prints the outcome of a promotion.
func (call *invocation) reportPromotion(done *promote.Result) error {
	if done.Already {
		fmt.Fprintf(call.out, "the server is open for writing already, on timeline %d: nothing was done\n", done.Timeline)
	} else {
		fmt.Fprintf(call.out, "the server is open for writing, on timeline %d, in %s\n", done.Timeline, done.Took.Round(time.Millisecond))
	}
	for _, place := range done.Down {
		fmt.Fprintf(call.out, "assumed that %s is down: nothing listens there\n", place)
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
		fmt.Fprintf(call.out, "after that, %s had been streamed of a record that is not complete, or of other bytes\n", progress.Bytes(done.Torn))
	}
	if done.Already && (done.End == 0 || !done.Loss.Streamed) { // the archive no longer knows what streamed the old timeline
		return nil
	}
	_, err := fmt.Fprintf(call.out, "lost: %s\n", describeLoss(done))
	return err
}

// describeLoss describes what was lost, as far as it is known.
func describeLoss(done *promote.Result) string {
	l := done.Loss
	heard := wal.FormatTime(l.Heard)
	switch {
	case l.Kept > done.End:
		return fmt.Sprintf("%s up to %s, which the archive has (complete records up to %s), and which the server has not replayed; commits among them may have been confirmed to clients",
			progress.Bytes(l.Bytes), l.Written, l.Kept)
	case !l.Streamed:
		return fmt.Sprintf("what the old primary wrote after %s, if anything; no note of a stream tells its amount", done.End)
	case l.Bytes > 0 && l.Synchronous:
		return fmt.Sprintf("%s that the old primary had written up to %s; no commit in it was confirmed to a client that waited for the stream", progress.Bytes(l.Bytes), l.Written)
	case l.Bytes > 0:
		return fmt.Sprintf("%s that the old primary had written up to %s, and what it wrote after %s, when the stream last heard from it", progress.Bytes(l.Bytes), l.Written, heard)
	case l.Synchronous:
		return "nothing that was confirmed to a client that waited for the stream"
	}
	return fmt.Sprintf("nothing of the complete records that were streamed; what the old primary wrote after %s, when the stream last heard from it, is unknown", heard)
}

// explainPromote adds what to do about errors of other packages than promote.
func explainPromote(err error) error {
	switch {
	case cli.Hint(err) != "", errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, archive.ErrForeign):
		return cli.Hinted(err, "check --conninfo, and the spool or the repository: they are of two different clusters")
	case errors.Is(err, context.DeadlineExceeded):
		return cli.Hinted(fmt.Errorf("the standby was not ready to be promoted in time: %w", err), "it stays a standby; --timeout gives it longer")
	case pgserver.Answered(err):
		return cli.Hinted(err, "the standby must accept connections (hot_standby = on), and the role must be a superuser")
	}
	return err
}
