package main_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"walkeep/common/cmdtest"
)

// TestFarKilled kills fetch, and the process that fetches ahead, at any moment: the next call delivers, and nothing unsound is.
func TestFarKilled(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	random := cmdtest.Rand(t)
	f := newFar(t, files, "a")
	cmdtest.Write(t, f.config, []byte("prefetch = 4MB\n[repository a]\nurl = file://"+string(f.repos[0].spool)+"\n"))
	f.recovers(t, files)
	first := files.Segments()[2:6] // C to F, one after the other
	for range 12 {
		call := f.call(first[random.IntN(len(first))], "-c", f.config)
		call.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // with fetch
		if err := call.Start(); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Duration(random.IntN(60))*time.Millisecond, func() { syscall.Kill(-call.Process.Pid, syscall.SIGKILL) })
		call.Wait()
		f.killKeepers(t)
		name := first[random.IntN(len(first))]
		f.deliver(t, name, files[name])
	}
	f.killKeepers(t)
}

// killKeepers kills the processes that fetch ahead into the spool.
func (f *far) killKeepers(t *testing.T) {
	t.Helper()
	proc, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range proc {
		line, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(line), "--keep\x00") || !strings.Contains(string(line), string(f.spool)+"\x00") {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}
