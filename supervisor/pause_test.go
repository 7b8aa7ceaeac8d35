package main_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"walkeep/common/pgdata"
	"walkeep/common/pgtest"
	"walkeep/common/wal"
	"walkeep/supervisor/report"
)

// A standby that is paused shows the same for as long as it is, status and check say how far it is behind, and it continues
// when it is resumed.
func TestPause(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		r := newRig(t, major)
		c := r.fed()
		r.must(c.Exec(r.ctx(), "CREATE ROLE watcher LOGIN REPLICATION IN ROLE pg_monitor"))
		s := r.standby("standby", map[string]string{"archive_mode": "off"})
		r.follows(s, c)
		to := []string{"--conninfo", s.ConnString()}
		watcher := []string{"--conninfo", s.ConnString() + " user=watcher"}
		call := func(words string, args ...string) {
			t.Helper()
			if out := r.run(append(args, to...)...); !strings.Contains(out, words) {
				t.Errorf("%q says %q, want %q", args, out, words)
			}
		}
		lag := func(args ...string) *report.Replay {
			t.Helper()
			v := r.status(args...).Server
			if v == nil || v.Replay == nil || v.Replay.Lag == nil || v.Replay.Lag.Seconds == nil || v.Replay.Streaming == nil {
				t.Fatalf("the standby's state: got %+v", v)
			}
			return v.Replay
		}
		// What ends a segment is replayed a moment after the rows.
		caughtUp := func(args ...string) (got *report.Replay) {
			t.Helper()
			r.must(s.WaitFor(r.ctx(), pgtest.Timeout, "all to be replayed", func(context.Context) (bool, error) {
				got = lag(args...)
				return got.Lag.Bytes == 0, nil
			}))
			return got
		}
		if got := caughtUp(watcher...); got.Paused || *got.Streaming || got.Received != "" || *got.Lag.Seconds != 0 {
			t.Errorf("all is replayed: got %+v, %+v", got, got.Lag)
		}
		r.check(s, report.OK, []string{"standby_lag=0s;3600", "standby_lag_bytes=0B"})

		r.fails(1, []string{"not in recovery"}, "pause", "--conninfo", c.ConnString())
		r.fails(1, []string{"not in recovery"}, "continue", "--conninfo", c.ConnString())
		r.fails(1, []string{"watcher", "GRANT EXECUTE ON FUNCTION pg_wal_replay_pause()"}, append([]string{"pause"}, watcher...)...)
		r.fails(1, []string{"GRANT EXECUTE ON FUNCTION pg_wal_replay_resume()"}, append([]string{"continue"}, watcher...)...)
		r.fails(2, []string{"--wait"}, append([]string{"pause", "--wait", "0s"}, to...)...)

		call("replay is already going on, at 0/", "continue")
		call("replay is paused, at 0/", "pause")
		before := r.sum(s)
		at, err := s.CurrentLSN(r.ctx())
		r.must(err)
		r.load(c, 30, 3)
		r.cut(c)
		_, err = c.SwitchWAL(r.ctx())
		r.must(err)
		r.cut(c)
		call("replay is already paused, at "+at, "pause")
		if r.sum(s) != before {
			t.Error("the rows of a paused standby have changed")
		}
		got := lag(watcher...)
		if !got.Paused || got.Replayed != at || got.Lag.Bytes <= 0 || got.Lag.Segments < 1 || *got.Lag.Seconds <= 0 {
			t.Errorf("paused: got %+v, %+v", got, got.Lag)
		}
		r.check(s, report.Warning, []string{"behind", "its replay is paused"}, "--max-standby-lag", "1ns")
		if text := r.run(append([]string{"status"}, to...)...); !strings.Contains(text, "PAUSED, up to "+at) || !strings.Contains(text, "standby on timeline 1") {
			t.Errorf("status says\n%s", text)
		}
		r.must(s.WaitFor(r.ctx(), pgtest.Timeout, "the restartpoint's distance", func(context.Context) (bool, error) {
			n := r.status().Standbys
			return len(n) == 1 && n[0].Behind != nil && *n[0].Behind >= got.Lag.Segments, nil
		}))

		r.must(c.Exec(r.ctx(), "GRANT EXECUTE ON FUNCTION pg_wal_replay_resume() TO watcher"))
		call("replay is going on", "continue")
		r.follows(s, c)
		if got := caughtUp(to...); got.Paused || *got.Lag.Seconds != 0 {
			t.Errorf("all is replayed again: got %+v, %+v", got, got.Lag)
		}
		r.must(c.Exec(r.ctx(), "GRANT EXECUTE ON FUNCTION pg_wal_replay_pause() TO watcher"))
		r.follows(s, c)
		if out := r.run(append([]string{"pause"}, watcher...)...); !strings.Contains(out, "replay is paused") {
			t.Errorf("a role with the right: pause says %q", out)
		}
		if out := r.run(append([]string{"continue"}, watcher...)...); !strings.Contains(out, "replay is going on") {
			t.Errorf("a role with the right: continue says %q", out)
		}

		// Streaming.
		r.must(s.Stop(r.ctx(), pgtest.Fast))
		r.run("restore", "--standby", "--delta", "--target-dir", s.Dir, "--primary-conninfo", c.ConnString())
		r.must(s.Start(r.ctx()))
		r.load(c, 5, 4)
		now, err := c.CurrentLSN(r.ctx())
		r.must(err)
		r.must(s.WaitReplayed(r.ctx(), now))
		if got := lag(watcher...); !*got.Streaming || got.Received == "" || got.Lag.Bytes != 0 {
			t.Errorf("streaming: got %+v, %+v", got, got.Lag)
		}
		r.checkControl(s)

		// What it had of the segment that was completed without it is in the archive, and not worth keeping.
		r.must(s.Stop(r.ctx(), pgtest.Immediate))
		r.load(c, 5, 5)
		r.cut(c)
		if out := r.rejoined(s); !strings.Contains(out, "timeline 1 is the newest") {
			t.Errorf("rejoin says\n%s", out)
		}
		if kept, err := filepath.Glob(s.Path("pg_wal/walkeep.kept/*")); err != nil || len(kept) > 0 {
			t.Errorf("kept: %v, %v", kept, err)
		}
		r.follows(s, c)
	}, pgtest.Turns()...)
}

// checkControl holds what is read of a standby's control file against what its server reads.
func (r *rig) checkControl(s *pgtest.Cluster) {
	r.t.Helper()
	r.must(s.Checkpoint(r.ctx()))
	want, err := s.QueryString(r.ctx(), `SELECT concat_ws(' ', checkpoint_lsn, redo_lsn, timeline_id, min_recovery_end_lsn, min_recovery_end_timeline)
		FROM pg_control_checkpoint(), pg_control_recovery()`)
	r.must(err)
	c, err := pgdata.ReadControl(s.Dir)
	r.must(err)
	got := fmt.Sprintf("%s %s %d %s %d", c.Checkpoint, c.Redo, c.Timeline, c.MinRecovery, c.MinTimeline)
	if want = wal.ShortLSNs(want); got != want || c.MinRecovery == 0 || c.State != 5 { // in archive recovery
		r.t.Errorf("the control file: got %s, state %d, want %s", got, c.State, want)
	}
}
