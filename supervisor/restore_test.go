package main_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"walkeep/common/pgtest"
)

const restoreMajor = 15

// archived is a rig with a cluster that has a tablespace, a backup of it, and WAL after that.
func archived(t *testing.T, major int) (r *rig, c *pgtest.Cluster, space, want string) {
	t.Helper()
	r = newRig(t, major)
	c = r.start("primary", nil)
	space = filepath.Join(r.dir, "space")
	r.mkdir(space)
	r.must(c.Exec(r.ctx(), "CREATE TABLESPACE aside LOCATION '"+space+"'"))
	r.must(c.Exec(r.ctx(), "CREATE TABLE elsewhere (n int) TABLESPACE aside"))
	r.must(c.Exec(r.ctx(), "INSERT INTO elsewhere SELECT generate_series(1, 1000)"))
	r.load(c, 20, 1)
	r.backup(c)
	r.load(c, 20, 2)
	_, err := c.CreateRestorePoint(r.ctx(), "here")
	r.must(err)
	want = r.sum(c)
	r.load(c, 20, 3)
	r.cut(c)
	return r, c, space, want
}

// A restore that is killed at any time leaves a directory that does not start, and that the next one completes.
func TestRestoreKilled(t *testing.T) {
	t.Parallel()
	r, _, space, want := archived(t, restoreMajor)
	dir := filepath.Join(r.dir, "restored")
	args := []string{"restore", "--target-dir", dir, "--tablespace-map", space + "=" + space + "-restored", "--target-name", "here", "--target-action", "promote"}
	r.run(args...)
	to := r.open(dir)
	base := filepath.Join(dir, "base")
	files, err := filepath.Glob(filepath.Join(base, "*", "*"))
	r.must(err)
	killed := 0
	for wait := time.Duration(0); wait < time.Second; wait += 15 * time.Millisecond {
		r.must(os.RemoveAll(base)) // so that each has something to do
		cmd := r.command(append(args, "--delta")...)
		r.must(cmd.Start())
		timer := time.AfterFunc(wait, func() { cmd.Process.Kill() })
		err := cmd.Wait()
		timer.Stop()
		if err == nil {
			break
		}
		if cmd.ProcessState.ExitCode() != -1 {
			t.Fatalf("restore failed by itself: %v", err)
		}
		killed++
		mark, marked := os.Stat(filepath.Join(dir, "walkeep.restore"))
		_, control := os.Stat(filepath.Join(dir, "global", "pg_control"))
		left, err := filepath.Glob(filepath.Join(base, "*", "*"))
		r.must(err)
		// With a control file nothing has been restored yet, or all.
		if control == nil && len(left) > 0 && len(left) < len(files) {
			t.Fatalf("killed after %s: %d of %d files are there, and a control file", wait, len(left), len(files))
		}
		if marked == nil && mark.Size() > 0 { // before it has changed anything, it only holds the directory
			r.fails(1, []string{"interrupted restore", "--delta"}, args...)
		}
	}
	t.Logf("killed %d times", killed)
	if killed < 3 {
		t.Errorf("only %d restores were killed", killed)
	}
	r.run(append(args, "--delta")...)
	if _, err := os.Stat(filepath.Join(dir, "walkeep.restore")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the mark of a restore is left (%v)", err)
	}
	r.verifyBackup(dir)
	r.must(to.Configure(map[string]string{"archive_mode": "off"}))
	r.opens(to, want)
}

