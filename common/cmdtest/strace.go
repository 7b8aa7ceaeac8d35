package cmdtest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// A Fault is a failing system call.
type Fault struct {
	Calls string // system calls, separated by commas
	Error string // such as ENOSPC
	When  string // which call of a thread, from 1 on; "3+" is the third and all after it
}

func (f Fault) String() string { return f.Calls + "=" + f.Error + "@" + f.When }

// RunFaulty makes a call in which a system call fails, and reports whether that system call was made. It uses Linux's
// strace; without strace, it skips the test.
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

// NeedStrace skips the test if strace is missing, or may not trace.
func NeedStrace(t testing.TB) {
	t.Helper()
	if out, err := exec.Command("strace", "-f", "-qq", "--seccomp-bpf", "-o", os.DevNull, "-e", "trace=read", "true").CombinedOutput(); err != nil {
		t.Skipf("strace cannot be used: %v %s", err, out)
	}
}

// faultyCalls are the system calls that are made to fail, grouped by kind.
var faultyCalls = []string{
	"openat", "read,pread64", "write,pwrite64", "fsync", "renameat,renameat2", "fstat", "newfstatat", "getdents64", "close", "mkdirat",
}

// AllErrors are the errors of failing storage.
var AllErrors = []string{"EIO", "ENOSPC", "EDQUOT", "EMFILE", "EACCES", "ESTALE"}

// EachFault calls f for each call of each kind with the first of the errors, with at most one of the others, which a seed
// chooses, or with all if WALKEEP_FAULTS is "all", and then with EIO from that call on. Several run side by side, in directories of
// their own. f reports whether the call was reached, and false after a failure.
func EachFault(t testing.TB, errors []string, f func(dir string, fault Fault) bool) {
	t.Helper()
	share, all := max(len(errors)-1, 3), os.Getenv("WALKEEP_FAULTS") == "all"
	chosen := Rand(t).IntN(share)
	work := make(chan func(dir string))
	var workers sync.WaitGroup
	for range 2 {
		dir := FastDir(t)
		workers.Go(func() {
			for w := range work {
				w(dir)
			}
		})
	}
	var mu sync.Mutex
	reached := make(map[string]int)
	for _, calls := range faultyCalls {
		for i, fault := range append(slices.Clone(errors), "EIO+") {
			name, andAfter := strings.CutSuffix(fault, "+")
			work <- func(dir string) {
				for when := 1; when <= 60; when++ {
					if i > 0 && !andAfter && !all && (when+i)%share != chosen {
						continue
					}
					fault := Fault{Calls: calls, Error: name, When: strconv.Itoa(when)}
					if andAfter {
						fault.When += "+"
					}
					if !f(dir, fault) {
						return
					}
					mu.Lock()
					reached[calls]++
					mu.Unlock()
				}
			}
		}
	}
	close(work)
	workers.Wait()
	t.Logf("faults: %v", reached)
	for _, calls := range []string{"openat", "read,pread64", "fstat", "close"} {
		if reached[calls] == 0 {
			t.Errorf("no call of %s was reached", calls)
		}
	}
}
