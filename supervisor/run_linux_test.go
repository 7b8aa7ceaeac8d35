package main_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"walkeep/common/cmdtest"
	"walkeep/common/pgtest"
)

// patience is how long a test waits for something that comes at once where all is well.
const patience = pgtest.Timeout

const password = "correct-horse-battery"

// A daemon is a supervisor that runs, as a service manager would have started it.
type daemon struct {
	*rig
	cmd     *exec.Cmd
	config  string
	notices chan string // what the service manager was told
	lines   chan string // of its log
	said    []string
	open    []string // what was said and not awaited yet
}

// daemon starts supervisor run with this configuration.
func (r *rig) daemon(config string) *daemon {
	r.t.Helper()
	d := &daemon{rig: r, config: filepath.Join(r.dir, "walkeep.ini"), lines: make(chan string, 1000), notices: make(chan string, 10_000)}
	d.configure(config)
	socket := filepath.Join(r.dir, "notify")
	os.Remove(socket)
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	r.must(err)
	go func() { // the socket's own queue is short, and what does not fit is lost
		for buffer := make([]byte, 4096); ; {
			n, err := notify.Read(buffer)
			if err != nil {
				return
			}
			d.notices <- string(buffer[:n])
		}
	}()
	r.must(os.Chmod(socket, 0o777))
	d.cmd = pgtest.Command(context.WithoutCancel(r.ctx()), cmdtest.Path("supervisor"), "-c", d.config, "run")
	d.cmd.Env = append(d.cmd.Env, "NOTIFY_SOCKET="+socket, "WATCHDOG_USEC=200000")
	stderr, err := d.cmd.StderrPipe()
	r.must(err)
	r.must(d.cmd.Start())
	go func() {
		for s := bufio.NewScanner(stderr); s.Scan(); {
			d.lines <- s.Text()
		}
		close(d.lines)
	}()
	r.t.Cleanup(func() {
		d.cmd.Process.Kill()
		notify.Close()
	})
	return d
}

func (d *daemon) configure(config string) {
	d.t.Helper()
	d.must(os.WriteFile(d.config, []byte("spool = "+d.spool+"\n"+config), 0o644))
}

// await waits for a line of the log that matches, and gives its first group. Each line is found once.
func (d *daemon) await(pattern string) string {
	d.t.Helper()
	re := regexp.MustCompile(pattern)
	limit := time.After(patience)
	for i := 0; ; i++ {
		if i < len(d.open) {
			if m := re.FindStringSubmatch(d.open[i]); m != nil {
				d.open = slices.Delete(d.open, i, i+1)
				return m[len(m)-1]
			}
			continue
		}
		select {
		case line, ok := <-d.lines:
			if !ok {
				d.t.Fatalf("it ended without saying %q:\n%s", pattern, strings.Join(d.said, "\n"))
			}
			d.said = append(d.said, line)
			d.open = append(d.open, line)
			i--
		case <-limit:
			d.t.Fatalf("it does not say %q:\n%s", pattern, strings.Join(d.said, "\n"))
		}
	}
}

// told waits until the service manager receives a message.
func (d *daemon) told(part string) {
	d.t.Helper()
	limit := time.After(patience)
	for {
		select {
		case notice := <-d.notices:
			if strings.Contains(notice, part) {
				return
			}
		case <-limit:
			d.t.Fatalf("the service manager is not told %s", part)
		}
	}
}

// stop ends it by a signal, and checks that it ends well and does not hang, and that it never said a password.
func (d *daemon) stop(signal os.Signal) {
	d.t.Helper()
	d.must(d.cmd.Process.Signal(signal))
	hangs := time.AfterFunc(patience, func() { d.cmd.Process.Kill() })
	for line := range d.lines {
		d.said = append(d.said, line)
	}
	if err := d.cmd.Wait(); err != nil {
		d.t.Errorf("%s ended it with %v:\n%s", signal, err, strings.Join(d.said, "\n"))
	}
	hangs.Stop()
	if log := strings.Join(d.said, "\n"); strings.Contains(log, password) {
		d.t.Errorf("the log has the password:\n%s", log)
	}
	d.told("STOPPING=1")
}

