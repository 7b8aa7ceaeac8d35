package main_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"walkeep/common/cmdtest"
	"walkeep/common/pgtest"
)

// kills is how often a command is killed.
func kills(t *testing.T) int {
	t.Helper()
	text := os.Getenv("WALKEEP_KILLS")
	if text == "" {
		return 200
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestKilled kills backups, restores and cleanups at random moments. Each time the archive verifies, and in the end, as
// now and then on the way, all of them succeed, and what is restored has every row.
func TestKilled(t *testing.T) {
	t.Parallel()
	r := newRig(t, pgtest.MaxMajor)
	c := r.start("primary", nil)
	r.must(c.Exec(r.ctx(), "CREATE TABLE elsewhere (n int)"))
	random := cmdtest.Rand(t)
	dir := filepath.Join(r.dir, "restored")
	calls := [][]string{
		{"backup", "--conninfo", c.ConnString()},
		{"restore", "--target-dir", dir, "--delta"},
		{"cleanup", "--keep-backups", "1"},
	}
	r.load(c, 20, 1)
	r.backup(c)
	took := make([]time.Duration, len(calls)) // of the last call that was left to itself
	for i := range took {
		took[i] = 500 * time.Millisecond
	}
	for i := range kills(t) {
		which := i % len(calls)
		if i%20 == 0 {
			r.load(c, 5, uint64(100+i))
		}
		r.kill(random, took[which], calls[which]...)
		r.run("verify")
		if i%15 != 14 {
			continue
		}
		for which, call := range calls {
			begun := time.Now()
			r.run(call...)
			took[which] = time.Since(begun)
		}
	}
	r.cut(c)
	want := r.sum(c)
	r.must(c.Kill())
	for _, call := range calls[1:] {
		r.run(call...)
	}
	r.run("verify", "--deep")
	if got := r.leases(); len(got) > 0 {
		t.Errorf("leases are left: %q", got)
	}
	r.opens(r.open(dir), want)
}

// kill calls supervisor and kills it at any moment of the time that it usually takes.
func (r *rig) kill(random *rand.Rand, usually time.Duration, args ...string) {
	r.t.Helper()
	cmd := r.command(args...)
	r.must(cmd.Start())
	after := time.Duration(random.Int64N(int64(usually)))
	timer := time.AfterFunc(after, func() { cmd.Process.Kill() })
	defer timer.Stop()
	if err := cmd.Wait(); err != nil && cmd.ProcessState.ExitCode() != -1 {
		r.t.Fatal(fmt.Errorf("supervisor %q, to be killed after %s, failed by itself: %w", args, after, err))
	}
}
