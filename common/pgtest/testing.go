package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"
)

// New makes a cluster for a test, which is stopped and removed when the test ends, and does not start it. If the test has
// failed then, the tail of the server's log is printed and the whole of it kept. The test is skipped when there is no such
// server, or when WALKEEP_TEST_MAJORS leaves this major out.
func New(t testing.TB, o Options) *Cluster {
	t.Helper()
	if o.Major != 0 {
		Need(t, o.Major)
	}
	if o.Dir == "" {
		o.Dir = filepath.Join(TempDir(t), "data")
	}
	c, err := Init(t.Context(), o)
	if errors.Is(err, ErrNoServer) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return Attach(t, c)
}

// Attach makes a test own a cluster that came from Init or Open, as New does, except that the caller removes the data
// directory.
func Attach(t testing.TB, c *Cluster) *Cluster {
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("PostgreSQL %d on %s: %s", c.Major, c.Dir, keepLog(t.Name(), c))
		}
		if err := c.Close(); err != nil {
			t.Errorf("close cluster: %v", err)
		}
	})
	return c
}

// Need skips the test when there is no server of that major version, or when WALKEEP_TEST_MAJORS leaves it out.
func Need(t testing.TB, major int) {
	t.Helper()
	if !slices.Contains(Majors(), major) {
		t.Skipf("PostgreSQL %d is not among WALKEEP_TEST_MAJORS", major)
	}
	if _, err := Bindir(major); err != nil {
		t.Skipf("PostgreSQL %d: %v", major, err)
	}
}

// Each runs a parallel subtest for each of Majors, named pg10 and so on; where some majors are named, only for those.
func Each(t *testing.T, f func(t *testing.T, major int), only ...int) {
	t.Helper()
	for _, major := range Majors() {
		if len(only) > 0 && !slices.Contains(only, major) {
			continue
		}
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			t.Parallel()
			Need(t, major)
			f(t, major)
		})
	}
}

// Turns are the versions in which something changed that much of walkeep's work depends on: the oldest; 12, with
// signal files in place of recovery.conf; 14, which reports whether replay is paused; 15, with base backups in typed
// messages; and the newest.
func Turns() []int { return []int{MinMajor, 12, 14, 15, MaxMajor} }

// Few are the versions for stories that differ little between those of Turns: the oldest, one in the middle and the newest;
// with WALKEEP_LONG set, all of Turns.
func Few() []int {
	if os.Getenv("WALKEEP_LONG") != "" {
		return Turns()
	}
	return []int{MinMajor, 15, MaxMajor}
}

// TempDir makes a directory, as MkdirTemp does, that is removed when the test ends.
func TempDir(t testing.TB) string {
	t.Helper()
	dir, err := MkdirTemp()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// Programs that the test has started may still be writing for a moment.
		err := poll(context.Background(), time.Minute, func(context.Context) (bool, error) { return os.RemoveAll(dir) == nil, nil })
		if err != nil {
			t.Errorf("remove %s: %v: %v", dir, err, os.RemoveAll(dir))
		}
	})
	return dir
}

var unsafeInLogName = regexp.MustCompile(`[^0-9A-Za-z]+`)

// keepLog copies the server's log to a place that outlives the test, and returns a message about it.
func keepLog(test string, c *Cluster) string {
	tail := "\n" + c.LogTail(40)
	dir := filepath.Join(os.TempDir(), "walkeep-failed")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err.Error() + tail
	}
	name := fmt.Sprintf("%s-pg%d-%d-%s.log", unsafeInLogName.ReplaceAllString(test, "-"), c.Major, os.Getpid(), filepath.Base(c.runDir))
	path := filepath.Join(dir, name)
	if err := copyFile(c.LogPath(), path); err != nil {
		return err.Error() + tail
	}
	return "log kept in " + path + tail
}
