//go:build unix

package main_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"walkeep/common/cmdtest"
	"walkeep/common/pgdata"
	"walkeep/common/pgtest"
	"walkeep/common/wal"
)

// A promotion is killed at any moment, and in some rounds its server as well. Repeated, it comes to one new timeline with all
// rows, and leaves no offer. A server that crashed between two timelines is made a standby again, as promote says.
func TestPromoteKilled(t *testing.T) {
	t.Parallel()
	r := newRig(t, pgtest.MaxMajor)
	l := r.lose(1, 1)
	random := cmdtest.Rand(t)
	killed, opened := 0, 0
	for round := range 4 {
		l := l.copy(t, fmt.Sprintf("round-%d", round))
		s := l.laid("standby")
		l.unarchive()
		l.must(s.Start(l.ctx()))
		call := []string{"promote", "--conninfo", s.ConnString(), "--primary-conninfo", l.primary.ConnString()}
		timeline, between := 2, false
		for try := range 10 {
			cmd := l.command(call...)
			l.must(cmd.Start())
			timer := time.AfterFunc(time.Duration(random.IntN(30+20*try))*time.Millisecond, func() { cmd.Process.Kill() })
			cmd.Wait()
			timer.Stop()
			if cmd.ProcessState.ExitCode() == -1 {
				killed++
			} else if code := cmd.ProcessState.ExitCode(); code != 0 {
				t.Errorf("promote ended with exit code %d", code)
			}
			if round%2 == 1 && try == 5 {
				l.must(s.Kill())
				between = l.between(s)
				l.must(s.Start(l.ctx()))
				if between {
					timeline = l.leaveOldTimeline(s)
				}
			}
			if !l.recovers(s) {
				opened++
				break
			}
		}
		out := l.promote(s, "--primary-conninfo", l.primary.ConnString())
		l.must(s.Exec(l.ctx(), "INSERT INTO ledger VALUES (-1, 'new')"))
		l.cut(s)
		if got := l.rows(s); got != 3*rowsPerSegment+1 || l.timeline(s) != timeline {
			t.Errorf("%d rows on timeline %d: promote says\n%s", got, l.timeline(s), out)
		}
		l.offersNothing()
		if histories, err := filepath.Glob(filepath.Join(l.spool, "wal", "*.history.*")); err != nil || len(histories) != timeline-1 {
			t.Errorf("the archive has the histories %q", histories)
		}
		if between {
			l.restores(3*rowsPerSegment + 1)
		} else {
			l.never(l.last)
			l.run("verify")
		}
	}
	t.Logf("%d promotions were killed, %d servers opened by one that was", killed, opened)
	if killed < 6 {
		t.Errorf("only %d promotions were killed", killed)
	}
}

// The standby crashes while it is promoted.
func TestPromoteServerCrashes(t *testing.T) {
	t.Parallel()
	r := newRig(t, pgtest.MaxMajor)
	l := r.lose(1, 1)
	for _, after := range []time.Duration{40, 70, 90, 110} {
		l := l.copy(t, fmt.Sprintf("crash-%d", after))
		s := l.laid("standby")
		l.must(s.Start(l.ctx()))
		cmd := l.command("promote", "--conninfo", s.ConnString(), "--primary-conninfo", l.primary.ConnString(), "--timeout", "20s")
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &said, &said
		l.must(cmd.Start())
		time.Sleep(after * time.Millisecond)
		l.must(s.Kill())
		err := l.soon("promote", cmd.Wait)
		t.Logf("after %d ms: %v: %s", after, err, &said)
		if code := cmd.ProcessState.ExitCode(); code != 0 && code != 1 {
			t.Errorf("exit code %d", code)
		}
		between := l.between(s)
		l.must(s.Start(l.ctx()))
		timeline := 2
		if between {
			timeline = l.leaveOldTimeline(s)
		} else {
			l.promote(s, "--primary-conninfo", l.primary.ConnString())
		}
		if tli := l.timeline(s); l.rows(s) != 3*rowsPerSegment || tli != timeline {
			t.Errorf("%d rows on timeline %d", l.rows(s), tli)
		}
		l.offersNothing()
	}
}

