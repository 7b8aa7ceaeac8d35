//go:build unix

package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"walkeep/common/pgtest"
)

// Three promotions in a row, each of a standby of the one before that follows by the archive alone, and each with a part of a
// segment: one changes to the timeline before its first segment is complete, one long after that.
func TestForkOfFork(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		r := newRig(t, major)
		primary := r.start("primary", nil)
		stream := r.sync(primary)
		r.must(primary.Exec(r.ctx(), ledgerTable))
		r.backup(primary)
		standbys := []*pgtest.Cluster{r.standby("second", nil), r.standby("third", nil), r.standby("fourth", nil)}
		rows := 0
		insert := func() {
			t.Helper()
			r.insert(primary, rows+1)
			rows += rowsPerSegment
		}
		for i, next := range standbys {
			insert()
			if i != 1 {
				r.cut(primary)
				r.reaches(next, rows)
				insert()
			}
			r.flushed(primary)
			stream.kill()
			r.must(primary.Kill())
			out := r.promote(next, "--primary-conninfo", primary.ConnString())
			if got := r.rows(next); got != rows || r.timeline(next) != i+2 {
				t.Fatalf("%d rows on timeline %d, want %d on %d: promote says\n%s\n%s", got, r.timeline(next), rows, i+2, out, next.LogTail(30))
			}
			r.offersNothing()
			primary = next
			if i < 2 {
				stream.args = []string{"sync", "--conninfo", primary.ConnString()}
				stream.start()
				r.streaming(primary)
			}
		}
		r.cut(primary)
		r.run("verify")
	}, pgtest.Few()...)
}

// A standby that is to stay on its timeline is promoted from there, although another one has been promoted before, with what
// was streamed of its own.
func TestStaysOnTimeline(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		r := newRig(t, major)
		l := r.lose(1, 1)
		stays, next := r.laid("stays"), r.laid("next")
		settings := map[string]string{"restore_command": r.restoreCommand()}
		if major >= 12 {
			settings["recovery_target_timeline"] = "1"
		}
		r.must(stays.Standby(settings))
		r.must(next.Start(r.ctx()))
		r.must(stays.Start(r.ctx()))
		r.promote(next, "--primary-conninfo", l.primary.ConnString())
		r.must(next.Exec(r.ctx(), "INSERT INTO ledger VALUES (-1, 'new')"))
		r.cut(next)
		out := r.promote(stays, "--primary-conninfo", l.primary.ConnString())
		if r.rows(stays) != 3*rowsPerSegment || r.timeline(stays) != 3 {
			t.Errorf("%d rows on timeline %d: promote says\n%s", r.rows(stays), r.timeline(stays), out)
		}
		r.never(l.last)
	}, 10, 11, restoreMajor)
}

// A storm of segment switches, while the stream is ended and begun again: no byte is missing.
func TestSwitchStorm(t *testing.T) {
	t.Parallel()
	r := newRig(t, restoreMajor)
	c := r.start("primary", r.keepAll(nil))
	s := r.sync(c)
	r.must(c.Exec(r.ctx(), ledgerTable))
	for i := range 60 {
		r.must(c.Exec(r.ctx(), fmt.Sprintf("INSERT INTO ledger VALUES (%d, 'x')", i)))
		_, err := c.SwitchWAL(r.ctx())
		r.must(err)
		switch i {
		case 15, 45:
			s.kill()
			s.start()
		case 30:
			r.streaming(c)
			s.stop()
			s.start()
		}
	}
	end := r.flushed(c)
	r.settled()
	s.stop()
	r.compare(c, 1, end)
	r.run("verify")
}

