package service_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"walkeep/supervisor/service"
)

// manager opens a service manager's socket, and puts it in the test's environment.
func manager(t *testing.T, name string) *net.UnixConn {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	t.Setenv("NOTIFY_SOCKET", name)
	return c
}

// await reads messages until one contains part, and returns all of them.
func await(t *testing.T, c *net.UnixConn, part string) []string {
	t.Helper()
	var all []string
	buffer := make([]byte, 4096)
	c.SetReadDeadline(time.Now().Add(5 * time.Minute))
	for {
		n, err := c.Read(buffer)
		if err != nil {
			t.Fatalf("wait for %s: %v; got %q", part, err, all)
		}
		all = append(all, string(buffer[:n]))
		if slices.Contains(strings.Split(string(buffer[:n]), "\n"), part) || strings.HasPrefix(string(buffer[:n]), part) {
			return all
		}
	}
}

func TestNotify(t *testing.T) {
	for name, socket := range map[string]string{"path": filepath.Join(t.TempDir(), "notify"), "abstract": "@walkeep-test-" + filepath.Base(t.TempDir())} {
		t.Run(name, func(t *testing.T) {
			c := manager(t, socket)
			t.Setenv("WATCHDOG_USEC", "20000")
			n := service.NewNotifier()
			for _, v := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC"} {
				if _, ok := os.LookupEnv(v); ok {
					t.Errorf("%s is still in the environment of programs that are started", v)
				}
			}
			hangup := make(chan os.Signal, 1)
			release := make(chan bool)
			l := service.New(service.Plan{Tasks: []service.Task{{Name: "backup", Schedule: "0 2 29 2 *", Run: nil}}}, quiet())
			l.Notify, l.Reload = n, hangup
			l.Load = func(context.Context) (service.Plan, error) {
				<-release
				return l.Plan, nil
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() { ended <- l.Run(ctx) }()
			if got := await(t, c, "READY=1"); len(got) != 1 || !strings.Contains(got[0], "\nSTATUS=next: backup at ") {
				t.Errorf("got %q, want readiness and the status at once", got)
			}
			for range 3 {
				await(t, c, "WATCHDOG=1")
			}

			hangup <- syscall.SIGHUP
			got := await(t, c, "RELOADING=1")
			if !regexp.MustCompile(`^RELOADING=1\nMONOTONIC_USEC=[1-9][0-9]+$`).MatchString(got[len(got)-1]) {
				t.Errorf("got %q, want the time with it", got)
			}
			// A loop that hangs sends no watchdog message, although ten are due.
			c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			if n, err := c.Read(make([]byte, 4096)); err == nil {
				t.Errorf("got %d bytes from a loop that hangs", n)
			}
			close(release)
			await(t, c, "READY=1")
			await(t, c, "WATCHDOG=1")

			cancel()
			await(t, c, "STOPPING=1")
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// The watchdog of another process is ignored, and nothing is sent without a service manager.
func TestNoManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if n := service.NewNotifier(); n != nil {
		t.Errorf("got %+v, want none", n)
	}
	c := manager(t, filepath.Join(t.TempDir(), "notify"))
	t.Setenv("WATCHDOG_USEC", "1000")
	t.Setenv("WATCHDOG_PID", "1")
	l := service.New(service.Plan{}, quiet())
	l.Notify = service.NewNotifier()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := l.Run(ctx); err != nil {
		t.Error(err)
	}
	for _, m := range await(t, c, "STOPPING=1") {
		if strings.Contains(m, "WATCHDOG") {
			t.Errorf("got %q", m)
		}
	}
}

func TestIsTheJournal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	info, err := w.Stat()
	if err != nil {
		t.Fatal(err)
	}
	s := info.Sys().(*syscall.Stat_t)
	t.Setenv("JOURNAL_STREAM", fmt.Sprintf("%d:%d", s.Dev, s.Ino))
	if !service.IsJournal(w) {
		t.Error("the journal is not recognized")
	}
}
