package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"walkeep/common/pgtest"
)

// drilled is the output of drill --json.
type drilled struct {
	OK    bool
	Error string
	// Where the WAL begins that was not replayed, and why.
	UntriedFrom string `json:"untried_from"`
	Untried     string
	Steps       []struct {
		Name        string
		OK, Skipped bool
		Detail      string
	}
}

// drill holds a drill, which must end with the exit code.
func (r *rig) drill(code int, args ...string) drilled {
	r.t.Helper()
	bindir, err := pgtest.Bindir(r.major)
	r.must(err)
	cmd := r.command(append([]string{"drill", "--json", "--bindir", bindir, "--drill-dir", r.dir, "--conninfo", "user=postgres"}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, _ := cmd.Output()
	if got := cmd.ProcessState.ExitCode(); got != code {
		r.t.Fatalf("drill %q: got exit code %d, want %d\n%s%s", args, got, code, out, &stderr)
	}
	fits(r.t, "drill", out)
	var d drilled
	if err := json.Unmarshal(out, &d); err != nil {
		r.t.Fatalf("drill %q: %v\n%s%s", args, err, out, &stderr)
	}
	if d.OK != (code == 0) {
		r.t.Errorf("drill %q: got ok %v with exit code %d", args, d.OK, code)
	}
	return d
}

// checkNothingLeft looks for scratch directories, leases and servers that drills have left.
func (r *rig) checkNothingLeft() {
	r.t.Helper()
	for _, pattern := range []string{r.dir + "/walkeep-drill-*", r.spool + "/leases/*.json"} {
		if left, _ := filepath.Glob(pattern); len(left) > 0 {
			r.t.Errorf("left: %v", left)
		}
	}
	// The restore_command of a server that is shut down at once outlives it by a moment. A server that is left misses its
	// directory, too, and ends, but looks for it a minute after its start only.
	for limit := time.Now().Add(45 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		links, _ := filepath.Glob("/proc/[0-9]*/cwd")
		i := slices.IndexFunc(links, func(link string) bool {
			cwd, err := os.Readlink(link)
			return err == nil && strings.HasPrefix(cwd, r.dir+"/walkeep-drill-")
		})
		if i < 0 {
			return
		}
		if time.Now().After(limit) {
			r.t.Errorf("a process still works in a scratch directory: %s", links[i])
			return
		}
	}
}

// objects lists the archive.
func (r *rig) objects() string {
	r.t.Helper()
	var all []string
	r.must(filepath.WalkDir(r.spool, func(file string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && filepath.Base(filepath.Dir(file)) != "verified" { // where the drill's outcome is kept
			var info fs.FileInfo
			info, err = e.Info()
			all = append(all, fmt.Sprint(file, info.Size(), info.ModTime()))
		}
		return err
	}))
	return strings.Join(all, "\n")
}

func TestDrill(t *testing.T) {
	t.Parallel()
	for _, major := range []int{11, 15, 18} {
		if !slices.Contains(pgtest.Majors(), major) {
			continue
		}
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			r, c, _, _ := archived(t, major)
			// None of this must count for the drill's server.
			r.must(c.Exec(r.ctx(), "CREATE DATABASE another"))
			r.must(c.Exec(r.ctx(), "ALTER SYSTEM SET shared_buffers = '1TB'"))
			r.must(c.Exec(r.ctx(), "ALTER SYSTEM SET listen_addresses = '*'"))
			r.must(c.Exec(r.ctx(), "ALTER SYSTEM SET shared_preload_libraries = 'plpgsql'"))
			if major >= 12 {
				r.must(c.Exec(r.ctx(), "ALTER SYSTEM SET recovery_end_command = 'exit 1'"))
			}
			r.backup(c)
			r.cut(c) // the backup's label file is archived before this
			before := r.objects()
			d := r.drill(0)
			for _, s := range d.Steps {
				mayLack := s.Name == "pg_verifybackup" || s.Name == "pg_amcheck" // of the programs only Debian has all
				if !s.OK && (!s.Skipped || !mayLack || major == 15) {
					t.Errorf("got %+v", s)
				}
				if s.Name == "read" && !strings.Contains(s.Detail, "3 databases") {
					t.Errorf("got %q, want all databases", s.Detail)
				}
			}
			if len(d.Steps) != 5 {
				t.Errorf("got %d steps, want 5", len(d.Steps))
			}
			r.drill(0, "--target-name", "here")
			if got := r.objects(); got != before {
				t.Errorf("the archive has changed: got\n%s\nwant\n%s", got, before)
			}
			r.checkNothingLeft()
		})
	}
}

