package main_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"walkeep/common/cmdtest"
)

// TestStandbyMode is about where it is read from that the server is a standby, which must not go down for a gap.
func TestStandbyMode(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	const missing = "00000001000000000000000B"
	tests := []struct {
		name, file, content string
		standby             bool
	}{
		{"nothing", "", "", false},
		{"recovery.signal", "recovery.signal", "", false},
		{"standby.signal", "standby.signal", "", true},
		{"on", "recovery.conf", "standby_mode = 'on'\n", true},
		{"on, bare", "recovery.conf", "standby_mode = on\n", true},
		{"on, without an equals sign", "recovery.conf", "standby_mode 'on'", true},
		{"on, without space", "recovery.conf", "standby_mode='on'", true},
		{"true", "recovery.conf", "restore_command = 'x'\nStandby_Mode = TRUE # yes\n", true},
		{"1", "recovery.conf", "standby_mode=1\n", true},
		{"yes, short", "recovery.conf", "\tstandby_mode = 'y'\r\n", true},
		{"off", "recovery.conf", "standby_mode = 'off'\n", false},
		{"o", "recovery.conf", "standby_mode = o\n", false},
		{"commented", "recovery.conf", "#standby_mode = 'on'\n", false},
		{"off at last", "recovery.conf", "standby_mode = on\nstandby_mode = off\n", false},
		{"on at last", "recovery.conf", "standby_mode = off\nstandby_mode = on\n", true},
		{"other setting", "recovery.conf", "xstandby_mode = on\nrestore_command = 'standby_mode = on'\n", false},
		{"empty", "recovery.conf", "", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, files)
			if test.file != "" {
				cmdtest.Write(t, h.data.Path(test.file), []byte(test.content))
			}
			r := h.run(t, missing)
			if test.standby {
				r.Expect(t, 1, "cannot deliver the file; the standby keeps running and asks again: "+missing+" is missing from the archive", hintGap)
			} else {
				r.Expect(t, 126, missing+" is missing from the archive", hintGap)
			}
			h.run(t, "00000004.history").Expect(t, 1, "is not in the archive")
			h.deliver(t, files.Segments()[0], files[files.Segments()[0]])
		})
	}
}

// TestStandbyGoesOn checks that a standby gets the answer "absent", with the reason, whatever is wrong with the archive.
func TestStandbyGoesOn(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	name := files.Segments()[0]
	tests := []struct {
		name   string
		change func(h host)
		say    string
	}{
		{"damaged", func(h host) {
			o := h.spool.Object(t, name)
			cmdtest.Write(t, o.Path, cmdtest.Flip(o.Stored, 800))
		}, "damaged"},
		{"no archive", func(h host) { h.remove(t, "*") }, "this is not an archive"},
		{"no spool", func(h host) { h.remove(t, "") }, "archive is not there"},
		{"another cluster's", func(h host) { h.data.SetControl(t, 4711) }, "another cluster"},
		{"no directory for it", func(h host) { os.RemoveAll(h.data.Path("pg_wal")) }, "no such file"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, files)
			cmdtest.Write(t, h.data.Path("standby.signal"), nil)
			test.change(h)
			cmdtest.Run(t, h.call(name)).Expect(t, 1, "cannot deliver the file; the standby keeps running and asks again: ", test.say)
		})
	}
}

// TestRetry is about how long is waited, and for what.
func TestRetry(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	name := files.Segments()[0]
	damage := func(t *testing.T, h host) {
		o := h.spool.Object(t, name)
		cmdtest.Write(t, o.Path, cmdtest.Flip(o.Stored, 800))
	}
	tests := []struct {
		name    string
		asked   string
		standby bool
		change  func(t *testing.T, h host)
		waits   bool
		code    int
	}{
		{"gap", "00000001000000000000000B", false, nil, true, 126},
		{"gap of a standby", "00000001000000000000000B", true, nil, true, 1},
		{"absent", "00000004.history", false, nil, false, 1},
		{"absent for a standby", "00000003000000000000001F", true, nil, false, 1},
		{"damaged", name, false, damage, false, 126},
		{"damaged for a standby", name, true, damage, true, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, files)
			if test.standby {
				cmdtest.Write(t, h.data.Path("standby.signal"), nil)
			}
			if test.change != nil {
				test.change(t, h)
			}
			h.run(t, test.asked, "--retry-time", "0s").Expect(t, test.code, "restore-cmd: ")
			if !test.waits {
				// A call that waited would not come back.
				h.run(t, test.asked, "--retry-time", "1h").Expect(t, test.code, "restore-cmd: ")
				return
			}
			r := h.run(t, test.asked, "--retry-time", "4s")
			r.Expect(t, test.code, "restore-cmd: ")
			if r.Took < 3*time.Second/2 {
				t.Errorf("with 4s to wait it took %s", r.Took)
			}
		})
	}
}

