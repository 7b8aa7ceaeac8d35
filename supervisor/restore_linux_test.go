package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"walkeep/common/cmdtest"
	"walkeep/common/pgtest"
)

// A restore that completes an interrupted one, and is killed while it marks the directory as its own, leaves one that can
// still be completed.
func TestRestoreKilledAgain(t *testing.T) {
	t.Parallel()
	cmdtest.NeedStrace(t)
	r, _, _, _ := archived(t, restoreMajor)
	dir := filepath.Join(r.dir, "restored")
	marker := filepath.Join(dir, "walkeep.restore")
	args := []string{"restore", "--target-dir", dir, "--tablespace-map", filepath.Join(r.dir, "space") + "=" + filepath.Join(r.dir, "again"), "--delta"}
	killed := func(at string, more ...string) {
		t.Helper()
		log := filepath.Join(r.dir, "strace.log")
		trace := append([]string{"-f", "-qq", "-o", log, "-e", "trace=" + at, "-e", "inject=" + at + ":signal=KILL:when=1"}, more...)
		cmd := cmdtest.Traced(t, r.command(args...), trace...)
		err := cmd.Run()
		exit, ok := err.(*exec.ExitError)
		if !ok || exit.Success() {
			t.Fatalf("killed at %s: got %v", at, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "global", "pg_control")); err == nil {
			t.Fatalf("killed at %s: there is a control file", at)
		}
	}
	killed("utimensat") // when the first file is done
	for _, at := range []string{"pwrite64", "ftruncate", "fsync"} {
		killed(at, "-P", marker)
	}
	r.run(args...)
	if _, err := os.Stat(marker); err == nil {
		t.Error("the mark of a restore is left")
	}
	r.verifyBackup(dir)
}

// A server in another container, whose process cannot be seen from here, is not overwritten.
func TestRestoreBesideContainer(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can make a PID namespace")
	}
	r := newRig(t, pgtest.MaxMajor)
	c := r.start("primary", nil)
	r.backup(c)
	uid, gid := owner(t, r.spool)
	contained := func(args ...string) ([]byte, error) {
		cmd := r.command(args...)
		in := []string{"--pid", "--fork", "--mount-proc", "--setuid", fmt.Sprint(uid), "--setgid", fmt.Sprint(gid), cmd.Path}
		return exec.CommandContext(r.ctx(), "unshare", append(in, cmd.Args[1:]...)...).CombinedOutput()
	}
	for _, args := range [][]string{{"restore", "--delta", "--target-dir", c.Dir}, {"rejoin", "--pgdata", c.Dir}} {
		if out, err := contained(args...); err == nil || !strings.Contains(string(out), "is in use by the server that listens") {
			t.Fatalf("%q beside the server: %v\n%s", args, err, out)
		}
	}
	r.must(c.Kill()) // leaves the files that say that it runs
	if out, err := contained("restore", "--delta", "--target-dir", c.Dir); err != nil {
		t.Errorf("restore after the server's end: %v\n%s", err, out)
	}
}