// A drill finds what is wrong with a backup that was stored without a fault.
func TestDrillFails(t *testing.T) {
	t.Parallel()
	r := newRig(t, pgtest.MaxMajor)
	c := r.start("primary", map[string]string{"full_page_writes": "off"})
	r.must(c.Exec(r.ctx(), "CREATE TABLE broken AS SELECT i, repeat('x', 500) AS t FROM generate_series(1, 1000) i"))
	file, err := c.QueryString(r.ctx(), "SELECT pg_relation_filepath('broken')")
	r.must(err)
	r.cut(c)
	r.must(c.Stop(r.ctx(), pgtest.Fast))
	r.must(c.Configure(map[string]string{"ignore_checksum_failure": "on"}))

	// A tuple's length is wrong, under a checksum that the server does not look at when it sends the file.
	f, err := os.OpenFile(c.Path(file), os.O_RDWR, 0)
	r.must(err)
	_, err = f.WriteAt([]byte{0xff, 0xff, 0xff, 0xff}, 3*8192+7000)
	r.must(errors.Join(err, f.Close()))
	r.must(c.Start(r.ctx()))
	out, err := r.command("backup", "--conninfo", c.ConnString()).CombinedOutput()
	if err == nil {
		t.Fatalf("a backup of a damaged page succeeded: %s", out)
	}

	// Damage to the archive is noticed as such.
	r.must(c.Exec(r.ctx(), "DROP TABLE broken"))
	r.must(c.Checkpoint(r.ctx()))
	id := r.backup(c)
	volume := filepath.Join(r.spool, "backups", id, "data-0001.tar.zst")
	f, err = os.OpenFile(volume, os.O_RDWR, 0)
	r.must(err)
	var b [1]byte
	_, err = f.ReadAt(b[:], 100_000)
	r.must(err)
	b[0] ^= 4
	_, err = f.WriteAt(b[:], 100_000)
	r.must(errors.Join(err, f.Close()))
	if d := r.drill(1); !strings.Contains(d.Error, "damaged") {
		t.Errorf("got %q, want the damage", d.Error)
	}
	r.checkNothingLeft()

	// A recovery that fails is a drill that fails.
	id = r.backup(c)
	r.cut(c)
	if d := r.drill(1, "--restore-command", "exit 200", id); !strings.Contains(d.Error, "FATAL") {
		t.Errorf("got %q, want the server's reason", d.Error)
	}
	r.checkNothingLeft()
	r.drill(0, id)
}

// A drill that is interrupted cleans up behind itself; what one leaves that is killed, the next one removes.
func TestDrillInterrupted(t *testing.T) {
	t.Parallel()
	r, _, _, _ := archived(t, restoreMajor)
	for _, s := range []struct {
		name   string
		signal syscall.Signal
		at     string // a file of the scratch directory that is there when the signal comes
	}{
		{"interrupted in the restore", syscall.SIGINT, "data/walkeep.restore"},
		{"interrupted in recovery", syscall.SIGTERM, "data/postmaster.pid"},
		{"killed in the restore", syscall.SIGKILL, "data/walkeep.restore"},
		{"killed in recovery", syscall.SIGKILL, "data/postmaster.pid"},
	} {
		var cmd *exec.Cmd
		var done chan error
		start := func() {
			cmd, done = r.command("drill", "--drill-dir", r.dir, "--conninfo", "user=postgres"), make(chan error, 1)
			r.must(cmd.Start())
			go func() { done <- cmd.Wait() }()
		}
		start()
		for seen := false; !seen; {
			found, _ := filepath.Glob(filepath.Join(r.dir, "walkeep-drill-*", s.at))
			seen = len(found) > 0
			select {
			case err := <-done:
				if err != nil {
					t.Fatalf("%s: the drill has failed: %v", s.name, err)
				}
				seen = false
				start() // on a busy machine the file can come and go without being seen
			default:
			}
		}
		r.must(cmd.Process.Signal(s.signal))
		if err := <-done; err == nil {
			t.Errorf("%s: the drill says that all is well", s.name)
		}
		if s.signal != syscall.SIGKILL {
			r.checkNothingLeft()
		}
	}
	r.drill(0)
	leases, _ := filepath.Glob(r.spool + "/leases/*.json")
	for _, l := range leases { // of those that were killed; cleanup removes them
		r.must(os.Remove(l))
	}
	r.checkNothingLeft()
}

// What a cluster's databases, roles and configuration are set to makes no drill fail, nor does a database that lets nobody
// connect, which is read, or one whose removal was interrupted, which cannot be.
func TestDrillHasNoFalseAlarms(t *testing.T) {
	t.Parallel()
	r := newRig(t, pgtest.MaxMajor)
	c := r.start("primary", nil)
	outside := filepath.Join(r.dir, "outside")
	r.mkdir(outside)
	for _, sql := range []string{
		"CREATE DATABASE closed", "CREATE DATABASE removed", "CREATE DATABASE set",
		"ALTER DATABASE closed ALLOW_CONNECTIONS false", "UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'removed'",
		"ALTER SYSTEM SET log_directory = '" + outside + "'", "ALTER SYSTEM SET logging_collector = on", "ALTER SYSTEM SET zero_damaged_pages = on",
		"ALTER SYSTEM SET external_pid_file = '" + filepath.Join(outside, "pid") + "'",
		"ALTER DATABASE set SET session_preload_libraries = 'no_such_library'", "ALTER DATABASE set SET statement_timeout = '1ms'",
		"ALTER DATABASE set SET search_path = nowhere", "ALTER DATABASE set SET client_encoding = 'LATIN1'", "ALTER DATABASE set SET datestyle = 'German'",
		"ALTER DATABASE set SET default_transaction_read_only = on", "ALTER DATABASE set SET default_transaction_isolation = 'serializable'",
	} {
		r.must(c.Exec(r.ctx(), sql))
	}
	r.backup(c)
	d := r.drill(0)
	if detail := d.Steps[3].Detail; !strings.HasSuffix(detail, "in 4 databases") { // with postgres and template1
		t.Errorf("got %q", detail)
	}
	r.checkNothingLeft()
	if entries, _ := os.ReadDir(outside); len(entries) > 0 {
		t.Errorf("the drill's server wrote %v", entries)
	}
	deep := filepath.Join(r.dir, strings.Repeat("d", 90))
	r.mkdir(deep)
	r.fails(2, []string{"too long", "--drill-dir"}, "drill", "--bindir", c.Bindir(), "--drill-dir", deep, "--conninfo", "user=postgres")
	if left, _ := os.ReadDir(deep); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
