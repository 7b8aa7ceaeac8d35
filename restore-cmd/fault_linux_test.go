package main_test

import (
	"bytes"
	"os"
	"testing"

	"walkeep/common/cmdtest"
)

// TestFaults makes each system call of restore-cmd fail, with each error. A file that is there is delivered whole or not at
// all, and is never reported as absent.
func TestFaults(t *testing.T) {
	cmdtest.Long(t)
	cmdtest.NeedStrace(t)
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	few := []string{"EIO", "EMFILE", "EACCES"}
	for _, test := range []struct {
		test, name string
		code       int // without a fault
		errors     []string
		change     func(t *testing.T, h host)
	}{
		{"segment", files.Segments()[0], 0, cmdtest.AllErrors, nil},
		{"history", "00000003.history", 0, few, nil},
		{"absent", "00000003000000000000001F", 1, few, nil},
		{"absent history", "00000004.history", 1, few, nil},
		{"gap", "00000001000000000000000B", 126, cmdtest.AllErrors, nil},
		{"gap that the last segment shows", "00000003000000000000001D", 126, few, nil},
		{"gap in the histories", "00000002.history", 126, few, func(t *testing.T, h host) {
			h.remove(t, "wal/00000002.history*", "wal/0000000200000000")
		}},
		{"gap behind a lost history", "00000003000000000000000F", 126, few, func(t *testing.T, h host) {
			h.remove(t, "wal/00000003.history*")
		}},
		{"gap after which only another timeline goes on", "00000001000000000000000F", 126, few, func(t *testing.T, h host) {
			h.remove(t, "wal/0000000100000000")
		}},
		{"no archive", files.Segments()[0], 126, few, func(t *testing.T, h host) { h.remove(t, "*") }},
		{"damaged", files.Segments()[0], 126, few, func(t *testing.T, h host) {
			o := h.spool.Object(t, files.Segments()[0])
			cmdtest.Write(t, o.Path, cmdtest.Flip(o.Stored, 8000))
		}},
	} {
		t.Run(test.test, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, files) // shared: restore-cmd does not write to the spool
			if test.change != nil {
				test.change(t, h)
			}
			cmdtest.EachFault(t, test.errors, func(dir string, fault cmdtest.Fault) bool {
				h := host{dir, cmdtest.NewDataDir(t, dir, nil), h.spool}
				cmdtest.Write(t, h.data.Path(target), []byte(old))
				call := h.call(test.name)
				call.Env = append(call.Env, "GOMAXPROCS=1") // faults are counted by thread
				r, reached := cmdtest.RunFaulty(t, call, fault, dir)
				got, err := os.ReadFile(h.data.Path(target))
				switch {
				case err != nil:
					t.Errorf("%s: %v", fault, err)
				case r.Code != test.code && r.Code != 126 || !reached && r.Code != test.code:
					t.Errorf("%s: got exit code %d, signal %d, want %d\n%s", fault, r.Code, r.Signal, test.code, r.Stderr)
				case r.Code == 0 && !bytes.Equal(got, files[test.name]):
					t.Errorf("%s: delivered something else", fault)
				case r.Code != 0 && string(got) != old:
					t.Errorf("%s: exit code %d, and the target was changed", fault, r.Code)
				}
				if err := os.RemoveAll(string(h.data)); err != nil {
					t.Error(err)
				}
				return reached && !t.Failed()
			})
		})
	}
}