// With --start the command says how recovery has ended, and why where it has failed.
func TestRestoreStart(t *testing.T) {
	t.Parallel()
	for _, major := range []int{11, restoreMajor} {
		t.Run("", func(t *testing.T) {
			r, c, space, want := archived(t, major)
			r.must(c.Stop(r.ctx(), pgtest.Fast)) // the restored server listens where this one did
			dir := filepath.Join(r.dir, "the `server`'s \"$HOME\" \\ 100%")
			restore := func(more ...string) []string {
				return append([]string{"restore", "--conninfo", "user=postgres", "--bindir", c.Bindir(), "--start", "--delta", "--target-dir", dir,
					"--target-timeline", "1", "--tablespace-map", space + "=" + space + "-restored"}, more...)
			}
			stop := func() {
				t.Helper()
				r.must(pgtest.Command(r.ctx(), filepath.Join(c.Bindir(), "pg_ctl"), "-D", dir, "-m", "immediate", "-w", "stop").Run())
			}
			line := ""
			for _, l := range strings.Split(r.run("restore", "--bindir", c.Bindir(), "--target-dir", dir, "--tablespace-map", space+"="+space+"-restored"), "\n") {
				if command, ok := strings.CutPrefix(l, "start it as the user who owns it: "); ok {
					line = command
				}
			}
			if out, err := pgtest.Command(r.ctx(), "sh", "-c", line+" > "+filepath.Join(r.dir, "out")+" 2>&1").CombinedOutput(); err != nil {
				t.Errorf("the command %s does not start the server: %v %s", line, err, out)
			}
			stop()
			for _, s := range []struct {
				words string
				args  []string
			}{
				{"is paused there", []string{"--target-name", "here"}},
				{"the database is open", []string{"--target-name", "here", "--target-action", "promote"}},
				{"has shut down", []string{"--target-name", "here", "--target-action", "shutdown"}},
				{"the database is open", nil},
			} {
				out := r.run(restore(s.args...)...)
				if !strings.Contains(out, s.words) {
					t.Errorf("with %q: got %q, want %q", s.args, out, s.words)
				}
				if s.words == "has shut down" {
					continue
				}
				if s.args != nil {
					to, err := pgtest.Open(dir)
					r.must(err)
					if got := r.sum(to); got != want {
						t.Errorf("with %q: the rows are not what they were at the target", s.args)
					}
				}
				r.fails(1, []string{"is in use"}, restore(s.args...)...)
				stop()
			}
			r.fails(1, []string{"FATAL:", "walkeep.start.log"}, restore("--restore-command", "exit 200")...)
		})
	}
}

// restore refuses what it cannot do before it has written anything.
func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	r, c, space, _ := archived(t, restoreMajor)
	dir := filepath.Join(r.dir, "restored")
	for _, call := range []struct {
		code  int
		words []string
		args  []string
	}{
		{2, []string{"only one target", "--target-xid", "--target-lsn"}, []string{"--target-xid", "800", "--target-lsn", "0/3000000"}},
		{2, []string{"--target-exclusive"}, []string{"--target-exclusive"}},
		{2, []string{"--target-time", "yesterday"}, []string{"--target-time", "yesterday"}},
		{2, []string{"--target-xid"}, []string{"--target-xid", "2"}},
		{2, []string{"--target-timeline"}, []string{"--target-timeline", "newest"}},
		{2, []string{"--target-action pause"}, []string{"--target-action", "pause"}},
		{2, []string{"OLD=NEW"}, []string{"--tablespace-map", "x"}},
		{2, []string{"absolute"}, []string{"--tablespace-map", space + "=x"}},
		{2, []string{"no tablespace there", space}, []string{"--tablespace-map", "/nowhere=/x"}},
		{1, []string{"nowhere"}, []string{"--target-name", "nowhere", "--tablespace-map", space + "=" + space + "-restored"}},
		{1, []string{"20200101T000000Z"}, []string{"20200101T000000Z"}},
		{1, []string{"is not empty"}, nil},                                                // the tablespace
		{1, []string{"is in use"}, []string{"--target-dir", c.Dir, "--delta"}},            // the data directory
		{1, []string{"is in use"}, []string{"--target-dir", c.Dir}},                       // likewise
		{1, []string{"not a data directory"}, []string{"--target-dir", r.dir, "--delta"}}, // what is around it
		{1, []string{"programs were not found"}, []string{"--start", "--bindir", r.dir + "/no", "--tablespace-map", space + "=" + space + "-restored"}},
	} {
		r.fails(call.code, call.words, append([]string{"restore", "--target-dir", dir}, call.args...)...)
		for _, made := range []string{dir, space + "-restored"} {
			if _, err := os.Lstat(made); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%q: %s is there (%v)", call.args, made, err)
			}
		}
	}
	leases, err := filepath.Glob(filepath.Join(r.spool, "leases", "*.json"))
	if err != nil || len(leases) > 0 {
		t.Errorf("leases are left: %v, %v", leases, err)
	}
}
