//go:build unix

package main_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"walkeep/common/pgtest"
)

// While the archive cannot be reached a standby stays one, and is not promoted.
func TestArchiveAway(t *testing.T) {
	t.Parallel()
	r := newRig(t, restoreMajor)
	l := r.lose(2, 0)
	s := r.laid("standby")
	r.must(s.Start(r.ctx()))
	r.reaches(s, 2*rowsPerSegment)
	away := r.spool + "-away"
	r.must(os.Rename(r.spool, away))
	r.fails(1, []string{"hint: check --spool"}, "promote", "--conninfo", s.ConnString(), "--primary-conninfo", l.primary.ConnString())
	time.Sleep(time.Second) // restore-cmd fails meanwhile
	if !r.recovers(s) {
		t.Error("the standby was promoted")
	}
	r.must(os.Rename(away, r.spool))
	r.must(os.Chmod(filepath.Join(r.spool, "wal"), 0))
	r.fails(1, []string{"permission denied"}, "promote", "--conninfo", s.ConnString(), "--primary-conninfo", l.primary.ConnString())
	if !r.recovers(s) {
		t.Error("the standby was promoted")
	}
	r.must(os.Chmod(filepath.Join(r.spool, "wal"), 0o700))
	r.promote(s, "--primary-conninfo", l.primary.ConnString())
	if r.rows(s) != 3*rowsPerSegment {
		t.Errorf("%d rows", r.rows(s))
	}
}

// promote explains its refusal to users without the right, and for servers that are no standby.
func TestPromoteRefuses(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		r := newRig(t, major)
		primary := r.start("primary", nil)
		r.must(primary.Exec(r.ctx(), ledgerTable))
		r.must(primary.Exec(r.ctx(), "CREATE ROLE watcher LOGIN REPLICATION IN ROLE pg_monitor"))
		r.backup(primary)
		r.cut(primary)
		s := r.laid("standby")
		r.must(s.Start(r.ctx()))
		r.must(s.WaitFor(r.ctx(), pgtest.Timeout, "the role", func(ctx context.Context) (bool, error) {
			n, err := s.QueryInt(ctx, "SELECT count(*) FROM pg_roles WHERE rolname = 'watcher'")
			return n == 1, err
		}))

		// A server that was never a standby.
		if out := r.run("promote", "--conninfo", primary.ConnString()); !strings.Contains(out, "is open for writing already, on timeline 1") || strings.Contains(out, "lost") {
			t.Errorf("promote of a primary says %s", out)
		}
		for _, timeout := range []string{"0s", "-1s", "soon"} {
			r.refused(s, 2, []string{"timeout"}, "--timeout", timeout)
		}
		r.fails(1, []string{"no such file"}, "promote", "--conninfo", "host="+primary.RunDir()+"-none user=postgres")
		other := *r
		other.spool = filepath.Join(r.dir, "other")
		r.mkdir(other.spool)
		other.refused(s, 1, []string{"hint: check --spool"})
		r.must(primary.Stop(r.ctx(), pgtest.Fast))
		r.fails(1, []string{"hint: connect as a superuser"}, "promote", "--conninfo", s.ConnString()+" user=watcher", "--primary-conninfo", primary.ConnString())
		if !r.recovers(s) {
			t.Error("it was promoted")
		}
		r.offersNothing()

		// A warm standby.
		r.must(s.Stop(r.ctx(), pgtest.Fast))
		r.must(s.Configure(map[string]string{"hot_standby": "off"}))
		r.must(s.Launch())
		r.until("the warm standby", func() bool {
			text, _ := os.ReadFile(s.Path("postmaster.pid"))
			return strings.Contains(string(text), "standby")
		})
		args := []string{"promote", "--conninfo", s.ConnString(), "--primary-conninfo", primary.ConnString(), "--timeout", "1h"} // and does not wait for it
		if major < 14 {
			args = append(args, "--pgdata", s.Dir)
		}
		r.fails(1, []string{"hot_standby = off", "hint: set hot_standby = on"}, args...)
	}, 11, 13, restoreMajor)
}

