package main_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walkeep/common/cmdtest"
	"walkeep/common/pgtest"
)

// TestRecoveryLeavesDeadBranch lets a primary continue, and archive, after a standby was promoted. A server that follows the newest
// timeline comes to that, and never replays what the old primary wrote behind the point where it was left.
func TestRecoveryLeavesDeadBranch(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		r := newRig(t, small(major))
		primary := r.start("primary")
		backup := r.backUp(primary)
		follows := map[string]string{"recovery_target_timeline": "latest"}
		late := r.standby(backup, "late", follows) // is there before the fork, and gets to it when all has happened
		r.load(primary, 20, 1)
		r.mustFollow(late, primary)
		r.must(late.Exec(r.ctx(), "SELECT pg_wal_replay_pause()"))

		promoted := r.standby(backup, "promoted", map[string]string{"archive_mode": "on"})
		r.load(primary, 20, 2)
		r.mustFollow(promoted, primary)
		common := r.state(promoted)
		r.must(promoted.Promote(r.ctx()))
		r.object(promoted, "00000002.history")
		for i := range 3 { // whole segments that nobody should want
			r.must(primary.Exec(r.ctx(), "INSERT INTO mark VALUES ('of the dead branch')"))
			r.load(primary, 5, 10+uint64(i))
			r.cut(primary)
		}
		dead := r.state(primary)

		r.must(late.Exec(r.ctx(), "SELECT pg_wal_replay_resume()"))
		r.waitLog(late, "lies behind the point where its timeline was left", 2)
		r.wantState(late, common)
		c := r.copyOf(backup, "oneshot")
		r.must(c.Recover(r.settings(follows)))
		r.must(c.Launch())
		r.must(c.WaitExit(r.ctx(), pgtest.Timeout))
		if log := c.Log(); !strings.Contains(log, "lies behind the point where its timeline was left") || strings.Contains(log, "archive recovery complete") {
			t.Errorf("a recovery to the newest timeline, of which nothing is archived:\n%s", c.LogTail(20))
		}
		r.must(os.RemoveAll(c.Dir))

		r.load(promoted, 20, 3)
		r.mustFollow(late, promoted)
		want := r.state(promoted)
		r.must(late.Stop(r.ctx(), pgtest.Immediate))
		r.must(late.Start(r.ctx()))
		r.mustFollow(late, promoted)

		c = r.recovered(backup, "latest", 3, follows)
		r.wantState(c, want)
		r.remove(c)
		for _, timeline := range []string{"1", "current"} {
			if timeline == "current" && major < 12 {
				timeline = "" // the default
			}
			c := r.copyOf(backup, "old"+timeline)
			settings := r.settings(map[string]string{"recovery_target_timeline": timeline})
			if timeline == "" {
				delete(settings, "recovery_target_timeline")
			}
			r.must(c.Recover(settings))
			r.mustOpen(c, 3)
			r.wantState(c, dead)
			r.remove(c)
		}
		r.mustServeRewind(primary)
	}, 11, 12, 15, pgtest.MaxMajor) // each way to say what is recovered
}

// mustServeRewind has restore-cmd deliver the segments of the first timeline as pg_rewind asks for them: under their own
// names, while the server is down.
func (r *rig) mustServeRewind(c *pgtest.Cluster) {
	r.t.Helper()
	r.must(c.Stop(r.ctx(), pgtest.Fast))
	for _, name := range r.segments(1) {
		path := filepath.Join(c.Dir, "pg_wal", name)
		r.must(os.RemoveAll(path))
		cmd := pgtest.Command(context.Background(), cmdtest.Path("restore-cmd"), "-c", os.DevNull, "--spool", r.spool, name, path)
		cmd.Dir = c.Dir
		cmdtest.Run(r.t, cmd).Expect(r.t, 0)
	}
}
