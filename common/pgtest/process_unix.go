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
	cmd.Env = append(cmd.Env, c.Env...)
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid = true // a terminal's Ctrl-C is for the test alone
	dieWithParent(cmd.SysProcAttr)

	p := &process{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel sends the signal when the thread that forked ends, so this thread must stay.
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

// serverRuns reports whether pid is a server on the data directory dir, which is then its working directory. On a
// system that does not show that, every running process counts.
func serverRuns(pid int, dir string) bool {
	if (identity{pid: pid}).gone() {
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

// gone reports whether a process has ended. A zombie has: its parent may never wait for it.
func (p identity) gone() bool {
	if errors.Is(syscall.Kill(p.pid, 0), syscall.ESRCH) {
		return true
	}
	stat, err := readStat(p.pid)
	if err != nil {
		return runtime.GOOS == "linux" && (errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH))
	}
	return stat.state == "Z" || stat.state == "X" || p.started != "" && p.started != stat.started
}

func (p identity) signal(s syscall.Signal) {
	if !p.gone() {
		_ = syscall.Kill(p.pid, s) // it may have ended
	}
}

// killTree kills a process and its descendants. They are stopped first, so that none can start another meanwhile.
func killTree(pid int) error {
	var stopped []identity
	for more := true; more; {
		more = false
		for _, p := range tree(pid) {
			if !slices.Contains(stopped, p) {
				p.signal(syscall.SIGSTOP)
				stopped = append(stopped, p)
				more = true
			}
		}
	}
	killAll(stopped)
	for _, p := range stopped {
		if err := poll(context.Background(), Timeout, func(context.Context) (bool, error) { return p.gone(), nil }); err != nil {
			return fmt.Errorf("process %d: %w", p.pid, err)
		}
	}
	return nil
}

func killAll(all []identity) {
	for _, p := range all {
		p.signal(syscall.SIGKILL)
	}
}

// tree lists a process, its children, their children and so on. It is empty if the process has ended.
func tree(pid int) []identity {
	all := processes()
	var found []identity
	if root, ok := all[pid]; ok {
		found = append(found, identity{pid, root.started})
	}
	for i := 0; i < len(found); i++ {
		for child, p := range all {
			if p.parent == found[i].pid {
				found = append(found, identity{child, p.started})
			}
		}
	}
	return found
}

// A stat is the system's information about a process.
type stat struct {
	state   string
	parent  int
	started string
}

// readStat reads a process's stat from /proc, if the system has one.
func readStat(pid int) (s stat, err error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return s, err
	}
	// The second field is the program's name in parentheses, which may contain anything; the 22nd is the start
	// (proc(5)).
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 20 {
		return s, fmt.Errorf("process %d: cannot understand %q", pid, text)
	}
	s.state, s.started = fields[0], fields[19]
	s.parent, err = strconv.Atoi(fields[1])
	return s, err
}

// processes lists all processes.
func processes() map[int]stat {
	all := make(map[int]stat)
	dirs, _ := filepath.Glob("/proc/[0-9]*") // the pattern is valid
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		if s, err := readStat(pid); err == nil {
			all[pid] = s
		}
	}
	if len(all) > 0 {
		return all
	}
	ctx, cancel := context.WithTimeout(context.Background(), Timeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, "ps", "-A", "-o", "pid=,ppid=").Output()
	if err != nil {
		return all
	}
	for line := range strings.Lines(string(out)) {
		var pid, parent int
		if _, err := fmt.Sscan(line, &pid, &parent); err == nil {
			all[pid] = stat{parent: parent}
		}
	}
	return all
}

func freeSharedMemory(id int) {
	ctx, cancel := context.WithTimeout(context.Background(), Timeout)
	defer cancel()
	_ = exec.CommandContext(ctx, "ipcrm", "-m", strconv.Itoa(id)).Run() // if it fails, 56 bytes leak
}
