package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"walkeep/common/cmdtest"
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
		cmd := cmdtest.Through(r.command(args...), "strace", trace...)
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
