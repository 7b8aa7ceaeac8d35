//go:build unix

package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// launch starts the server as a child of this process.
func (c *Cluster) launch() (*process, error) {
	log, err := os.OpenFile(c.LogPath(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	// Not bound to a context: that of a Start ends long before the server.
	cmd := Command(context.Background(), program(c.bindir, "postgres"), c.serverArgs()...)
	cmd.Stdout, cmd.Stderr = log, log
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid = true // a terminal's Ctrl-C is for us
	dieWithParent(cmd.SysProcAttr)

	p := &process{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel takes the end of the thread that forked for the end of the parent, so this one stays.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		p.pid = cmd.Process.Pid
		started <- nil
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

func (c *Cluster) shutDown(_ context.Context, pid int, mode Mode) error {
	signals := map[Mode]syscall.Signal{Smart: syscall.SIGTERM, Fast: syscall.SIGINT, Immediate: syscall.SIGQUIT}
	signal, ok := signals[mode]
	if !ok {
		return fmt.Errorf("no such shutdown mode: %q", mode)
	}
	if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

// serverRuns tells whether pid is a server on the data directory dir, which is its working directory then. Where that
// cannot be seen any process will do.
func serverRuns(pid int, dir string) bool {
	if gone(pid) {
		return false
	}
	cwd, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "cwd"))
	if err != nil {
		return true
	}
	a, aerr := os.Stat(cwd)
	b, berr := os.Stat(dir)
	return aerr == nil && berr == nil && os.SameFile(a, b)
}

// gone tells whether a process has ended. A zombie has: whoever is its parent by now may never look.
func gone(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return runtime.GOOS == "linux" && errors.Is(err, os.ErrNotExist)
	}
	state := stat[bytes.LastIndexByte(stat, ')')+1:]
	return bytes.HasPrefix(state, []byte(" Z")) || bytes.HasPrefix(state, []byte(" X"))
}

// killTree kills a process and its descendants. They are stopped first, so that none can start another meanwhile.
func killTree(pid int) error {
	tree := []int{pid}
	for stopped := 0; stopped < len(tree); {
		for _, p := range tree[stopped:] {
			_ = syscall.Kill(p, syscall.SIGSTOP) // it may have ended
		}
		stopped = len(tree)
		for _, p := range descendants(pid) {
			if !slices.Contains(tree, p) {
				tree = append(tree, p)
			}
		}
	}
	killAll(tree)
	for _, p := range tree {
		if err := poll(context.Background(), Timeout, func(context.Context) (bool, error) { return gone(p), nil }); err != nil {
			return fmt.Errorf("process %d: %w", p, err)
		}
	}
	return nil
}

func killAll(pids []int) {
	for _, p := range pids {
		_ = syscall.Kill(p, syscall.SIGKILL) // it may have ended
	}
}

// descendants lists the children of a process, their children and so on.
func descendants(pid int) []int {
	parents := parentPIDs()
	tree := []int{pid}
	for i := 0; i < len(tree); i++ {
		for child, parent := range parents {
			if parent == tree[i] {
				tree = append(tree, child)
			}
		}
	}
	return tree[1:]
}

// parentPIDs maps every process to its parent.
func parentPIDs() map[int]int {
	parents := make(map[int]int)
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is valid
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		// pid (name) state ppid ...
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil || len(fields) < 2 {
			continue
		}
		if parent, err := strconv.Atoi(fields[1]); err == nil {
			parents[pid] = parent
		}
	}
	if len(stats) > 0 {
		return parents
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "ps", "-A", "-o", "pid=,ppid=").Output()
	if err != nil {
		return parents
	}
	for line := range strings.Lines(string(out)) {
		var pid, parent int
		if _, err := fmt.Sscan(line, &pid, &parent); err == nil {
			parents[pid] = parent
		}
	}
	return parents
}

func freeSharedMemory(id int) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = exec.CommandContext(ctx, "ipcrm", "-m", strconv.Itoa(id)).Run() // 56 bytes at stake
}
