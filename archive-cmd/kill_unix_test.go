//go:build unix

package main_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"walkeep/common/cmdtest"
)

// TestKills kills archive-cmd 500 times, WALKEEP_KILLS times if that is set, at random moments while files wait and
// look-ahead works. After each kill the call is made again, as PostgreSQL does.
func TestKills(t *testing.T) {
	cmdtest.Long(t)
	t.Parallel()
	kills := number(t, "WALKEEP_KILLS", 500)
	for _, test := range []struct {
		name, codec, dir string
		percent          int
	}{
		{"zstd in memory", "zstd", cmdtest.FastDir(t), 40},
		{"s2 in memory", "s2", cmdtest.FastDir(t), 40},
		{"zstd on disk", "zstd", cmdtest.Dir(t), 20},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			k := killer{bench: newBench(t, test.dir, cmdtest.WAL(t, "15")), files: cmdtest.WAL(t, "15"), codec: test.codec,
				random: cmdtest.Rand(t), left: kills * test.percent / 100}
			total := k.left
			k.calibrate(t)
			rounds := 0
			for ; k.left > 0 && !t.Failed(); rounds++ {
				k.round(t)
			}
			t.Logf("%d kills in %d rounds; a call takes %v, one for what is there %v; %d calls ended before they were killed",
				total-k.left, rounds, k.work, k.duplicate, k.missed)
		})
	}
}

type killer struct {
	bench
	files           cmdtest.Files
	codec           string
	random          *rand.Rand
	left            int           // kills
	work, duplicate time.Duration // of a call that stores everything that waits, and of one that stores nothing
	missed          int
}

// calibrate measures how long calls take when nobody kills them.
func (k *killer) calibrate(t *testing.T) {
	t.Helper()
	name := k.files.Names()[0]
	r := k.ahead(t, 24, name, "--codec", k.codec)
	r.Expect(t, 0)
	k.work, k.duplicate = r.Took, r.Took
	for range 5 {
		r := k.ahead(t, 24, name, "--codec", k.codec)
		r.Expect(t, 0)
		k.duplicate = min(k.duplicate, r.Took)
	}
	k.reset(t)
}

// reset empties the spool.
func (k *killer) reset(t *testing.T) {
	t.Helper()
	err := os.RemoveAll(string(k.spool))
	if err == nil {
		err = os.Mkdir(string(k.spool), 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// round archives all that waits, through kills.
func (k *killer) round(t *testing.T) {
	acknowledged := make(cmdtest.Files)
	for _, name := range k.files.Names() {
		for !t.Failed() {
			if k.call(t, name) {
				acknowledged[name] = k.files[name]
				break
			}
			if k.random.IntN(8) == 0 {
				k.checkKilled(t, acknowledged)
			}
		}
		k.mark(t, name, ".ready", ".done")
	}
	k.spool.Check(t, k.files) // so that no temporary file is left
	for name := range acknowledged {
		k.restore(t, name)
	}
	for _, name := range k.files.Names() {
		k.mark(t, name, ".done", ".ready")
	}
	k.reset(t)
}

// call reports whether a file was archived before the call was killed.
func (k *killer) call(t *testing.T, name string) bool {
	most := k.work
	if _, err := os.Stat(k.object(name)); err == nil {
		most = k.duplicate
	}
	cmd := cmdtest.Command("archive-cmd", "--spool", string(k.spool), "--codec", k.codec, filepath.Join("pg_wal", name))
	cmd.Dir = string(k.data)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if k.left > 0 {
		kill := time.AfterFunc(time.Duration(k.random.Int64N(int64(most))), func() { cmd.Process.Kill() })
		defer kill.Stop()
	}
	r := cmdtest.Ended(cmd, cmd.Wait())
	switch {
	case r.Signal == syscall.SIGKILL:
		k.left--
		return false
	case r.Code != 0:
		t.Errorf("%s: got exit code %d, signal %d: %s", name, r.Code, r.Signal, &stderr)
		return false
	}
	if k.left > 0 {
		k.missed++
	}
	return true
}

func (k *killer) object(name string) string {
	dir := filepath.Join(string(k.spool), "wal")
	if len(name) >= 24 {
		dir = filepath.Join(dir, name[:16])
	}
	return filepath.Join(dir, name+map[string]string{"zstd": ".zst", "s2": ".s2"}[k.codec])
}

// checkKilled checks the spool as a kill has left it.
func (k *killer) checkKilled(t *testing.T, acknowledged cmdtest.Files) {
	t.Helper()
	objects := k.spool.CheckKilled(t, k.files)
	for name := range acknowledged {
		if _, ok := objects[name]; !ok {
			t.Errorf("%s was acknowledged, and is missing", name)
		}
	}
}

// mark does what PostgreSQL does when a file was archived, or its inverse.
func (k *killer) mark(t *testing.T, name, from, to string) {
	t.Helper()
	status := k.data.Path("pg_wal/archive_status", name)
	if err := os.Rename(status+from, status+to); err != nil {
		t.Fatal(err)
	}
}

// restore gets a file back as PostgreSQL would.
func (k *killer) restore(t *testing.T, name string) {
	t.Helper()
	path := filepath.Join(k.dir, "restored")
	cmdtest.Run(t, cmdtest.Command("restore-cmd", "--spool", string(k.spool), name, path)).Expect(t, 0)
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, k.files[name]) {
		t.Errorf("%s was acknowledged, and comes back as something else (%v)", name, err)
	}
}
