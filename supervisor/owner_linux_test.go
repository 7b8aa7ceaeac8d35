package main_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"walkeep/common/archive"
	"walkeep/common/notes"
	"walkeep/common/pgtest"
	"walkeep/common/storage/local"
)

// asRoot calls supervisor as root, which may fail: what it leaves is what counts.
func (r *rig) asRoot(args ...string) string {
	r.t.Helper()
	cmd := r.command(args...)
	root := exec.CommandContext(r.ctx(), cmd.Path, cmd.Args[1:]...)
	root.Env = cmd.Env
	out, err := root.CombinedOutput()
	if err != nil {
		r.t.Logf("supervisor %q as root: %v\n%s", args, err, out)
	}
	return string(out)
}

// owned checks that all of the spool belongs to the server's user.
func (r *rig) owned(what string) {
	r.t.Helper()
	want, _ := owner(r.t, r.spool)
	r.must(filepath.WalkDir(r.spool, func(file string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if uid, _ := owner(r.t, file); uid != want {
			r.t.Errorf("%s: %s belongs to user %d, not %d", what, file, uid, want)
		}
		return nil
	}))
}

// The server's user can continue with the files of a command that root called first, and root with those of the server's user.
func TestRootAndServerUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can be root")
	}
	r := newRig(t, 15)
	c := r.start("primary", map[string]string{"archive_command": "false"})
	at := []string{"--conninfo", c.ConnString()}
	// The archive does not exist yet, and root makes it.
	r.asRoot(append([]string{"backup", "--archive-timeout", "1ms"}, at...)...)
	r.owned("a backup by root that fails")
	r.archive(c, true)
	r.cut(c)
	r.asRoot(append([]string{"backup"}, at...)...)
	r.owned("a backup by root")
	r.cut(c)
	target := filepath.Join(r.dir, "standby")
	r.mkdir(target)
	r.asRoot("restore", "--standby", "--target-dir", target)
	r.owned("a standby restored by root")
	r.asRoot("drill")
	r.owned("a drill by root")
	r.asRoot("cleanup", "--keep-backups", "1")
	r.owned("a cleanup by root")
	r.backup(c)
	r.run("cleanup", "--keep-backups", "1")
	r.run("check")

	// Root streams: notes, the segment that is open, and its lock.
	sync := exec.CommandContext(r.ctx(), r.command().Path, append(slices.Clone(r.command().Args[1:]), append([]string{"sync"}, at...)...)...)
	r.must(sync.Start())
	r.must(c.WaitFor(r.ctx(), pgtest.Timeout, "a part of a segment", r.someFile("partial/*.partial")))
	r.must(c.WaitFor(r.ctx(), pgtest.Timeout, "the note of the stream", r.someFile("streams/*.json")))
	r.owned("a stream by root")
	r.must(sync.Process.Signal(os.Interrupt))
	sync.Wait()
	r.owned("a stream by root that has ended")

	// While root holds a lease, the server's user reads it.
	b, err := local.Open(r.spool)
	r.must(err)
	held, err := archive.New(b).Notes().Hold(r.ctx(), notes.Lease{Kind: "restore", Renewed: time.Now()})
	r.must(err)
	r.owned("a lease of root")
	r.backup(c)
	r.run("list")
	r.run("cleanup", "--keep-backups", "1")
	r.must(held.Release())
}

// What root restores can be started by the server's user: also the parents of a tablespace's new place, which root makes.
func TestRootRestores(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can be root")
	}
	r, _, _, _ := archived(t, restoreMajor)
	want, _ := owner(t, r.spool)
	target, space := filepath.Join(r.dir, "restored"), filepath.Join(r.dir, "space")
	r.mkdir(target)
	closed := filepath.Join(r.dir, "closed")
	r.must(os.Mkdir(closed, 0o700))
	out := r.asRoot("restore", "--target-dir", target, "--tablespace-map", space+"="+filepath.Join(closed, "sub/again"))
	if !strings.Contains(out, "cannot enter "+closed) {
		t.Errorf("into a directory that the server's user cannot enter: %s", out)
	}
	if left, err := os.ReadDir(target); err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
	disk := filepath.Join(r.dir, "newdisk")
	r.asRoot("restore", "--target-dir", target, "--tablespace-map", space+"="+filepath.Join(disk, "pg/again"))
	for _, dir := range []string{target, disk} {
		r.must(filepath.WalkDir(dir, func(file string, _ fs.DirEntry, err error) error {
			if err == nil {
				if uid, _ := owner(t, file); uid != want {
					t.Errorf("%s belongs to user %d", file, uid)
				}
			}
			return err
		}))
	}
	c := r.open(target)
	r.must(c.Start(r.ctx()))
	r.must(c.WaitOpen(r.ctx()))
}

// Whatever other users have made where drills make their scratch directories, it is neither touched nor in the way; and
// without a word about the place, that is the user's own.
func TestDrillAmongOthers(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can make files of other users")
	}
	r, _, _, _ := archived(t, restoreMajor)
	victim := filepath.Join(r.dir, "victim")
	r.mkdir(victim)
	const other = 65533
	at := func(name string) string { return filepath.Join(r.dir, "walkeep-drill-"+name) }
	for _, name := range []string{"0", "fifo", "link"} {
		r.must(os.Mkdir(at(name), 0o777))
		r.must(os.Chmod(at(name), 0o777))
	}
	r.must(os.WriteFile(filepath.Join(at("0"), "lock"), nil, 0o666))
	r.must(os.Chmod(filepath.Join(at("0"), "lock"), 0o666))
	r.must(syscall.Mkfifo(filepath.Join(at("fifo"), "lock"), 0o666))
	r.must(os.Symlink(victim, filepath.Join(at("link"), "lock")))
	r.must(os.Symlink(victim, at("directory")))
	for _, name := range []string{"0", "0/lock", "fifo", "fifo/lock", "link", "link/lock", "directory"} {
		r.must(os.Lchown(at(name), other, other))
	}
	r.drill(0)
	for _, name := range []string{"0/lock", "fifo/lock", "link/lock", "directory"} {
		if _, err := os.Lstat(at(name)); err != nil {
			t.Error(err)
		}
	}

	// Its own leftovers go, also those of which nobody can say what they are.
	own, left := at("own"), at("left")
	r.mkdir(own)
	r.must(pgtest.Command(r.ctx(), "mkfifo", filepath.Join(own, "lock")).Run())
	r.mkdir(left)
	r.must(pgtest.Command(r.ctx(), "touch", filepath.Join(left, "lock")).Run())
	r.drill(0)
	if _, err := os.Lstat(left); err == nil {
		t.Error("what an earlier drill has left is there")
	}

	home := filepath.Join(r.dir, "home")
	r.mkdir(home)
	bindir, err := pgtest.Bindir(r.major)
	r.must(err)
	cmd := r.command("drill", "--bindir", bindir, "--conninfo", "user=postgres", "--target-immediate")
	cmd.Env = append(slices.DeleteFunc(cmd.Env, func(v string) bool { return strings.HasPrefix(v, "HOME=") || strings.HasPrefix(v, "TMPDIR=") }), "HOME="+home)
	var opened []string
	r.must(cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for running := true; running; {
		select {
		case err := <-ended:
			r.must(err)
			running = false
		case <-time.After(time.Millisecond):
			if there, _ := filepath.Glob(home + "/walkeep-drill-*"); len(there) > 0 {
				opened = there
			}
		}
	}
	if len(opened) != 1 {
		t.Errorf("the scratch directory was not in the home directory: %v", opened)
	}
}