// A server that crashes when its standby.signal is gone and its new timeline is not on disk opens on the old one, with all rows,
// and may archive the history of the new one, or recycle the segment in which it continues without archiving it, because it was
// restored. That is PostgreSQL's behaviour; promote reports it, and names the way to a new timeline.
func TestPromoteBetweenTimelines(t *testing.T) {
	t.Parallel()
	r := newRig(t, pgtest.MaxMajor)
	l := r.lose(1, 0)
	for name, history := range map[string]bool{"before": false, "after": true} {
		l := l.copy(t, name)
		s := l.laid("standby")
		last, err := os.ReadFile(l.partial(l.last + ".partial"))
		l.must(err)
		l.must(os.WriteFile(s.Path("pg_wal/"+l.last), append(last, make([]byte, max(0, r.segmentSize()-len(last)))...), 0o600))
		l.give(s.Dir)
		l.must(s.Start(l.ctx()))
		l.reaches(s, 2*rowsPerSegment)
		end, err := s.QueryString(l.ctx(), "SELECT pg_last_wal_replay_lsn()::text")
		l.must(err)
		l.must(s.Kill())
		if l.between(s) {
			t.Fatal("it is no standby")
		}
		l.must(os.Remove(s.Path("standby.signal")))
		if !l.between(s) {
			t.Fatal("it is a standby")
		}
		want := 2
		if history {
			want = 3
			l.must(os.WriteFile(s.Path("pg_wal/00000002.history"), []byte("1\t"+end+"\tno recovery target specified\n"), 0o600))
			l.must(os.WriteFile(s.Path("pg_wal/archive_status/00000002.history.ready"), nil, 0o600))
			l.give(s.Dir)
		}
		l.must(s.Start(l.ctx()))
		if history {
			l.must(s.WaitArchived(l.ctx(), "00000002.history"))
		}
		l.must(s.Exec(l.ctx(), "INSERT INTO ledger VALUES (-1, 'old timeline')"))
		if got := l.leaveOldTimeline(s); got != want || l.timeline(s) != want || l.rows(s) != 2*rowsPerSegment+1 {
			t.Errorf("%s: %d rows on timeline %d, not %d, or %d", name, l.rows(s), l.timeline(s), want, got)
		}
		l.cut(s)
		l.restores(2*rowsPerSegment + 1)
	}
}

// restores restores the newest backup to the latest point, which must give so many rows.
func (l *wreck) restores(rows int) {
	l.t.Helper()
	back := l.restore("back")
	l.must(back.Start(l.ctx()))
	l.must(back.WaitOpen(l.ctx()))
	if got := l.rows(back); got != rows {
		l.t.Errorf("%d rows are restored, not %d", got, rows)
	}
}

// between reports whether a server that was killed was no longer a standby, and had not reached its new timeline.
func (l *wreck) between(s *pgtest.Cluster) bool {
	l.t.Helper()
	c, err := pgdata.ReadControl(s.Dir)
	l.must(err)
	return !pgdata.Standby(s.Dir) && max(c.Timeline, c.MinTimeline) == 1
}

// leaveOldTimeline does what promote says of a server that has opened on its primary's timeline, and gives the new one.
func (l *wreck) leaveOldTimeline(s *pgtest.Cluster) int {
	l.t.Helper()
	for range 2 { // it is reported as long as it lasts
		out := l.promote(s, "--primary-conninfo", l.primary.ConnString())
		if !strings.Contains(out, "the server writes to timeline 1, ") || !strings.Contains(out, "recovery_target_timeline = current") || !strings.Contains(out, "take a base backup") {
			l.t.Errorf("promote says\n%s", out)
		}
	}
	timeline := 2
	if _, err := os.Stat(s.Path("pg_wal/00000002.history")); err == nil {
		timeline = 3
	}
	l.must(s.Stop(l.ctx(), pgtest.Fast))
	l.must(s.Standby(map[string]string{"restore_command": l.restoreCommand(), "recovery_target_timeline": "current"}))
	l.must(s.Start(l.ctx()))
	l.promote(s, "--primary-conninfo", l.primary.ConnString())
	l.backup(s)
	return timeline
}

// A backup after the promotion is taken, and where it was not, the next call takes it.
func TestBackupAfterPromote(t *testing.T) {
	t.Parallel()
	r := newRig(t, pgtest.MaxMajor)
	l := r.lose(1, 0)
	s := r.laid("standby")
	r.must(s.Configure(map[string]string{"archive_command": "false"}))
	r.must(s.Start(r.ctx()))
	args := []string{"promote", "--conninfo", s.ConnString(), "--primary-conninfo", l.primary.ConnString(), "--backup-after-promote"}
	r.fails(1, []string{"is open for writing, on timeline 2", "but the backup after it failed", "did not come within", "hint: "}, append(args, "--archive-timeout", "2s")...)
	if r.recovers(s) || len(r.status().Backups) != 1 {
		t.Errorf("it is in recovery: %t; %d backups", r.recovers(s), len(r.status().Backups))
	}
	r.must(s.Configure(map[string]string{"archive_command": r.archiveCommand()}))
	r.must(s.Reload(r.ctx()))
	for range 2 { // the second finds it
		r.run(args...)
	}
	got := r.status().Backups
	if len(got) != 2 || got[1].Timeline != 2 {
		t.Fatalf("backups: %+v", got)
	}
	back := r.restore("back")
	r.must(back.Start(r.ctx()))
	r.must(back.WaitOpen(r.ctx()))
	if r.rows(back) != 2*rowsPerSegment {
		t.Errorf("%d rows", r.rows(back))
	}
}

