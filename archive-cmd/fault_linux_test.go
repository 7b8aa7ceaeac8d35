package main_test

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"walkeep/common/cmdtest"
)

// faultyCalls are the system calls that are made to fail, those of a kind together.
var faultyCalls = []string{"openat", "read,pread64", "write,pwrite64", "fsync", "renameat2", "fstat", "newfstatat", "getdents64", "close", "mkdirat"}

var faultErrors = []string{"ENOSPC", "EIO", "EDQUOT", "EMFILE", "EACCES", "ESTALE"}

// faults calls f with each fault: every call of every kind with every error, once, and then with one error from that
// call on. f tells whether the call was reached.
func faults(t *testing.T, f func(t *testing.T, dir string, fault cmdtest.Fault) bool) {
	work := make(chan func(dir string))
	var workers sync.WaitGroup
	for range 2 {
		dir := cmdtest.FastDir(t)
		workers.Go(func() {
			for w := range work {
				w(dir)
			}
		})
	}
	var mu sync.Mutex
	reached := make(map[string]int)
	for _, calls := range faultyCalls {
		for _, err := range append(faultErrors, "EIO+") {
			work <- func(dir string) {
				for when := 1; when <= 60; when++ {
					fault := cmdtest.Fault{Calls: calls, Error: strings.TrimSuffix(err, "+"), When: fmt.Sprint(when)}
					if err == "EIO+" {
						fault.When += "+"
					}
					if !f(t, dir, fault) {
						break
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

// TestFaults lets each system call of archive-cmd fail once, with each error, and then the retry go through.
func TestFaults(t *testing.T) {
	cmdtest.NeedStrace(t)
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	names := files.Segments()
	for _, test := range []struct {
		name   string
		before func(b bench)
		ahead  int
	}{
		{"first segment", func(bench) {}, 0},
		{"duplicate", func(b bench) { b.run(t, names[1]).Expect(t, 0) }, 0},
		{"look-ahead", func(b bench) { b.run(t, names[0]).Expect(t, 0) }, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			faults(t, func(t *testing.T, dir string, fault cmdtest.Fault) bool {
				b := newBench(t, dir, files.Only(names[:4]...))
				test.before(b)
				cmd := archive(b.spool, b.data.Path("pg_wal", names[1]), "--lookahead", fmt.Sprint(test.ahead))
				cmd.Env = append(cmd.Env, "GOMAXPROCS=1") // faults are counted by thread
				r, reached := cmdtest.RunFaulty(t, cmd, fault, dir)
				stored := b.spool.CheckWhole(t, files)
				_, there := stored[names[1]]
				mustFail := (fault.Calls == "fsync" || fault.Calls == "renameat2") && test.ahead == 0 && reached
				switch {
				case r.Code == 0 && mustFail:
					t.Errorf("%s: acknowledged", fault)
				case r.Code == 0 && !there:
					t.Errorf("%s: acknowledged, and not there", fault)
				case r.Code != 0 && r.Code != 1:
					t.Errorf("%s: got exit code %d, signal %d, want 0 or 1\n%s", fault, r.Code, r.Signal, r.Stderr)
				case !reached:
					r.Expect(t, 0)
				}
				b.run(t, names[1]).Expect(t, 0)
				b.spool.CheckWhole(t, files)
				for _, path := range []string{string(b.data), string(b.spool)} {
					if err := os.RemoveAll(path); err != nil {
						t.Error(err)
					}
				}
				return reached && !t.Failed()
			})
		})
	}
}
