package main_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"walkeep/common/cmdtest"
	"walkeep/common/pgtest"
	"walkeep/common/wal"
	"walkeep/supervisor/report"
)

// cascade makes a standby of a primary that streams, and archives what it writes once it is promoted.
func (r *rig) cascade(primary *pgtest.Cluster, name string, archiving string) *pgtest.Cluster {
	r.t.Helper()
	b, err := primary.OnlineBackup(r.ctx(), filepath.Join(r.dir, name))
	r.must(err)
	c, err := pgtest.Open(b.Dir)
	r.must(err)
	pgtest.Attach(r.t, c)
	r.must(c.Standby(map[string]string{
		"primary_conninfo": primary.ConnString(), "recovery_target_timeline": "latest", "archive_mode": archiving, "hot_standby": "on",
		"restore_command": fmt.Sprintf(`"%s" -c %s --spool "%s" --retry-time 100ms %%f "%%p" %%r`, cmdtest.Path("restore-cmd"), os.DevNull, r.spool),
	}))
	r.must(c.Start(r.ctx()))
	r.must(c.WaitFor(r.ctx(), pgtest.Timeout, "the standby to stream", func(ctx context.Context) (bool, error) {
		n, err := primary.QueryInt(ctx, "SELECT count(*) FROM pg_stat_replication WHERE application_name <> 'walkeep' AND state = 'streaming'")
		return n > 0, err
	}))
	return c
}

// The standby that is streamed from is promoted, in the middle of a segment and where one begins, while it is streamed
// from and while it is not.
func TestSyncPromoted(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ border, stopped bool }{
		"middle": {}, "middle, stopped": {stopped: true}, "border": {border: true}, "border, stopped": {border: true, stopped: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pgtest.Each(t, func(t *testing.T, major int) { newRig(t, major).promoted(c.border, c.stopped) }, 10, 15, pgtest.MaxMajor)
		})
	}
}

func (r *rig) promoted(border, stopped bool) {
	primary := r.start("primary", r.keepAll(map[string]string{"archive_mode": "off", "max_wal_senders": "10"}))
	r.load(primary, 20, 1)
	standby := r.cascade(primary, "standby", "off")
	sync := r.sync(standby)
	r.load(primary, 20, 2)
	if border {
		_, err := primary.SwitchWAL(r.ctx())
		r.must(err)
	}
	end, err := primary.CurrentLSN(r.ctx())
	r.must(err)
	r.must(standby.WaitReplayed(r.ctx(), end))
	r.flushed(standby)
	if stopped {
		sync.stop()
	}
	r.must(primary.Kill())
	r.must(standby.Promote(r.ctx()))
	r.load(standby, 20, 3)
	if stopped {
		sync.start()
	}
	r.flushed(standby)
	if _, err := standby.SwitchWAL(r.ctx()); err != nil {
		r.t.Fatal(err)
	}
	r.load(standby, 5, 4)
	last := r.flushed(standby)
	r.settled()
	history, err := os.ReadFile(standby.Path("pg_wal/00000002.history"))
	r.must(err)
	r.until("the history to be archived", func() bool { return r.archived("00000002.history") != nil })
	if got := r.archived("00000002.history"); string(got) != string(history) {
		r.t.Errorf("the archived history is %q, want %q", got, history)
	}
	parsed, err := wal.ParseHistory(2, history)
	r.must(err)
	fork := parsed.Entries[0].End
	r.compare(standby, 1, (fork &^ wal.LSN(r.segmentSize()-1)).String())
	r.compare(standby, 2, last)
	// What was streamed of the old timeline is held by the new one's segment.
	r.until("the old timeline's partial segment to be removed", func() bool {
		for _, name := range r.streamedFiles() {
			if strings.HasPrefix(name, "00000001") {
				return false
			}
		}
		return true
	})
	sync.stop()
	r.run("verify")
}

func (r *rig) segmentSize() int { return pgtest.SmallestSegmentMB(r.major) << 20 }

// The streamed bytes of an old timeline behind the point where it was left stay, because they exist nowhere else.
func TestSyncForked(t *testing.T) {
	t.Parallel()
	r := newRig(t, 15)
	primary := r.start("primary", r.keepAll(map[string]string{"archive_mode": "off", "max_wal_senders": "10"}))
	r.load(primary, 20, 1)
	standby := r.cascade(primary, "standby", "off")
	sync := r.sync(primary)
	end, err := primary.CurrentLSN(r.ctx())
	r.must(err)
	r.must(standby.WaitReplayed(r.ctx(), end))
	r.must(standby.Stop(r.ctx(), pgtest.Fast))
	r.load(primary, 5, 2) // only the stream has these
	r.flushed(primary)
	r.settled()
	sync.stop()
	r.must(primary.Kill())
	r.must(standby.Configure(map[string]string{"primary_conninfo": ""}))
	r.must(standby.Start(r.ctx()))
	r.must(standby.Promote(r.ctx()))
	before := r.streamedFiles()
	if len(before) != 1 {
		t.Fatalf("partial/ has %q", before)
	}
	kept := r.streamedFile(before[0])
	sync = r.sync(standby)
	r.write(standby, 4, 600_000)
	last := r.flushed(standby)
	r.settled()
	time.Sleep(2 * time.Second) // the keeper has looked at it by then
	sync.stop()
	if got := r.streamedFile(before[0]); string(got) != string(kept) {
		t.Errorf("%s had %d bytes, and has %d: they differ at %d", before[0], len(kept), len(got), differ(got, kept))
	}
	r.compare(standby, 2, last)
	r.run("verify")
}