// A role or a user who may not promote the server is refused before anything is done to the standby: its replay stays paused.
func TestPromoteChecksItsRightsFirst(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		r := newRig(t, major)
		primary := r.start("primary", nil)
		r.must(primary.Exec(r.ctx(), "CREATE ROLE watcher LOGIN REPLICATION IN ROLE pg_monitor"))
		r.must(primary.Exec(r.ctx(), "GRANT EXECUTE ON FUNCTION pg_wal_replay_resume() TO watcher"))
		r.backup(primary)
		r.cut(primary)
		s := r.laid("standby")
		r.must(s.Start(r.ctx()))
		r.must(primary.Stop(r.ctx(), pgtest.Fast))
		r.must(s.Exec(r.ctx(), "SELECT pg_wal_replay_pause()"))
		as, words := s.ConnString()+" user=watcher", []string{"the role may not promote the server", "hint: connect as a superuser"}
		if major < 12 { // promoted through its data directory
			as = s.ConnString()
			words[0] = "the trigger file cannot be written"
			r.must(os.Chmod(s.Dir, 0o500))
		}
		r.fails(1, words, "promote", "--conninfo", as, "--primary-conninfo", primary.ConnString())
		r.must(os.Chmod(s.Dir, 0o700))
		if paused, err := s.QueryString(r.ctx(), "SELECT pg_is_wal_replay_paused()::text"); err != nil || paused != "true" {
			t.Errorf("is replay still paused: %s, %v", paused, err)
		}
		if !r.recovers(s) {
			t.Error("it was promoted")
		}
		r.offersNothing()
		r.promote(s, "--primary-conninfo", primary.ConnString())
	}, 11, restoreMajor)
}

// The wrong cluster's archive.
func TestPromoteForeign(t *testing.T) {
	t.Parallel()
	r, other := newRig(t, restoreMajor), newRig(t, restoreMajor)
	r.lose(1, 0)
	s := r.laid("standby")
	r.must(s.Start(r.ctx()))
	stranger := other.start("stranger", nil)
	other.cut(stranger)
	other.refused(s, 1, []string{"of another cluster", "two different clusters"})
}

// With archive_mode = always a standby would archive the part of a segment that it is offered as a complete one.
func TestPromoteArchivesAlways(t *testing.T) {
	t.Parallel()
	r := newRig(t, restoreMajor)
	l := r.lose(1, 0)
	s := r.laid("standby")
	r.must(s.Configure(map[string]string{"archive_mode": "always"}))
	r.must(s.Start(r.ctx()))
	r.refused(s, 1, []string{"archive_mode = always", "hint: "}, "--primary-conninfo", l.primary.ConnString())
	r.never(l.last)
	r.must(s.Configure(map[string]string{"archive_mode": "on"}))
	r.must(s.Restart(r.ctx()))
	r.promote(s, "--primary-conninfo", l.primary.ConnString())
	if r.rows(s) != 2*rowsPerSegment {
		t.Errorf("%d rows", r.rows(s))
	}
	r.cut(s)
	r.never(l.last)
}

// A standby that has stopped its replay at a setting that is too low, which 14 and newer call paused, would shut down if it
// were resumed.
func TestReplayThatStoppedAtASettingIsNotContinued(t *testing.T) {
	t.Parallel()
	r := newRig(t, restoreMajor)
	primary := r.start("primary", map[string]string{"max_connections": "30"})
	r.must(primary.Exec(r.ctx(), ledgerTable))
	r.must(primary.Exec(r.ctx(), "CREATE ROLE watcher LOGIN REPLICATION IN ROLE pg_monitor"))
	r.must(primary.Exec(r.ctx(), "GRANT EXECUTE ON FUNCTION pg_wal_replay_resume() TO watcher"))
	r.backup(primary)
	s := r.laid("standby")
	r.must(s.Start(r.ctx()))
	r.must(primary.Configure(map[string]string{"max_connections": "60"}))
	r.must(primary.Restart(r.ctx()))
	r.must(primary.Exec(r.ctx(), "INSERT INTO ledger VALUES (1, 'x')"))
	r.cut(primary)
	r.must(s.WaitFor(r.ctx(), pgtest.Timeout, "the pause", func(ctx context.Context) (bool, error) {
		state, err := s.QueryString(ctx, "SELECT pg_get_wal_replay_pause_state()")
		return state == "paused", err
	}))
	r.must(primary.Stop(r.ctx(), pgtest.Fast))
	words := []string{"max_connections must be at least 60", "hint: set it in the standby's configuration and restart the standby"}
	r.fails(1, words, "continue", "--conninfo", s.ConnString()+" user=watcher")
	r.refused(s, 1, words, "--primary-conninfo", primary.ConnString())
	r.refused(s, 1, words, "--primary-conninfo", primary.ConnString(), "--force")
	r.must(s.Configure(map[string]string{"max_connections": "60"}))
	r.must(s.Restart(r.ctx()))
	r.promote(s, "--primary-conninfo", primary.ConnString())
	if r.rows(s) != 1 {
		t.Errorf("%d rows", r.rows(s))
	}
}
