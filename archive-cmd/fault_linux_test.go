package main_test

import (
	"fmt"
	"os"
	"testing"

	main "walkeep/archive-cmd"
	"walkeep/common/cmdtest"
)

// TestFaults lets each system call of archive-cmd fail once, with each error, and then the retry go through.
func TestFaults(t *testing.T) {
	cmdtest.Long(t)
	cmdtest.NeedStrace(t)
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	names := files.Segments()
	for _, test := range []struct {
		name   string
		before string // archived before
		ahead  int
		errors []string
	}{
		{"first segment", "", 0, cmdtest.AllErrors},
		{"duplicate", names[1], 0, cmdtest.AllErrors},
		{"look-ahead", names[0], 2, []string{"EIO", "ENOSPC"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			waiting := files.Only(names[1 : 2+test.ahead]...)
			if test.before != "" {
				waiting[test.before] = files[test.before]
			}
			cmdtest.EachFault(t, test.errors, func(dir string, fault cmdtest.Fault) bool {
				b := newBench(t, dir, waiting)
				// Only the call with the fault needs a process.
				inside := func(name string) {
					t.Helper()
					cmdtest.Inside(main.Call, archive(b.spool, b.data.Path("pg_wal", name))).Expect(t, 0)
				}
				if test.before != "" {
					inside(test.before)
				}
				cmd := archive(b.spool, b.data.Path("pg_wal", names[1]), "--lookahead", fmt.Sprint(test.ahead))
				cmd.Env = append(cmd.Env, "GOMAXPROCS=1") // faults are counted by thread
				r, reached := cmdtest.RunFaulty(t, cmd, fault, dir)
				stored := b.spool.CheckWhole(t, files)
				_, there := stored[names[1]]
				mustFail := (fault.Calls == "fsync" || fault.Calls == "renameat,renameat2") && test.ahead == 0 && reached
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
				if reached {
					inside(names[1])
					b.spool.CheckWhole(t, files)
				}
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
