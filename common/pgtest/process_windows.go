package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// launch makes pg_ctl start the server, because postgres.exe refuses to run with an administrator's rights. The
// server is then not our child: postmaster.pid identifies it.
func (c *Cluster) launch() (*process, error) {
	os.Remove(c.Path("postmaster.pid")) // of a server that was killed, which would pass for the new one
	ctx, cancel := context.WithTimeout(context.Background(), Timeout)
	defer cancel()
	options := strings.Join(c.serverArgs()[2:], " ")
	// No pipes: the server inherits them, and we would wait for it.
	cmd := Command(ctx, program(c.bindir, "pg_ctl"), "start", "-W", "-D", c.Dir, "-l", c.LogPath(), "-o", options)
	cmd.Env = append(cmd.Environ(), c.Env...)
	return nil, cmd.Run()
}

func (c *Cluster) shutDown(ctx context.Context, _ int, mode Mode) error {
	return c.run(ctx, "pg_ctl", "stop", "-W", "-D", c.Dir, "-m", string(mode))
}

func serverRuns(pid int, _ string) bool {
	h, err := syscall.OpenProcess(syscall.PROCESS_QUERY_INFORMATION, false, uint32(pid))
	if err != nil {
		return errors.Is(err, syscall.ERROR_ACCESS_DENIED)
	}
	defer syscall.CloseHandle(h)
	const stillActive = 259
	var code uint32
	return syscall.GetExitCodeProcess(h, &code) != nil || code == stillActive
}

func killTree(pid int) error {
	ctx, cancel := context.WithTimeout(context.Background(), Timeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, "taskkill", "/F", "/T", "/PID", strconv.Itoa(pid)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("taskkill: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

func killAll([]identity) {}

func tree(int) []identity { return nil }

func freeSharedMemory(int) {}
