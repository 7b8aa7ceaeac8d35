package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"walkeep/common/cmdtest"
	"walkeep/common/pgtest"
)

// An archive that cannot be written to, because it is mounted read-only, somebody else's, or full, can be looked at and
// restored from.
func TestUnwritableArchive(t *testing.T) {
	t.Parallel()
	r := newRig(t, 15)
	c := r.start("primary", nil)
	r.must(c.Exec(r.ctx(), "CREATE TABLE elsewhere (n int)"))
	r.load(c, 5, 1)
	r.backup(c)
	want := r.sum(c)
	r.cut(c)
	r.must(c.Stop(r.ctx(), pgtest.Fast)) // it archives nothing from now on
	look := func(t *testing.T, r *rig) {
		t.Helper()
		name := filepath.Base(t.Name())
		dir := filepath.Join(r.dir, name)
		out, err := r.command("restore", "--target-dir", dir).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "the lease cannot be written to the archive") {
			t.Fatalf("restore: %v\n%s", err, out)
		}
		r.opens(r.open(dir), want)
		standby := filepath.Join(r.dir, name+"-standby")
		if out, err := r.command("restore", "--standby", "--target-dir", standby).CombinedOutput(); err != nil || !strings.Contains(string(out), "the WAL that the standby needs cannot be noted") {
			t.Errorf("restore --standby: %v\n%s", err, out)
		}
		s := r.open(standby)
		r.must(s.Start(r.ctx()))
		r.must(s.Stop(r.ctx(), pgtest.Fast))
		r.drill(0)
		r.run("list")
		r.run("check")
		r.run("status")
		r.run("verify", "--deep")
		r.run("cleanup", "--dry-run", "--keep-backups", "1")
	}
	t.Run("modes", func(t *testing.T) {
		r := r.in(t)
		if out, err := exec.Command("chmod", "-R", "a-w", r.spool).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		defer exec.Command("chmod", "-R", "u+w", r.spool).Run()
		look(t, r)
	})
	t.Run("read-only", func(t *testing.T) {
		r := r.in(t)
		if os.Geteuid() != 0 {
			t.Skip("only root can mount")
		}
		mounted := filepath.Join(r.dir, "mounted")
		r.mkdir(mounted)
		r.must(syscall.Mount(r.spool, mounted, "", syscall.MS_BIND, ""))
		defer syscall.Unmount(mounted, syscall.MNT_DETACH)
		r.must(syscall.Mount("", mounted, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
		r.spool = mounted
		look(t, r)
	})
	t.Run("full", func(t *testing.T) {
		r := r.in(t)
		disk := cmdtest.SmallDisk(t, 64<<20)
		spool := filepath.Join(disk, "spool")
		if out, err := exec.Command("cp", "-a", r.spool, spool).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		r.must(os.Chmod(disk, 0o755))
		cmdtest.FillDisk(t, disk, 0)
		r.spool = spool
		look(t, r)
	})
}
