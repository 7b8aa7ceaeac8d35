//go:build unix

package main_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"walkeep/common/cmdtest"
)

// TestSignals ends restore-cmd while it waits for a missing segment. PostgreSQL stops cleanly when SIGTERM ended it; exit
// codes up to 125 would mean "absent".
func TestSignals(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	tests := []struct {
		name string
		send syscall.Signal
		want []syscall.Signal
	}{
		{"SIGTERM", syscall.SIGTERM, []syscall.Signal{syscall.SIGTERM}},
		{"SIGINT", syscall.SIGINT, []syscall.Signal{syscall.SIGINT}},
		{"SIGHUP", syscall.SIGHUP, []syscall.Signal{syscall.SIGHUP}},
		{"SIGKILL", syscall.SIGKILL, []syscall.Signal{syscall.SIGKILL}},
		// The runtime prints what its goroutines do; then it must not exit with 2.
		{"SIGQUIT", syscall.SIGQUIT, []syscall.Signal{syscall.SIGQUIT, syscall.SIGABRT}},
		{"SIGABRT", syscall.SIGABRT, []syscall.Signal{syscall.SIGABRT}},
		{"SIGSEGV", syscall.SIGSEGV, []syscall.Signal{syscall.SIGSEGV, syscall.SIGABRT}},
	}
	for _, test := range tests {
		for _, standby := range []bool{false, true} {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				h := newHost(t, files)
				if standby {
					cmdtest.Write(t, h.data.Path("standby.signal"), nil)
				}
				cmdtest.Write(t, h.data.Path(target), []byte(old))
				call := h.call("00000001000000000000000B", "--retry-time", "1m")
				var stderr bytes.Buffer
				call.Stderr = &stderr
				call.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
				if err := call.Start(); err != nil {
					t.Fatal(err)
				}
				for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
					if _, err := os.Stat(h.data.Path(target) + ".walkeep"); err == nil {
						break // it writes there what it delivers
					}
					if time.Now().After(deadline) {
						t.Fatal("it does not begin")
					}
				}
				if err := call.Process.Signal(test.send); err != nil {
					t.Error(err)
				}
				r := cmdtest.Ended(call, call.Wait())
				// A runtime that gives up must not look like "absent", but for a standby, which would go down.
				if !slices.Contains(test.want, r.Signal) && !(standby && r.Code == 2 && slices.Contains(test.want, syscall.SIGABRT)) {
					t.Errorf("%s: got exit code %d, signal %d\n%s", test.name, r.Code, r.Signal, &stderr)
				}
				if got, err := os.ReadFile(h.data.Path(target)); err != nil || string(got) != old {
					t.Errorf("the target was changed (%v)", err)
				}
			})
		}
	}
}

// TestKills kills restore-cmd at random moments: the target is whole, or as it was, and the next call delivers.
func TestKills(t *testing.T) {
	cmdtest.Long(t)
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	name := files.Segments()[0]
	h := newHost(t, files.Only(name))
	random := cmdtest.Rand(t)
	took := h.run(t, name).Took
	kills, delivered := 0, 0
	for calls := 0; kills < 200 && calls < 5000; calls++ {
		cmdtest.Write(t, h.data.Path(target), []byte(old))
		call := h.call(name)
		if err := call.Start(); err != nil {
			t.Fatal(err)
		}
		kill := time.AfterFunc(time.Duration(random.Int64N(int64(took))), func() { call.Process.Kill() })
		r := cmdtest.Ended(call, call.Wait())
		kill.Stop()
		got, err := os.ReadFile(h.data.Path(target))
		switch {
		case err != nil:
			t.Error(err)
		case r.Signal == syscall.SIGKILL:
			kills++
			if string(got) != old && !bytes.Equal(got, files[name]) {
				t.Errorf("after a kill the target has %d bytes that are nothing", len(got))
			}
		case r.Code != 0 || !bytes.Equal(got, files[name]):
			t.Errorf("got exit code %d", r.Code)
		default:
			delivered++
		}
		if kills%10 == 0 {
			h.deliver(t, name, files[name])
		}
	}
	if t.Logf("%d kills, %d calls ended before they were killed", kills, delivered); kills < 50 {
		t.Error("that is too few kills")
	}
	h.deliver(t, name, files[name])
	h.spool.Check(t, files.Only(name))
}

