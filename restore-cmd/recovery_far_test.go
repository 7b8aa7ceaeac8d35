package main_test

import (
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"walkeep/common/account"
	"walkeep/common/cmdtest"
	"walkeep/common/pgdata"
	"walkeep/common/pgtest"
	"walkeep/common/storage/faultproxy"
	"walkeep/common/wal"
)

// moveFar makes the servers that recover from now on those of another host, which has an empty spool. The rig's spool is its
// repository, directly or by way of the bucket.
func (r *rig) moveFar(b *bucket) {
	r.t.Helper()
	dir := pgtest.TempDir(r.t)
	r.must(pgtest.Mkdir(filepath.Join(dir, "spool")))
	r.far = filepath.Join(dir, "walkeep.ini")
	section := "[repository near]\nurl = file://" + r.spool + "\n"
	if b != nil {
		section = b.section
	}
	r.must(os.WriteFile(r.far, []byte("spool = "+filepath.Join(dir, "spool")+"\n"+section), 0o644))
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
		r.moveFar(nil)
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
		r.moveFar(nil)
		standby := r.standby(backup, "standby", nil)
		r.load(primary, 40, 2)
		r.mustFollow(standby, primary)
		r.passHole(primary, standby)
		if log := standby.Log(); !strings.Contains(log, "is delivered from fetched/") {
			r.t.Errorf("nothing was delivered from fetched/:\n%s", standby.LogTail(40))
		}
	})
}

// give makes the servers' user the owner of a directory and of all that is in it.
func (r *rig) give(dir string) {
	r.t.Helper()
	owner, err := account.OwnerOf(dir)
	r.must(err)
	entries, err := os.ReadDir(dir)
	r.must(err)
	for _, e := range entries {
		r.must(owner.Give(filepath.Join(dir, e.Name())))
	}
}

// inBucket has the spool's content shipped to a bucket while the test runs, which is the repository of another host.
func (r *rig) inBucket() *bucket {
	r.t.Helper()
	dir := pgtest.TempDir(r.t)
	b := newBucket(r.t, "far", dir)
	file := filepath.Join(dir, "near.ini")
	r.must(os.WriteFile(file, []byte("spool = "+r.spool+"\nspool-keep = 100GB\n"+b.direct), 0o644))
	r.give(dir)
	run := pgtest.Command(r.t.Context(), cmdtest.Path("supervisor"), "-c", file, "run")
	r.must(run.Start())
	r.t.Cleanup(func() { pgtest.KillTree(run) })
	return b
}

// TestRecoveryBucket has a standby on another host follow through a bucket, and a recovery from there run to its end although the
// network fails again and again: the server stops where it cannot be known what there is, and opens with all that was archived.
func TestRecoveryBucket(t *testing.T) {
	someTurns(t, func(r *rig) {
		primary := r.start("primary")
		r.load(primary, 40, 1)
		backup := r.backUp(primary)
		b := r.inBucket()
		r.moveFar(b)
		standby := r.standby(backup, "standby", nil)
		for seed := range uint64(4) {
			r.load(primary, 40, 2+seed)
			r.mustFollow(standby, primary)
		}
		want := r.state(primary)
		r.must(standby.Stop(r.ctx(), pgtest.Fast))
		r.must(primary.Kill())

		random := rand.New(rand.NewPCG(uint64(r.major), 0))
		disturbed := 0
		b.Do(func(n int, _ *http.Request) faultproxy.Fault {
			// The long run alone disturbs the network, because luck decides how often the server stops.
			if os.Getenv("WALKEEP_LONG") == "" || random.IntN(25) > 0 {
				return faultproxy.None
			}
			disturbed++
			return []faultproxy.Fault{faultproxy.Reset, faultproxy.Status500, faultproxy.CutAnswer, faultproxy.ForeignPage}[random.IntN(4)]
		})
		c := r.copyOf(backup, "recovered")
		r.must(c.Recover(r.settings(map[string]string{"recovery_target_timeline": "latest"})))
		stops := 0
		for ; stops < 20; stops++ {
			if r.must(c.Launch()); c.WaitOpen(r.ctx()) == nil {
				break
			}
			if log := c.Log(); strings.Contains(log, "archive recovery complete") {
				r.t.Fatalf("recovery ended:\n%s", c.LogTail(40))
			}
		}
		r.wantState(c, want)
		r.t.Logf("%d requests were disturbed, the server stopped %d times", disturbed, stops)
	})
}

// TestRecoveryFarRewind has pg_rewind fetch WAL that the old primary no longer has: backwards, in its own working directory.
func TestRecoveryFarRewind(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		r := newRig(t, small(major))
		old := r.start("old")
		r.must(old.Configure(map[string]string{"wal_log_hints": "on"}))
		r.must(old.Restart(r.ctx()))
		r.load(old, 40, 1)
		backup := r.backUp(old)
		promoted := r.standby(backup, "promoted", map[string]string{"archive_mode": "on"})
		r.mustFollow(promoted, old)
		r.must(promoted.Promote(r.ctx()))
		r.load(promoted, 20, 2)
		want := r.state(promoted)
		r.cut(promoted)
		for seed := range uint64(4) { // the old one goes on
			r.load(old, 20, 3+seed)
			r.cut(old)
		}
		r.must(old.Stop(r.ctx(), pgtest.Fast))
		r.must(promoted.Stop(r.ctx(), pgtest.Fast))
		r.moveFar(nil)
		// pg_rewind refuses a restore_command with %r.
		r.must(old.Configure(map[string]string{"restore_command": strings.TrimSuffix(r.restoreCommand(), " %r")}))
		kept, err := filepath.Glob(old.Path("pg_wal/00000001*"))
		r.must(err)
		slices.Sort(kept)
		last := len(kept) - 1
		for last > 0 && !isLastSegment(t, old, kept[last]) {
			last--
		}
		for _, file := range kept[:last] {
			r.must(os.Remove(file))
		}
		rewind, err := pgtest.Tool(major, "pg_rewind")
		r.must(err)
		out, err := pgtest.Command(r.ctx(), rewind, "-c", "--target-pgdata", old.Dir, "--source-pgdata", promoted.Dir).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "is delivered from fetched/") {
			t.Fatalf("pg_rewind: %v\n%s", err, out)
		}
		r.must(promoted.Start(r.ctx()))
		r.must(old.Standby(r.settings(map[string]string{"primary_conninfo": promoted.ConnString()})))
		r.must(old.Start(r.ctx()))
		at, err := promoted.CurrentLSN(r.ctx())
		r.must(err)
		r.must(old.WaitReplayed(r.ctx(), at))
		r.wantState(old, want)
	}, 15, 18)
}

// isLastSegment reports whether a file in pg_wal is the one with the last checkpoint of a server that was shut down, so that
// later ones are only prepared for it.
func isLastSegment(t *testing.T, c *pgtest.Cluster, file string) bool {
	t.Helper()
	control, err := pgdata.ReadControl(c.Dir)
	if err != nil {
		t.Fatal(err)
	}
	size, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Base(file) == wal.SegmentAt(control.Timeline, control.Checkpoint, wal.SegmentSize(size.Size())).String()
}