// A slot that is dropped while it is streamed with costs nothing as long as the server has the WAL, and where it has not,
// the gap is reported.
func TestSyncSlotLost(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		r := newRig(t, major)
		c := r.start("primary", map[string]string{"archive_mode": "off", "max_wal_size": fmt.Sprintf("%dMB", 2*r.segmentSize()>>20)})
		sync := r.sync(c)
		r.load(c, 20, 1)
		r.flushed(c)
		drop := "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active; SELECT pg_sleep(0.01)"
		before := len(sync.said())
		for dropped := false; !dropped; {
			r.must(c.Exec(r.ctx(), drop))
			dropped = c.Exec(r.ctx(), "SELECT pg_drop_replication_slot('walkeep')") == nil
		}
		r.load(c, 20, 2)
		end := r.flushed(c)
		r.until("the slot to be created again", func() bool { return strings.Contains(sync.said()[before:], "is created again") })
		r.compare(c, 1, end)
		r.noted()
		r.backup(c)
		r.advises(c)
		if strings.Contains(sync.said(), "is gone") {
			t.Errorf("nothing was lost, and it says so:\n%s", sync.said())
		}
		r.run("verify")

		sync.stop()
		r.must(c.WaitFor(r.ctx(), pgtest.Timeout, "the server to notice that the stream has ended", func(ctx context.Context) (bool, error) {
			n, err := c.QueryInt(ctx, "SELECT count(*) FROM pg_replication_slots WHERE active")
			return n == 0, err
		}))
		r.must(c.Exec(r.ctx(), "SELECT pg_drop_replication_slot('walkeep')"))
		for range 4 {
			r.load(c, 5, 3)
			_, err := c.SwitchWAL(r.ctx())
			r.must(err)
			r.must(c.Checkpoint(r.ctx()))
		}
		r.must(c.Checkpoint(r.ctx()))
		sync.start()
		sync.says("is gone from the server before it was streamed")
		r.must(c.WaitFor(r.ctx(), pgtest.Timeout, "the stream", func(ctx context.Context) (bool, error) {
			n, err := c.QueryInt(ctx, "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'")
			return n == 1, err
		}))
		_, err := c.SwitchWAL(r.ctx())
		r.must(err)
		r.load(c, 5, 4)
		r.flushed(c)
		r.settled()
		sync.stop()
		sync.start() // a restarted stream still has the note
		r.streaming(c)
		r.flushed(c)
		r.until("the note is a new one", func() bool { return !r.streamNote().Ended })
		if got := r.streamNote().Skipped; len(got) != 1 || got[0].Timeline != 1 || got[0].From >= got[0].To {
			t.Errorf("the note says that the stream has skipped %v", got)
		}
		const skipped = "before stream walkeep received it: take a new backup"
		r.check(c, report.Critical, []string{"missing", skipped})
		sync.stop()
		if out := r.run("list"); !strings.Contains(out, "gap") && !strings.Contains(out, "missing") {
			t.Errorf("list does not show the gap:\n%s", out)
		}
		out, err := r.command("status").CombinedOutput()
		if !strings.Contains(string(out), "gap") && !strings.Contains(string(out), "missing") {
			t.Errorf("status does not show the gap: %v\n%s", err, out)
		}
		r.fails(1, []string{"missing"}, "verify")

		sync.start()
		r.streaming(c)
		r.flushed(c)
		r.backup(c) // closes it
		sync.stop()
		if out, _ := r.command("status").CombinedOutput(); strings.Contains(string(out), skipped) {
			t.Errorf("status speaks of the gap although there is a backup behind it:\n%s", out)
		}
		sync.start()
		r.streaming(c)
		r.flushed(c)
		r.until("the note is well again", func() bool { s := r.streamNote(); return !s.Ended && len(s.Skipped) == 0 })
		sync.stop()
	}, 10, 12, 15, pgtest.MaxMajor)
}

// A slot that the server gives up because too much WAL waits for it is created again, and the gap is reported.
func TestSyncSlotInvalidated(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		r := newRig(t, major)
		c := r.start("primary", map[string]string{"archive_mode": "off", "max_wal_size": "2MB", "max_slot_wal_keep_size": "1MB"})
		sync := r.sync(c)
		r.load(c, 20, 1)
		r.flushed(c)
		sync.kill()
		for range 6 {
			r.write(c, 1, 500_000)
			_, err := c.SwitchWAL(r.ctx())
			r.must(err)
		}
		r.must(c.Checkpoint(r.ctx()))
		if lost, err := c.QueryString(r.ctx(), "SELECT wal_status FROM pg_replication_slots"); err != nil || lost != "lost" {
			t.Fatalf("the slot is %s, %v", lost, err)
		}
		sync.start()
		sync.says("is gone from the server before it was streamed")
		r.load(c, 5, 2)
		r.flushed(c)
		if n := strings.Count(sync.said(), "is gone from the server"); n != 1 {
			t.Errorf("it says %d times that WAL is gone", n)
		}
		sync.stop()
	}, 13, 15, pgtest.MaxMajor)
}

// advises checks that status, and no other command, recommends a setting that 19 has for servers that are streamed from, until it is set.
func (r *rig) advises(c *pgtest.Cluster) {
	r.t.Helper()
	for _, value := range []string{"", "0", "1min"} {
		if value != "" && r.major < 19 {
			break
		}
		if value != "" {
			r.must(c.Exec(r.ctx(), "ALTER SYSTEM SET wal_sender_shutdown_timeout = '"+value+"'"))
			r.must(c.Reload(r.ctx()))
		}
		got := r.status("--conninfo", c.ConnString())
		if want := r.major >= 19 && value != "1min"; strings.Contains(got.Server.Advice, "wal_sender_shutdown_timeout = '1min'") != want || !want && got.Server.Advice != "" {
			r.t.Errorf("with wal_sender_shutdown_timeout %q, status advises %q", value, got.Server.Advice)
		}
		r.check(c, report.OK, nil)
	}
}
