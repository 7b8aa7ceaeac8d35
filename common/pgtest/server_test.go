package pgtest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"walkeep/common/pgtest"
)

func TestStartFails(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{Settings: map[string]string{"shared_buffers": "a lot"}})
	err := c.Start(t.Context())
	if !errors.Is(err, pgtest.ErrExited) || !strings.Contains(err.Error(), `"shared_buffers"`) {
		t.Errorf("got %v, want ErrExited with the reason from the log", err)
	}
	must(t, c.Configure(map[string]string{"shared_buffers": "8MB"}))
	must(t, c.Start(t.Context()))
	if err := c.Launch(); err == nil {
		t.Error("a second server was launched")
	}
}

func TestStartTimesOut(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{})
	must(t, c.Recover(map[string]string{"restore_command": "sleep 60"}))
	err := c.StartWithin(t.Context(), 300*time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "not within 300ms") {
		t.Errorf("got %v", err)
	}
	if c.Running() {
		t.Error("server was left running")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := c.Start(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// TestKillsDescendants kills a server while its archiver runs a lasting archive_command in a process group of its
// own, which the server's own signals to groups do not reach.
func TestKillsDescendants(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("looks into /proc")
	}
	for _, end := range []string{"kill", "close"} {
		dir := pgtest.TempDir(t)
		pidFile := filepath.Join(dir, "d", "pid")
		c := pgtest.New(t, pgtest.Options{Dir: filepath.Join(dir, "d"), Settings: map[string]string{
			"archive_mode":    "on",
			"archive_command": "setsid sh -c 'echo $$ >" + pidFile + "; while :; do sleep 0.1; done' & wait",
		}})
		must(t, c.Start(t.Context()))
		_, err := c.SwitchWAL(t.Context())
		must(t, err)
		var pid int
		must(t, c.WaitFor(t.Context(), pgtest.Timeout, "archive_command", func(context.Context) (bool, error) {
			text, err := os.ReadFile(pidFile)
			pid, _ = strconv.Atoi(strings.TrimSpace(string(text)))
			return pid != 0, err
		}))
		if end == "kill" {
			must(t, c.Kill())
		} else {
			must(t, c.Close())
		}
		deadline := time.Now().Add(pgtest.Timeout)
		for stateOf(pid) != "" {
			if time.Now().After(deadline) {
				t.Fatalf("%s: archive_command survives as process %d, %s", end, pid, stateOf(pid))
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// stateOf returns "" for a process that is gone or a zombie.
func stateOf(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil || strings.Contains(string(text), "State:\tZ") {
		return ""
	}
	return string(text)
}

// TestDiesWithParent runs itself again, to start a server and end without stopping it.
func TestDiesWithParent(t *testing.T) {
	if dir := os.Getenv("PGTEST_CHILD_DIR"); dir != "" {
		c, err := pgtest.Open(dir)
		must(t, err)
		must(t, c.Start(t.Context()))
		fmt.Println("started", c.PID())
		os.Exit(3)
	}
	if runtime.GOOS != "linux" {
		t.Skip("only on Linux")
	}
	c := pgtest.New(t, pgtest.Options{})
	cmd := exec.Command(os.Args[0], "-test.run=^TestDiesWithParent$")
	cmd.Env = append(os.Environ(), "PGTEST_CHILD_DIR="+c.Dir)
	out, err := cmd.Output()
	if cmd.ProcessState.ExitCode() != 3 || !strings.Contains(string(out), "started ") {
		t.Fatalf("child: %v: %s", err, out)
	}
	must(t, c.WaitExit(t.Context(), pgtest.Timeout))
	must(t, c.Start(t.Context()))
}

// TestForeignServer finds, queries and stops a server that another program started.
func TestForeignServer(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{})
	ctl := filepath.Join(c.Bindir(), "pg_ctl")
	cmd := pgtest.Command(t.Context(), ctl, "start", "-w", "-D", c.Dir, "-l", c.Path("log"), "-o", "-c port=5499")
	cmd.Stdout = nil // the server would keep a pipe open
	must(t, cmd.Run())
	if !c.Running() {
		t.Fatal("not seen")
	}
	if port, err := c.QueryInt(t.Context(), "SHOW port"); err != nil || port != 5499 {
		t.Errorf("port: got %d (%v), want 5499", port, err)
	}
	must(t, c.Stop(t.Context(), pgtest.Fast))
	if c.Running() {
		t.Fatal("not stopped")
	}
}

func TestCommandUser(t *testing.T) {
	dir := pgtest.TempDir(t)
	if len(dir) > 60 {
		t.Errorf("%s is too long for sockets", dir)
	}
	t.Setenv("PGHOST", "elsewhere")
	cmd := pgtest.Command(t.Context(), "sh", "-c", `id -u; echo "[$PGHOST]"; pwd; : >`+dir+`/file`)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	var lines []string
	for s := bufio.NewScanner(stdout); s.Scan(); {
		lines = append(lines, s.Text())
	}
	must(t, cmd.Wait())
	if len(lines) != 3 || lines[0] == "0" || lines[1] != "[]" {
		t.Errorf("got %q", lines)
	}
	if _, err := os.Stat(filepath.Join(dir, "file")); err != nil {
		t.Error(err)
	}
}

func TestUnreachableDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := pgtest.TempDir(t)
	must(t, os.Chown(dir, 0, 0))
	must(t, os.Chmod(dir, 0o700))
	_, err := pgtest.Init(t.Context(), pgtest.Options{Dir: filepath.Join(dir, "data")})
	if err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v, want an error that names %s", err, dir)
	}
}

func uitoa(n uint64) string { return strconv.FormatUint(n, 10) }
