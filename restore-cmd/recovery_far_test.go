package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walkeep/common/pgtest"
)

// moveFar makes the servers that recover from now on those of another host, which has an empty spool. The rig's spool is its
// repository.
func (r *rig) moveFar() {
	r.t.Helper()
	dir := pgtest.TempDir(r.t)
	r.must(pgtest.Command(r.ctx(), "mkdir", "-m", "700", filepath.Join(dir, "spool")).Run()) // by the servers' user
	r.far = filepath.Join(dir, "walkeep.ini")
	content := "spool = " + filepath.Join(dir, "spool") + "\n[repository near]\nurl = file://" + r.spool + "\n"
	r.must(os.WriteFile(r.far, []byte(content), 0o644))
}

// someTurns runs a test against some of the versions with which recovery changed.
func someTurns(t *testing.T, test func(r *rig)) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) { test(newRig(t, small(major))) }, pgtest.MinMajor, 15, pgtest.MaxMajor)
}

// TestRecoveryFar recovers on another host from a repository: to points on the way, to the end, and along timelines that fork.
func TestRecoveryFar(t *testing.T) {
	someTurns(t, func(r *rig) {
		h := r.live()
		r.moveFar()
		r.replay(h)
		r.fork(h)
		if files, err := filepath.Glob(filepath.Join(filepath.Dir(r.far), "spool", "wal", "*")); err != nil || len(files) > 0 {
			r.t.Errorf("got %q (%v) in the archive of the spool, want none", files, err)
		}
	})
}

// TestRecoveryFarStandby has a standby on another host follow through a repository, over a hole that comes and goes.
func TestRecoveryFarStandby(t *testing.T) {
	someTurns(t, func(r *rig) {
		primary := r.start("primary")
		r.load(primary, 40, 1)
		backup := r.backUp(primary)
		r.moveFar()
		standby := r.standby(backup, "standby", nil)
		r.load(primary, 40, 2)
		r.mustFollow(standby, primary)
		r.passHole(primary, standby)
		if log := standby.Log(); !strings.Contains(log, "is delivered from fetched/") {
			r.t.Errorf("nothing was delivered from fetched/:\n%s", standby.LogTail(40))
		}
	})
}
