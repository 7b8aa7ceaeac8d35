package main_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"walkeep/common/pgtest"
)

// ofWindows names a directory in which TestKilledOnWindows leaves its archive, and the sum of its rows, for TestOfWindows.
const ofWindows = "WALKEEP_OF_WINDOWS"

// The archive of a server on Windows is restored on Linux, where a server of the same architecture and version recovers it. One
// setting that initdb makes is of Windows alone.
func TestOfWindows(t *testing.T) {
	from := os.Getenv(ofWindows)
	if from == "" || runtime.GOOS == "windows" {
		t.Skip("make test-windows calls it on Linux")
	}
	r := newShortRig(t, 15)
	r.must(os.CopyFS(filepath.Join(r.dir, "theirs"), os.DirFS(filepath.Join(from, "spool"))))
	r.spool = filepath.Join(r.dir, "theirs")
	r.give(r.dir)
	r.run("verify", "--deep")
	c := r.silent(r.restore("restored"))
	r.must(c.Configure(map[string]string{"dynamic_shared_memory_type": "posix"}))
	r.opens(c, r.read(filepath.Join(from, "sum")))
	r.must(c.Stop(r.ctx(), pgtest.Fast))
}

// silent makes a restored server that has the settings of setup archive nothing.
func (r *rig) silent(c *pgtest.Cluster) *pgtest.Cluster {
	r.t.Helper()
	f, err := os.OpenFile(c.Path("postgresql.auto.conf"), os.O_WRONLY|os.O_APPEND, 0)
	r.must(err)
	defer f.Close()
	_, err = f.WriteString("archive_mode = off\n")
	r.must(err)
	return c
}
