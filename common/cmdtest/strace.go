package cmdtest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// A Fault is a system call that fails.
type Fault struct {
	Calls string // system calls, with commas between them
	Error string // such as ENOSPC
	When  string // which call of a thread, from 1 on; "3+" is the third and all after it
}

func (f Fault) String() string { return f.Calls + "=" + f.Error + "@" + f.When }

// RunFaulty makes a call in which a system call fails, and tells whether that was reached. Linux's strace does it;
// where it is missing, the test is skipped.
func RunFaulty(t testing.TB, cmd *exec.Cmd, f Fault, dir string) (Result, bool) {
	t.Helper()
	log := filepath.Join(dir, "strace")
	defer os.Remove(log)
	r := Run(t, Through(cmd, "strace", "-f", "-qq", "--seccomp-bpf", "-o", log, "-e", "trace="+f.Calls, "-e", "signal=none",
		"-e", fmt.Sprintf("inject=%s:error=%s:when=%s", f.Calls, f.Error, f.When)))
	r.call = cmd.Args
	trace, err := os.ReadFile(log)
	if err != nil {
		t.Errorf("strace: %v\n%s", err, r.Stderr)
	}
	return r, bytes.Contains(trace, []byte("(INJECTED)"))
}

// NeedStrace skips the test where there is no strace, or where it may not trace.
func NeedStrace(t testing.TB) {
	t.Helper()
	if out, err := exec.Command("strace", "-f", "-qq", "--seccomp-bpf", "-o", os.DevNull, "-e", "trace=read", "true").CombinedOutput(); err != nil {
		t.Skipf("strace cannot be used: %v %s", err, out)
	}
}