// TestPermissions removes restore-cmd's right to read: it must not answer "absent".
func TestPermissions(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	name := files.Segments()[0]
	h := newHost(t, files)
	cmdtest.Own(t, h.dir)
	asked := []string{name, "00000001000000000000000B", "00000003000000000000001F", "00000004.history", "00000002.history"}
	run := func(name string) cmdtest.Result {
		call := h.call(name)
		cmdtest.Unprivileged(t, call)
		return h.runCall(t, call)
	}
	spool := string(h.spool)
	tests := []struct {
		path  string
		modes []os.FileMode
		asked []string
	}{
		{"", []os.FileMode{0, 0o400}, asked},
		{"archive.json", []os.FileMode{0}, asked},
		{"wal", []os.FileMode{0, 0o100}, []string{"00000004.history", "00000003000000000000001F"}},
		{"wal", []os.FileMode{0, 0o400}, []string{name, "00000001000000000000000B", "00000002.history"}},
		{"wal/" + name[:16], []os.FileMode{0, 0o100, 0o400}, []string{name, "00000001000000000000000B"}},
		{"wal/" + name[:16] + "/" + name + ".zst", []os.FileMode{0}, []string{name}},
		{"wal/00000003.history.zst", []os.FileMode{0}, []string{"00000003.history", "00000003000000000000000F"}},
	}
	for _, test := range tests {
		path := filepath.Join(spool, test.path)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, mode := range test.modes {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
			for _, name := range test.asked {
				if run(name).Expect(t, 126, "permission denied"); t.Failed() {
					t.Errorf("%q has mode %o", test.path, mode)
				}
			}
		}
		if err := os.Chmod(path, info.Mode()); err != nil {
			t.Fatal(err)
		}
	}
	// A spool that may only be read is enough, also for a standby.
	cmdtest.Write(t, h.data.Path("standby.signal"), nil)
	for _, dir := range []string{"wal", ""} {
		if err := os.Chmod(filepath.Join(spool, dir), 0o500); err != nil {
			t.Fatal(err)
		}
	}
	call := h.call(name)
	call.Args = append(call.Args, name)
	cmdtest.Unprivileged(t, call)
	h.runCall(t, call).Expect(t, 0)
	h.wantTarget(t, name, files[name])
	if err := os.Chmod(h.data.Path("pg_wal"), 0o500); err != nil { // but the target must be written
		t.Fatal(err)
	}
	os.Remove(h.data.Path("standby.signal"))
	run(name).Expect(t, 126, "permission denied")
}

// TestNobodyListens has no one read what is reported.
func TestNobodyListens(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	h := newHost(t, files)
	for name, want := range map[string]int{files.Segments()[0]: 0, "00000004.history": 1, "00000001000000000000000B": 126, "x": 126} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		call := h.call(name, "-v")
		call.Stdout, call.Stderr = w, w
		if got := h.runCall(t, call); got.Code != want {
			t.Errorf("%s, pipe: got exit code %d, signal %d, want %d", name, got.Code, got.Signal, want)
		}
		w.Close()
		shut := cmdtest.Through(h.call(name, "-v"), "sh", "-c", `exec "$@" <&- >&- 2>&-`, "sh")
		if got := h.runCall(t, shut); got.Code != want {
			t.Errorf("%s, no files: got exit code %d, signal %d, want %d", name, got.Code, got.Signal, want)
		}
	}
	h.deliver(t, files.Segments()[0], files[files.Segments()[0]])
}
