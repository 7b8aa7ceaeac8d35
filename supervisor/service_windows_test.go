package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"walkeep/common/cmdtest"
	"walkeep/common/durable"

	"golang.org/x/sys/windows/registry"
)

// The service is registered with its arguments, starts, does what the configuration asks for, stops soundly, and goes.
func TestServiceOnWindows(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "with blanks")
	spool := filepath.Join(dir, "the spool")
	if err := os.MkdirAll(spool, 0o700); err != nil {
		t.Fatal(err)
	}
	ini := filepath.Join(dir, "walkeep.ini")
	cmdtest.Write(t, ini, []byte("spool = "+spool+"\nverify-schedule = @daily\n"))
	service := func(code int, action string, words ...string) {
		t.Helper()
		r := cmdtest.Run(t, cmdtest.Command("supervisor", "--config", ini, "service", action))
		if r.Code != code {
			t.Fatalf("service %s: exit code %d, want %d: %s%s", action, r.Code, code, r.Stdout, r.Stderr)
		}
		for _, word := range words {
			if !strings.Contains(r.Stdout+r.Stderr, word) {
				t.Errorf("service %s lacks %q: %s%s", action, word, r.Stdout, r.Stderr)
			}
		}
	}
	uninstallService(t) // what a test has left that was killed
	t.Cleanup(func() { uninstallService(t) })
	service(0, "install", "installed the service walkeep")
	service(1, "install", "already exists")
	service(1, "status", "stopped")

	k, err := registry.OpenKey(registry.LOCAL_MACHINE, `SYSTEM\CurrentControlSet\Services\walkeep`, registry.QUERY_VALUE)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	command, _, err := k.GetStringValue("ImagePath")
	if want := fmt.Sprintf(`--config "%s" service run`, ini); err != nil || !strings.HasSuffix(command, want) {
		t.Errorf("the service's command is %q (%v), want it to end in %s", command, err, want)
	}
	if user, _, err := k.GetStringValue("ObjectName"); err != nil || user != `NT SERVICE\walkeep` {
		t.Errorf("the service's account is %q (%v)", user, err)
	}
	if delayed, _, err := k.GetIntegerValue("DelayedAutoStart"); err != nil || delayed != 1 {
		t.Errorf("a delayed start: got %d (%v)", delayed, err)
	}

	service(0, "start")
	service(0, "status", "running")
	// A supervisor holds its spool's lock while it runs.
	until := time.Now().Add(time.Minute)
	for ; time.Now().Before(until); time.Sleep(100 * time.Millisecond) {
		locks, _ := filepath.Glob(filepath.Join(spool, ".supervisor-*.lock"))
		if len(locks) == 0 {
			continue
		}
		if f, err := durable.OpenFile(locks[0], os.O_RDWR); err == nil {
			locked, err := durable.Lock(f)
			f.Close()
			if err == nil && !locked {
				break
			}
		}
	}
	if time.Now().After(until) {
		t.Error("the service does not hold the spool's lock")
	}
	service(0, "stop")
	service(1, "status", "stopped")
	uninstallService(t)
}

// uninstallService waits until the service is gone: Windows keeps it for as long as another program, such as a command that has just
// ended, has it open.
func uninstallService(t *testing.T) {
	t.Helper()
	call := func(action string) string {
		said, _ := cmdtest.Command("supervisor", "service", action).CombinedOutput() // also after the test's end
		return string(said)
	}
	said := call("uninstall")
	for until := time.Now().Add(time.Minute); time.Now().Before(until); time.Sleep(50 * time.Millisecond) {
		if strings.Contains(call("status"), "it is not installed") {
			return
		}
	}
	t.Errorf("the service is still there: %s", said)
}