// A standby that lags keeps the WAL that it needs from being removed, on its timeline and on the next; what nobody needs goes,
// and histories stay.
func TestCleanupLagging(t *testing.T) {
	t.Parallel()
	r := newRig(t, restoreMajor)
	old := r.fed()
	next, lags := r.standby("next", nil), r.standby("lags", nil)
	first := r.status().Backups[0].FirstSegment
	r.follows(lags, old)
	r.run("pause", "--conninfo", lags.ConnString())
	r.load(old, 20, 3)
	r.backup(old)
	r.follows(next, old)
	r.run("cleanup", "--keep-backups", "1")
	if got := r.status(); len(got.Backups) != 1 || got.Timelines[0].Ranges[0].First > first {
		t.Fatalf("%d backups, WAL from %s on, want %s", len(got.Backups), got.Timelines[0].Ranges[0].First, first)
	}
	r.must(old.Kill())
	r.promote(next, "--primary-conninfo", old.ConnString())
	r.load(next, 20, 4)
	r.backup(next)
	r.load(next, 20, 5)
	r.cut(next)
	// The old primary rejoins, and the standby that lags comes along from behind the fork.
	r.run("rejoin", "--pgdata", old.Dir)
	r.run("cleanup", "--keep-backups", "1")
	if got := r.status(); len(got.Backups) != 1 || got.Timelines[0].Ranges[0].First > first {
		t.Fatalf("after the failover: %d backups, WAL from %s on, want %s", len(got.Backups), got.Timelines[0].Ranges[0].First, first)
	}
	r.run("continue", "--conninfo", lags.ConnString())
	r.follows(lags, next)
	r.must(old.Start(r.ctx()))
	r.follows(old, next)
	r.run("verify")
	// Once both are there, only what they and the backup need stays.
	for _, c := range []*pgtest.Cluster{next, old, lags} {
		r.must(c.Checkpoint(r.ctx()))
	}
	r.follows(lags, next)
	r.follows(old, next)
	before := r.status().Backups[0].FirstSegment
	r.until("the standbys to need nothing of the first timeline", func() bool {
		r.run("cleanup", "--keep-backups", "1")
		for _, l := range r.status().Timelines {
			if l.Timeline == 1 && len(l.Ranges) > 0 {
				r.must(next.Checkpoint(r.ctx()))
				r.cut(next)
				lags.Checkpoint(r.ctx())
				old.Checkpoint(r.ctx())
				return false
			}
		}
		return true
	})
	if r.archived("00000002.history") == nil {
		t.Error("the history is gone")
	}
	for _, l := range r.status().Timelines {
		if l.Timeline == 2 && l.Ranges[0].First > before {
			t.Errorf("timeline 2 begins with %s, and the backup needs %s", l.Ranges[0].First, before)
		}
	}
	r.run("verify")
	r.follows(old, next)
	back := r.restore("back", "--tablespace-map", next.Dir+"-space="+filepath.Join(r.dir, "back-space"))
	r.opens(back, r.sum(next))
}

// The same backup is restored over a standby that was promoted, again and again.
func TestRestorePromoteAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, restoreMajor)
	l := r.lose(1, 1)
	s := r.laid("standby")
	for i := range 3 {
		if i > 0 {
			r.must(s.Stop(r.ctx(), pgtest.Fast))
			r.run("restore", "--standby", "--delta", "--target-dir", s.Dir)
		}
		r.must(s.Start(r.ctx()))
		out := r.promote(s, "--primary-conninfo", l.primary.ConnString())
		want := 3*rowsPerSegment + i
		if got := r.rows(s); got != want || r.timeline(s) != i+2 {
			t.Fatalf("round %d: %d rows on timeline %d, want %d: promote says\n%s", i, got, r.timeline(s), want, out)
		}
		r.must(s.Exec(r.ctx(), fmt.Sprintf("INSERT INTO ledger VALUES (%d, 'new')", -1-i)))
		r.cut(s)
		r.offersNothing()
		r.run("verify")
	}
	r.never(l.last)
}

// Dry runs change nothing.
func TestDryRuns(t *testing.T) {
	t.Parallel()
	r := newRig(t, restoreMajor)
	c := r.start("primary", nil)
	r.must(c.Exec(r.ctx(), ledgerTable))
	r.backup(c)
	r.must(c.Exec(r.ctx(), "INSERT INTO ledger VALUES (1, 'x')"))
	r.backup(c)
	r.cut(c)
	state := func() string {
		t.Helper()
		trees, err := pgtest.Command(r.ctx(), "sh", "-c", `cd "$1" && find spool primary/*.conf primary/*.signal etc -printf '%p %s %m %T@ %i\n' 2>/dev/null | sort`, "sh", r.dir).Output()
		r.must(err)
		catalog, err := c.QueryString(r.ctx(), `SELECT concat_ws('|', (SELECT string_agg(rolname || rolreplication || rolsuper, ',' ORDER BY rolname) FROM pg_roles),
			(SELECT string_agg(slot_name, ',') FROM pg_replication_slots), (SELECT md5(string_agg(name || setting, ',' ORDER BY name)) FROM pg_settings),
			(SELECT string_agg(roleid::text || member, ',' ORDER BY roleid, member) FROM pg_auth_members), (SELECT md5(string_agg(pg_proc::text, ',' ORDER BY oid)) FROM pg_proc))`)
		r.must(err)
		return string(trees) + catalog
	}
	etc := filepath.Join(r.dir, "etc")
	r.mkdir(etc)
	state() // a first connection makes files
	for _, args := range [][]string{
		{"setup", "--dry-run", "--conninfo", c.ConnString()},
		{"setup", "--dry-run", "--conninfo", c.ConnString(), "--role", "walkeep"},
		{"cleanup", "--dry-run", "--keep-backups", "1"},
		{"setup", "--undo", "--dry-run", "--conninfo", c.ConnString()},
	} {
		cmd := r.command(args...)
		cmd.Args[2] = filepath.Join(etc, "walkeep.ini") // -c
		r.must(os.WriteFile(cmd.Args[2], nil, 0o644))
		before := state()
		out, err := cmd.CombinedOutput()
		if err != nil || len(out) == 0 {
			t.Errorf("%q: %v\n%s", args, err, out)
		}
		if after := state(); after != before {
			t.Errorf("%q has changed something: before\n%s\nafter\n%s", args, before, after)
		}
	}
}