func (d *daemon) get(url string) (int, string) {
	d.t.Helper()
	client := http.Client{Timeout: patience}
	resp, err := client.Get(url)
	d.must(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	d.must(err)
	return resp.StatusCode, string(body)
}

// conninfo is a cluster's, with a password that it does not ask for.
func conninfo(c *pgtest.Cluster) string { return c.ConnString() + " password=" + password }

// stored counts the backups in the archive.
func (r *rig) stored() int {
	r.t.Helper()
	manifests, err := filepath.Glob(filepath.Join(r.spool, "backups", "*", "manifest.json"))
	r.must(err)
	return len(manifests)
}

// TestRun follows a supervisor from its first start to its end.
func TestRun(t *testing.T) {
	t.Parallel()
	r := newRig(t, 15)
	c := r.start("primary", nil)
	settings := fmt.Sprintf("conninfo = %s\nbackup-schedule = @yearly\ncleanup-schedule = @yearly\nkeep-backups = 1\n", conninfo(c))
	d := r.daemon(settings + "metrics-listen = 127.0.0.1:0\n")
	d.told("READY=1\nSTATUS=")
	d.told("WATCHDOG=1")
	first := "http://" + d.await(`msg="serving metrics and the page" part=metrics address=(\S+)`)
	d.await(`msg=begins task=backup reason="it was never done"`)
	d.await(`msg="backup [0-9TZ]+: .*" task=backup`)
	d.await(`msg=done task=backup`)
	if got := r.stored(); got != 1 {
		t.Errorf("got %d backups, want 1", got)
	}

	code, body := d.get(first + "/metrics")
	for _, want := range []string{
		`walkeep_task_runs_total{result="success",task="backup"} 1`, `walkeep_task_last_success_timestamp_seconds{task="backup"} 1.`,
		"walkeep_build_info{",
	} {
		if code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("got %d, and metrics without %s:\n%s", code, want, body)
		}
	}
	if code, body := d.get(first); code != http.StatusOK || !strings.Contains(body, "What is wrong") {
		t.Errorf("/ answers %d, %q", code, body)
	}
	if resp, err := http.Get(first); err != nil || !strings.HasPrefix(resp.Header.Get("Content-Security-Policy"), "default-src 'none'; style-src 'sha256-") {
		t.Errorf("/: got %v, %v", resp, err)
	} else {
		resp.Body.Close()
	}
	if code, _ := d.get(first + "/debug/pprof/"); code != http.StatusNotFound {
		t.Errorf("/debug/pprof/ answers %d", code)
	}
	if resp, err := http.Post(first+"/metrics", "", nil); err != nil || resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: got %v, %v", resp, err)
	}

	r.fails(1, []string{"another supervisor runs", "hint:"}, "-c", d.config, "run")

	d.configure(settings + "backup-scedule = @daily\n")
	d.must(d.cmd.Process.Signal(syscall.SIGHUP))
	d.told("RELOADING=1\nMONOTONIC_USEC=")
	d.told("READY=1")
	d.await(`level=ERROR msg="configuration not reloaded; the old one stays in use" error=".*line 6: unknown option: backup-scedule"`)
	if code, _ := d.get(first + "/metrics"); code != http.StatusOK {
		t.Errorf("after a reload that failed: got %d", code)
	}

	d.configure(strings.ReplaceAll(settings, "cleanup-schedule = @yearly", "verify-schedule = @monthly") + "metrics-listen = localhost:0\n")
	d.must(d.cmd.Process.Signal(syscall.SIGHUP))
	d.await(`msg="configuration reloaded" tasks="backup at [^,]*, verify at [^,]*"`)
	second := "http://" + d.await(`msg="serving metrics and the page" part=metrics address=(\S+)`)
	if code, _ := d.get(second + "/metrics"); code != http.StatusOK {
		t.Errorf("after a reload: got %d", code)
	}
	if resp, err := http.Get(first); err == nil {
		t.Errorf("the old address still answers: %s", resp.Status)
	}
	// The archive is looked at again, too, which now has a backup.
	for _, want := range []string{
		`walkeep_archive_up 1`, `walkeep_check_status 0`, `walkeep_backups 1`, `walkeep_backups_restorable 1`, `walkeep_gaps{timeline="1"} 0`, `walkeep_window_broken{timeline="1"} 0`,
		`walkeep_server_up 1`, `walkeep_archiver_failed_total 0`, `walkeep_ready_files 0`,
	} {
		r.must(c.WaitFor(r.ctx(), patience, want, func(context.Context) (bool, error) {
			_, body = d.get(second + "/metrics")
			return strings.Contains(body, "\n"+want+"\n"), nil
		}))
	}
	var err error
	lag := -1.0
	if m := regexp.MustCompile(`\nwalkeep_archiver_lag_bytes (\S+)\n`).FindStringSubmatch(body); m != nil {
		lag, err = strconv.ParseFloat(m[1], 64)
		r.must(err)
	}
	if lag < 0 || lag > 1<<20 {
		t.Errorf("got a lag of %v bytes, want one within a segment:\n%s", lag, body)
	}
	d.stop(syscall.SIGTERM)

	// Nothing was missed meanwhile.
	d = r.daemon(settings)
	d.told("READY=1")
	d.stop(os.Interrupt)
	if got := r.stored(); got != 1 {
		t.Errorf("got %d backups, want 1", got)
	}
}

