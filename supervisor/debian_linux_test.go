package main_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"walkeep/common/cmdtest"
	"walkeep/common/pgtest"
)

// A cluster of Debian's tools has its configuration outside of its data directory. What is restored is started with it, in
// its own directory, and never is the cluster itself started or disturbed.
func TestDebianCluster(t *testing.T) {
	t.Parallel()
	const major = 15
	if _, err := exec.LookPath("pg_createcluster"); err != nil {
		t.Skip("postgresql-common is not installed")
	}
	r := newRig(t, major)
	confs, sockets := filepath.Join(r.dir, "etc"), filepath.Join(r.dir, "s")
	r.mkdir(confs)
	r.mkdir(sockets)
	// The port is that of the sockets only; servers that run at the same time need different ones.
	port := 20000 + os.Getpid()%10000*2
	debian := func(program string, args ...string) error {
		t.Helper()
		cmd := pgtest.Command(r.ctx(), program, args...)
		cmd.Env = append(cmd.Env, "PG_CLUSTER_CONF_ROOT="+confs)
		// Not a pipe, which the server would hold open.
		out := filepath.Join(t.TempDir(), "out")
		file, err := os.Create(out)
		r.must(err)
		defer file.Close()
		cmd.Stdout, cmd.Stderr = file, file
		if err := cmd.Run(); err != nil {
			text, _ := os.ReadFile(out)
			return fmt.Errorf("%s %q: %w: %s", program, args, err, text)
		}
		return nil
	}
	create := func(name, dir string, port int) {
		t.Helper()
		r.must(debian("pg_createcluster", strconv.Itoa(major), name, "-d", dir, "-l", filepath.Join(r.dir, name+".log"), "-p", strconv.Itoa(port), "-s", sockets,
			"-o", "listen_addresses=", "-o", "archive_mode=on", "-o", "max_replication_slots=0", "-o", "external_pid_file="+filepath.Join(r.dir, name+".pid"), "-o", "fsync=off",
			"-o", fmt.Sprintf("archive_command='%s' -c %s --spool '%s' %%p", cmdtest.Path("archive-cmd"), os.DevNull, r.spool), "--", "-A", "trust", "--no-sync", "-U", "postgres"))
		t.Cleanup(func() { debian("pg_dropcluster", "--stop", strconv.Itoa(major), name) })
	}
	ctl := func(name, action string, more ...string) error {
		return debian("pg_ctlcluster", append([]string{strconv.Itoa(major), name, action}, more...)...)
	}
	psql, err := pgtest.ClientTool("psql")
	r.must(err)
	conninfo := func(port int) string { return fmt.Sprintf("host=%s port=%d user=postgres", sockets, port) }
	query := func(port int, sql string) string {
		t.Helper()
		out, err := pgtest.Command(r.ctx(), psql, "-XAtqc", sql, conninfo(port)+" dbname=postgres").CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v %s", sql, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	call := func(code int, words []string, args ...string) {
		t.Helper()
		cmd := r.command(args...)
		cmd.Env = append(cmd.Env, "PG_CLUSTER_CONF_ROOT="+confs)
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != code {
			t.Fatalf("%q: got exit code %d, want %d\n%s", args, got, code, out)
		}
		for _, word := range words {
			if !strings.Contains(string(out), word) {
				t.Errorf("%q does not say %q:\n%s", args, word, out)
			}
		}
	}
	bindir, err := pgtest.Bindir(major)
	r.must(err)
	stop := func(dir string) {
		t.Helper()
		r.must(pgtest.Command(r.ctx(), filepath.Join(bindir, "pg_ctl"), "-D", dir, "-m", "immediate", "-w", "stop").Run())
	}

	data := filepath.Join(r.dir, "data")
	create("main", data, port)
	r.must(ctl("main", "start"))
	call(0, []string{"restart needed, for max_replication_slots: pg_ctlcluster 15 main restart; or "},
		"setup", "--config", filepath.Join(r.dir, "walkeep.ini"), "--conninfo", conninfo(port), "--bindir", bindir)
	r.must(ctl("main", "restart"))
	query(port, "CREATE TABLE t AS SELECT generate_series(1, 1000) AS n")
	call(0, nil, "backup", "--conninfo", conninfo(port))
	query(port, "INSERT INTO t SELECT generate_series(1, 500)")
	segment := query(port, "SELECT pg_walfile_name(pg_switch_wal())")
	if query(port, "SELECT 1 FROM pg_stat_archiver WHERE last_archived_wal >= '"+segment+"'") != "1" {
		c, err := pgtest.Open(data)
		r.must(err)
		r.must(c.WaitFor(r.ctx(), pgtest.Timeout, "the segment to be archived", func(context.Context) (bool, error) {
			return query(port, "SELECT 1 FROM pg_stat_archiver WHERE last_archived_wal >= '"+segment+"'") == "1", nil
		}))
	}

	// Beside the running cluster the port is in use, and the cluster continues.
	pid := func() string {
		content, _ := os.ReadFile(filepath.Join(r.dir, "main.pid"))
		return string(content)
	}
	was := pid()
	beside := filepath.Join(r.dir, "beside")
	call(1, []string{"port"}, "restore", "--conninfo", "user=postgres", "--target-dir", beside, "--start")
	if got := query(port, "SHOW data_directory"); got != data || pid() != was || was == "" {
		t.Errorf("the cluster itself was touched: it is in %s, and its file says %q, not %q", got, pid(), was)
	}
	r.must(ctl("main", "stop", "-m", "fast"))

	// With the only configuration there is, in its own directory.
	call(0, []string{"the database is open"}, "restore", "--conninfo", "user=postgres", "--target-dir", beside, "--start", "--delta", "--target-timeline", "1")
	if got := query(port, "SELECT current_setting('data_directory') || ' ' || count(*) FROM t"); got != beside+" 1500" {
		t.Errorf("got %s", got)
	}
	if _, err := os.Stat(filepath.Join(r.dir, "main.pid")); err == nil {
		t.Error("the server has written the file of the cluster whose configuration it was started with")
	}
	stop(beside)

	// With that of a cluster that was made for it, as the README has it; as a standby.
	made := filepath.Join(r.dir, "made")
	create("made", made, port+1)
	r.must(os.RemoveAll(made))
	r.mkdir(made)
	call(0, []string{"the standby is consistent"}, "restore", "--conninfo", "user=postgres", "--target-dir", made, "--standby", "--target-timeline", "1", "--start")
	if got := query(port+1, "SHOW data_directory"); got != made {
		t.Errorf("got %s", got)
	}
	r.must(ctl("made", "stop", "-m", "fast"))
	r.must(ctl("made", "start"))
	r.must(ctl("made", "stop", "-m", "fast"))
	// A drill of such a cluster.
	call(0, []string{"can be recovered"}, "drill", "--drill-dir", r.dir, "--conninfo", "user=postgres", "--target-timeline", "1")
}