// TestComesDuringRetry has the missing segment arrive while restore-cmd waits for it.
func TestComesDuringRetry(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	const name = "00000001000000000000000C"
	// waits has the segment come when the call has looked for it without success.
	waits := func(t *testing.T, h host, come func()) {
		t.Helper()
		// A call removes its temporary file each time that it cannot deliver, and this one with it.
		temp := h.data.Path(target + ".walkeep")
		cmdtest.Write(t, temp, []byte("left by a killed call"))
		var coming sync.WaitGroup
		coming.Go(func() {
			for {
				if _, err := os.Lstat(temp); err != nil {
					come()
					return
				}
				time.Sleep(time.Millisecond)
			}
		})
		h.deliver(t, name, files[name], "--retry-time", "20s")
		os.Remove(temp) // of a call that has not looked
		coming.Wait()
	}
	for _, standby := range []bool{false, true} {
		h := newHost(t, files)
		if standby {
			cmdtest.Write(t, h.data.Path("standby.signal"), nil)
		}
		o := h.spool.Object(t, name)
		if err := os.Remove(o.Path); err != nil {
			t.Fatal(err)
		}
		waits(t, h, func() {
			beside := o.Path + ".arriving"
			if os.WriteFile(beside, o.Stored, 0o600) != nil || os.Rename(beside, o.Path) != nil {
				t.Error("the segment could not arrive")
			}
		})
	}
	t.Run("spool", func(t *testing.T) {
		h := newHost(t, files)
		cmdtest.Write(t, h.data.Path("standby.signal"), nil)
		away := string(h.spool) + ".away"
		if err := errors.Join(os.Rename(string(h.spool), away), os.Mkdir(string(h.spool), 0o700)); err != nil {
			t.Fatal(err)
		}
		waits(t, h, func() {
			// Until it is mounted, there is the empty directory where it will be, and for a moment nothing at all.
			if err := errors.Join(os.Remove(string(h.spool)), os.Rename(away, string(h.spool))); err != nil {
				t.Error(err)
			}
		})
	})
}

// TestRestartpoint is about %r: what a standby still needs is noted in the spool.
func TestRestartpoint(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	names := files.Segments()
	h := newHost(t, files)
	notes := func() []string {
		t.Helper()
		paths, err := filepath.Glob(filepath.Join(string(h.spool), "standbys", "*.json"))
		if err != nil {
			t.Fatal(err)
		}
		var points []string
		for _, path := range paths {
			var note struct {
				Restartpoint  string
				DataDirectory string `json:"data_directory"`
			}
			content, err := os.ReadFile(path)
			if err != nil || json.Unmarshal(content, &note) != nil || note.DataDirectory != string(h.data) {
				t.Errorf("%s: %s (%v)", path, content, err)
			}
			points = append(points, note.Restartpoint)
		}
		return points
	}
	restore := func(name, redo string) {
		t.Helper()
		cmd := h.call(name)
		cmd.Args = append(cmd.Args, redo)
		h.runCall(t, cmd).Expect(t, 0)
		h.wantTarget(t, name, files[name])
	}
	restore(names[0], names[0])
	if got := notes(); len(got) != 0 {
		t.Errorf("a server that is no standby has left the notes %q", got)
	}
	cmdtest.Write(t, h.data.Path("standby.signal"), nil)
	restore(names[0], "000000000000000000000000") // not known yet
	restore(names[0], "nonsense")
	if got := notes(); len(got) != 0 {
		t.Errorf("before its first restartpoint a standby has left the notes %q", got)
	}
	for _, redo := range names {
		restore(names[0], redo)
		if got := notes(); len(got) != 1 || got[0] != redo {
			t.Errorf("got the notes %q, want %q", got, redo)
		}
	}
	h.run(t, "00000004.history").Expect(t, 1)
	h.spool.Check(t, files)
}