// A backup is interrupted, and leaves nothing.
func TestRunInterrupted(t *testing.T) {
	t.Parallel()
	r := newRig(t, 15)
	c := r.start("primary", nil)
	d := r.daemon(fmt.Sprintf("conninfo = %s\nbackup-schedule = @yearly\nbackup-from = stream\nmax-rate = 32kB\n", conninfo(c)))
	d.await(`msg=begins task=backup`)
	r.must(c.WaitFor(r.ctx(), pgtest.Timeout, "the base backup", func(ctx context.Context) (bool, error) {
		n, err := c.QueryInt(ctx, "SELECT count(*) FROM pg_stat_replication WHERE state = 'backup'")
		return n == 1, err
	}))
	d.stop(syscall.SIGTERM)
	if left, err := os.ReadDir(filepath.Join(r.spool, "backups")); err == nil && len(left) > 0 {
		t.Errorf("%s is left", left[0].Name())
	}
	r.must(c.WaitFor(r.ctx(), pgtest.Timeout, "the end of its session", func(ctx context.Context) (bool, error) {
		n, err := c.QueryInt(ctx, "SELECT count(*) FROM pg_stat_replication")
		return n == 0, err
	}))
}

// A server that cannot be reached is a failure that is tried again.
func TestRunUnreachable(t *testing.T) {
	t.Parallel()
	r := newRig(t, 15)
	d := r.daemon("conninfo = host=" + r.dir + " user=nobody password=" + password + "\nbackup-schedule = 0 0 1 1 *\n")
	d.await(`level=ERROR msg=failed task=backup took=\S+ next_try="[^"]+" error="connect to the server`)
	d.told("backup failed; next: backup at ")
	d.stop(syscall.SIGTERM)
}

// While the server says that it cannot archive, no file is copied for a backup that could not be completed.
func TestRunWaitsForArchiving(t *testing.T) {
	t.Parallel()
	r := newRig(t, 15)
	c := r.start("primary", nil)
	r.backup(c)
	r.must(c.Exec(r.ctx(), "ALTER SYSTEM SET archive_command = 'false'"))
	r.must(c.Reload(r.ctx()))
	_, err := c.SwitchWAL(r.ctx())
	r.must(err)
	r.must(c.WaitFor(r.ctx(), pgtest.Timeout, "a failure to archive", func(ctx context.Context) (bool, error) {
		n, err := c.QueryInt(ctx, "SELECT failed_count FROM pg_stat_archiver")
		return n > 0, err
	}))
	r.must(os.RemoveAll(filepath.Join(r.spool, "backups"))) // so that one is due
	d := r.daemon(fmt.Sprintf("conninfo = %s\nbackup-schedule = @yearly\narchive-timeout = 1s\n", conninfo(c)))
	d.await(`msg=failed task=backup .*archive_command fails since .*no file was copied`)
	d.stop(syscall.SIGTERM)
	if left, err := os.ReadDir(filepath.Join(r.spool, "backups")); err == nil && len(left) > 0 {
		t.Errorf("files were copied: %v", left)
	}

	// A cleanup that fails says nothing of what it has removed.
	r.mkdir(filepath.Join(r.spool, "leases", "x"))
	r.must(pgtest.Command(r.ctx(), "sh", "-c", "echo x > "+filepath.Join(r.spool, "leases", "y.json")).Run())
	out, err := r.command("cleanup", "--keep-backups", "1").Output()
	if err == nil || len(out) > 0 {
		t.Errorf("cleanup: %v, and it says %q", err, out)
	}
}

// WAL that was archived with broken records is followed by a backup at once.
func TestRunBrokenWAL(t *testing.T) {
	t.Parallel()
	r := newRig(t, 15)
	c := r.start("primary", nil)
	r.backup(c)
	r.must(c.Configure(map[string]string{"archive_command": "false"}))
	r.must(c.Reload(r.ctx()))
	r.load(c, 20, 1)
	name, err := c.SwitchWAL(r.ctx())
	r.must(err)
	segment, err := os.ReadFile(filepath.Join(c.Dir, "pg_wal", name))
	r.must(err)
	broken := filepath.Join(r.dir, name)
	cmdtest.Write(t, broken, cmdtest.Break(t, segment))
	r.must(pgtest.Command(r.ctx(), cmdtest.Path("archive-cmd"), "-c", os.DevNull, "--spool", r.spool, "--lookahead", "0", broken).Run())

	d := r.daemon(fmt.Sprintf("conninfo = %s\nbackup-schedule = @yearly\narchive-timeout = 1h\n", conninfo(c)))
	d.await(`msg=begins task=backup reason="` + name + ` was archived with broken records, at `)
	d.stop(syscall.SIGTERM)
}
