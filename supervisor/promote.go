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
		run: func(ctx context.Context, e *env) error {
			if o.Timeout <= 0 {
				return cli.Fail(exitUsage, fmt.Errorf("--timeout is a time such as 1m, not %s", o.Timeout), "")
			}
			return e.promote(ctx, o.Force, o.Timeout)
		},
	}
}

func (e *env) promote(ctx context.Context, force bool, timeout time.Duration) error {
	s, err := e.openSpool()
	if err != nil {
		return err
	}
	done, err := promote.Run(ctx, promote.Options{
		Conninfo: e.Conninfo, Primary: e.PrimaryConninfo, PGData: e.PGData, Spool: s, Force: force, Timeout: timeout,
		Step: func(message string) { e.msg.Detail("%s", message) },
		Warn: func(hint, message string) { e.msg.Warn(hint, "%s", message) },
	})
	if err != nil {
		return explainPromote(err)
	}
	if err := e.reportPromotion(done); err != nil {
		return err
	}
	if !e.BackupAfter {
		return nil
	}
	if done.Already { // this may be the repetition of a promotion whose backup was not taken
		inv, err := s.Archive.Inventory(ctx)
		if err != nil {
			return err
		}
		taken := slices.ContainsFunc(inv.Backups, func(b *backup.Manifest) bool { return b.Timeline >= done.Timeline })
		if taken || done.Timeline == 1 {
			return nil
		}
	}
	if err := takeBackup(ctx, e); err != nil {
		hint := cli.Call("backup") + " takes one, and so does this command when it is repeated"
		if f := (*cli.Failure)(nil); errors.As(err, &f) {
			err, hint = f.Err, f.Hint
		}
		return cli.Fail(exitFailed, fmt.Errorf("the server is open for writing, but the backup after it failed: %w", err), hint)
	}
	return nil
}

// reportPromotion says how it came out.
func (e *env) reportPromotion(done *promote.Result) error {
	if done.Already {
		fmt.Fprintf(e.out, "the server is open for writing already, on timeline %d: nothing was done\n", done.Timeline)
	} else {
		fmt.Fprintf(e.out, "the server is open for writing, on timeline %d, in %s\n", done.Timeline, done.Took.Round(time.Millisecond))
	}
	for _, place := range done.Down {
		fmt.Fprintf(e.out, "took %s for down: nothing listens there\n", place)
	}
	if done.End != 0 {
		commit := "none was replayed"
		if !done.LastCommit.IsZero() {
			commit = done.LastCommit.Format("2006-01-02 15:04:05.999999 MST")
		}
		fmt.Fprintf(e.out, "it has replayed up to %s; last commit: %s\n", done.End, commit)
	}
	if done.Offered > 0 {
		fmt.Fprintf(e.out, "of that, %s had been streamed of the segment that was being written\n", progress.Bytes(done.Offered))
	}
	if done.Torn > 0 {
		fmt.Fprintf(e.out, "behind that, %s had been streamed of a record that is not whole, or of what is none\n", progress.Bytes(done.Torn))
	}
	if done.Already && (done.End == 0 || !done.Loss.Streamed) { // what streamed the old timeline is forgotten by now
		return nil
	}
	_, err := fmt.Fprintf(e.out, "lost: %s\n", describeLoss(done))
	return err
}

// describeLoss says what is known of what was lost, and no more than that.
func describeLoss(done *promote.Result) string {
	l := done.Loss
	heard := l.Heard.Format("2006-01-02 15:04:05.000 MST")
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

func explainPromote(err error) error {
	hint := ""
	switch {
	case errors.Is(err, context.Canceled):
		err, hint = errors.New("interrupted"), "repeat the promotion to complete it"
	case errors.Is(err, promote.ErrPrimaryLives):
		hint = "stop it, and see that it stays down; --force promotes beside it, and makes two primaries"
	case errors.Is(err, promote.ErrUnchecked):
		hint = "let --primary-conninfo say where it is, or see that it is down, and repeat this; --force promotes without a look"
	case errors.Is(err, promote.ErrWarm):
		hint = "set hot_standby = on and restart the standby, which loses nothing, or promote it with pg_ctl promote, without what was streamed"
	case errors.Is(err, promote.ErrNotConsistent):
		hint = "see its log: it may need WAL that is not there, or more time (--timeout), or it lets nobody connect (hot_standby = off)"
	case errors.Is(err, pgserver.ErrDemand):
		hint = hintDemand
	case errors.Is(err, promote.ErrDelayed):
		hint = "to have it replay all first, set recovery_min_apply_delay = 0 there and reload it (up to version 11: remove it from recovery.conf, and restart it); --force tells it to open now, and it replays what it has received as it does"
	case errors.Is(err, promote.ErrBehind):
		hint = "see the standby's log for what keeps it; --force promotes it without that WAL, --timeout gives it longer"
	case errors.Is(err, promote.ErrNotStored):
		hint = "see that the spool can be written to and has room, and repeat it; --force promotes without it, and the archive cannot be recovered past that until a new base backup is taken"
	case errors.Is(err, promote.ErrNoOffer):
		hint = "let its restore_command call restore-cmd with this spool (restart it up to version 13), and archive_mode not be always (restart it), or promote with --force, without what was streamed"
	case errors.Is(err, pgserver.ErrNoStandby), errors.Is(err, pgserver.ErrWhichStandby):
		hint = "--conninfo says which server is meant, --pgdata the data directory of the standby on this host"
	case errors.Is(err, promote.ErrRights):
		hint = "connect as a superuser: repeat this on the standby's host, as the server's user, with --conninfo 'user=postgres' (and its port, if that is not 5432)"
	case errors.Is(err, promote.ErrNotOpen):
		hint = "the server was told to open: see its log, and repeat the promotion"
	case errors.Is(err, archive.ErrForeign):
		hint = "check --spool and --conninfo: they are of two different clusters"
	case errors.Is(err, context.DeadlineExceeded):
		err, hint = fmt.Errorf("the standby was not ready to be promoted in time: %w", err), "it stays a standby; --timeout gives it longer"
	case pgserver.Answered(err):
		hint = "a standby must let someone ask it (hot_standby = on), and the role must be a superuser"
	default:
		return err
	}
	return cli.Fail(exitFailed, err, hint)
}