// What the primary is known to have written, and the stream has not got, is reported as lost, in bytes; without a stream nothing
// is known, and it is reported.
func TestPromoteLoss(t *testing.T) {
	t.Parallel()
	r := newRig(t, pgtest.MaxMajor)
	primary := r.start("primary", nil)
	stream := r.sync(primary)
	r.must(primary.Exec(r.ctx(), ledgerTable))
	r.backup(primary)
	known, unknown, without := r.laid("known"), r.laid("unknown"), r.laid("without")
	r.must(primary.Configure(map[string]string{"archive_command": "false", "work_mem": "7MB"}))
	r.must(primary.Restart(r.ctx()))
	r.must(primary.Exec(r.ctx(), "INSERT INTO ledger VALUES (1, 'x')"))
	r.flushed(primary)
	r.noted()
	// It stands still, and so does what sends to it, until all is written: more than what lies on its way can hold.
	sender, err := primary.QueryInt(r.ctx(), "SELECT pid FROM pg_stat_replication")
	r.must(err)
	r.must(stream.cmd.Process.Signal(syscall.SIGSTOP))
	r.must(syscall.Kill(int(sender), syscall.SIGSTOP))
	r.write(primary, 80, 100_000)
	r.must(primary.Exec(r.ctx(), "INSERT INTO ledger VALUES (2, 'lost')"))
	flushed, err := primary.QueryString(r.ctx(), "SELECT pg_current_wal_flush_lsn()")
	r.must(err)
	end, err := wal.ParseLSN(flushed)
	r.must(err)
	r.must(syscall.Kill(int(sender), syscall.SIGCONT))
	r.must(primary.WaitFor(r.ctx(), pgtest.Timeout, "more to be sent than can be taken", func(ctx context.Context) (bool, error) {
		n, err := primary.QueryInt(ctx, "SELECT count(*) FROM pg_stat_replication WHERE sent_lsn > flush_lsn")
		return n == 1, err
	}))
	// What is sent is counted before it is on its way.
	r.must(primary.WaitFor(r.ctx(), pgtest.Timeout, "the way to be full", func(ctx context.Context) (bool, error) {
		n, err := primary.QueryInt(ctx, "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'WalSenderMain'", sender)
		return n == 1, err
	}))
	r.must(syscall.Kill(int(sender), syscall.SIGSTOP))
	promote := func(r rig, c *pgtest.Cluster) string {
		t.Helper()
		r.must(c.Start(r.ctx()))
		out := r.promote(c, "--primary-conninfo", primary.ConnString())
		_, lost, ok := strings.Cut(out, "lost: ")
		if n, err := c.QueryInt(r.ctx(), "SELECT count(*) FROM ledger WHERE id = 2"); !ok || err != nil || n > 0 {
			t.Errorf("%d rows that cannot be there, %v: promote says\n%s", n, err, out)
		}
		return lost
	}
	// An archive for each, as it is at a moment: before the stream gets what lies on its way, and after that.
	at := func(name string, c *pgtest.Cluster) (moment rig) {
		t.Helper()
		moment = *r
		moment.spool = filepath.Join(r.dir, "spool-"+name)
		r.must(pgtest.Command(r.ctx(), "cp", "-a", r.spool, moment.spool).Run())
		r.must(c.Standby(map[string]string{
			"restore_command":          moment.restoreCommand(),
			"recovery_target_timeline": "latest",
		}))
		r.must(c.Configure(map[string]string{"archive_command": moment.archiveCommand()}))
		return moment
	}
	standsStill, noStream := at("unknown", unknown), at("without", without)
	r.must(os.RemoveAll(filepath.Join(noStream.spool, "streams")))
	r.must(stream.cmd.Process.Signal(syscall.SIGCONT))
	r.until("the stream to note how far the primary is", func() bool { return r.streamNote().Sent >= end })
	stream.kill()
	r.must(primary.Kill())
	note, heard := r.streamNote(), at("known", known)
	if lost := promote(standsStill, unknown); !strings.Contains(lost, "when the stream last heard from it, is unknown") {
		t.Errorf("of a stream that stood still it says %q", lost)
	}
	if lost := promote(noStream, without); !strings.Contains(lost, "no note of a stream tells its amount") {
		t.Errorf("without a stream it says %q", lost)
	}
	if lost := promote(heard, known); !strings.Contains(lost, "B that the old primary had written up to "+note.Sent.String()) || strings.Contains(lost, "nothing") {
		t.Errorf("of %s, of which it had %s, it says %q; the primary ended at %s", note.Sent, note.Flushed, lost, end)
	}
}
