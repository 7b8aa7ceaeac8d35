//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// reapArgument makes this program the launcher: it reads a job from stdin, runs its commands one after another, waits for all
// processes that come of them, and writes a usage to descriptor 3. The end of stdin ends the processes, so
// none outlives the benchmark, however that ends.
const reapArgument = "--reap"

type job struct {
	Commands [][]string
	Repeat   int // how often the whole list is run
	Dir      string
	Env      []string
	Switch   bool // to UID and GID
	UID, GID uint32
}

// A usage is what a job and all its processes took.
type usage struct {
	CPU    time.Duration     // user and system
	MaxRSS int64             // bytes, of the largest single process
	Wrote  int64             // bytes of pages that were made dirty for the disk
	Wall   [][]time.Duration // per command, per repetition, until the command itself ended
	Exit   int               // of the last command that failed, 128 and more for a signal
	Killed int               // processes that had to be killed, as they did not end by themselves
	Err    string
}

// grace is how long detached workers may run after the commands have ended.
const grace = time.Minute

const (
	prSetChildSubreaper = 36
	stopFast            = "fast\n"
	stopImmediate       = "immediate\n"
)

func reapMain() int {
	syscall.CloseOnExec(3)
	in := bufio.NewReader(os.Stdin)
	var u usage
	if err := reapJob(in, &u); err != nil {
		u.Err = err.Error()
	}
	if err := json.NewEncoder(os.NewFile(3, "usage")).Encode(u); err != nil {
		fmt.Fprintf(os.Stderr, "bench: report usage: %v\n", err)
		return 1
	}
	return 0
}

func reapJob(in *bufio.Reader, u *usage) error {
	line, err := in.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("read job: %w", err)
	}
	var j job
	if err := json.Unmarshal(line, &j); err != nil {
		return fmt.Errorf("read job: %w", err)
	}
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0); errno != 0 {
		return fmt.Errorf("become subreaper: %w", errno)
	}
	var current atomic.Int64 // process id of the command that runs; 0: none
	var ended, killed atomic.Int64
	go obey(in, &current, &ended, &killed)

	u.Wall = make([][]time.Duration, len(j.Commands))
	for range j.Repeat {
		for i, argv := range j.Commands {
			if ended.Load() != 0 {
				return fmt.Errorf("interrupted")
			}
			took, exit, err := u.call(j, argv, &current)
			if err != nil {
				return err
			}
			if exit != 0 {
				u.Exit = exit
			}
			u.Wall[i] = append(u.Wall[i], took)
		}
	}
	overdue := time.AfterFunc(grace, func() { killed.Add(int64(killDescendants())) })
	defer overdue.Stop()
	for {
		if _, _, err := u.reapOne(); err == syscall.ECHILD {
			break
		} else if err != nil {
			return fmt.Errorf("wait: %w", err)
		}
	}
	u.Killed = int(killed.Load())
	return nil
}

// call runs one command until it ends; what it leaves behind is waited for later.
func (u *usage) call(j job, argv []string, current *atomic.Int64) (time.Duration, int, error) {
	attr := &syscall.ProcAttr{
		Dir: j.Dir, Env: j.Env, Files: []uintptr{0, 1, 2},
		Sys: &syscall.SysProcAttr{},
	}
	if j.Switch {
		attr.Sys.Credential = &syscall.Credential{Uid: j.UID, Gid: j.GID}
	}
	null, err := syscall.Open("/dev/null", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = syscall.Close(null) }()
	attr.Files[0] = uintptr(null)
	start := time.Now()
	pid, err := syscall.ForkExec(argv[0], argv, attr)
	if err != nil {
		return 0, 0, fmt.Errorf("start %s: %w", argv[0], err)
	}
	current.Store(int64(pid))
	for {
		got, status, err := u.reapOne()
		if err != nil {
			return 0, 0, fmt.Errorf("wait: %w", err)
		}
		if got != pid {
			continue
		}
		took := time.Since(start)
		current.Store(0)
		if status.Signaled() {
			return took, 128 + int(status.Signal()), nil
		}
		return took, status.ExitStatus(), nil
	}
}

// reapOne waits for any child and adds what it, and the children that it waited for itself, have used.
func (u *usage) reapOne() (int, syscall.WaitStatus, error) {
	for {
		var status syscall.WaitStatus
		var r syscall.Rusage
		pid, err := syscall.Wait4(-1, &status, 0, &r)
		if err == syscall.EINTR {
			continue
		}
		if err == nil {
			u.CPU += time.Duration(r.Utime.Nano() + r.Stime.Nano())
			u.MaxRSS = max(u.MaxRSS, r.Maxrss*1024)
			u.Wrote += r.Oublock * 512
		}
		return pid, status, err
	}
}

// obey passes on the requests to stop a server, and ends everything when stdin does.
func obey(in *bufio.Reader, current, ended, killed *atomic.Int64) {
	signalCurrent := func(s syscall.Signal) {
		if pid := int(current.Load()); pid != 0 {
			_ = syscall.Kill(pid, s)
		}
	}
	for {
		line, err := in.ReadString('\n')
		switch {
		case err != nil:
			ended.Store(1)
			signalCurrent(syscall.SIGQUIT)
			for range 50 { // a server takes a moment to end all that belongs to it
				if current.Load() == 0 {
					break
				}
				time.Sleep(100 * time.Millisecond)
			}
			for {
				killed.Add(int64(killDescendants()))
				time.Sleep(100 * time.Millisecond)
			}
		case line == stopFast:
			signalCurrent(syscall.SIGINT)
		case line == stopImmediate:
			signalCurrent(syscall.SIGQUIT)
		}
	}
}
