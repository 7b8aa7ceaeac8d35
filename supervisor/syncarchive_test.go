package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"walkeep/common/cmdtest"
	"walkeep/common/pgtest"
)

// A server that does not archive can be backed up while its WAL is streamed, and not otherwise.
func TestSyncOnlyArchiver(t *testing.T) {
	majors(t, func(r *rig) {
		c := r.start("primary", map[string]string{"archive_mode": "off"})
		refused := func() {
			r.t.Helper()
			r.fails(1, []string{"archive_mode is off", "hint: ", "supervisor sync"}, "backup", "--conninfo", c.ConnString())
		}
		refused()
		sync := r.sync(c)
		r.noted()
		r.must(c.Exec(r.ctx(), "CREATE TABLE elsewhere (n int)")) // for sum
		r.load(c, 30, 1)
		r.loadWhile(c, 2, func() { r.backup(c) })
		_, err := c.SwitchWAL(r.ctx())
		r.must(err)
		want := r.sum(c)
		r.flushed(c)
		r.settled()
		sync.stop()
		r.run("verify", "--deep")
		r.opens(r.restore("back"), want)
		refused() // it has ended

		// A note of a stream that was killed long ago is no stream.
		note := filepath.Join(r.spool, "streams", "walkeep.json")
		text, err := os.ReadFile(note)
		r.must(err)
		r.must(os.WriteFile(note, []byte(strings.Replace(string(text), `"ended":true`, `"ended":false`, 1)), 0o600))
		heard := r.streamNote().Heard.Format(time.RFC3339Nano)
		text, err = os.ReadFile(note)
		r.must(err)
		r.must(os.WriteFile(note, []byte(strings.Replace(string(text), heard, "2020-01-01T00:00:00Z", 1)), 0o600))
		refused()
	})
}

// A segment that cannot be archived stays in partial/ while streaming continues, and is archived as soon as that is possible.
func TestSyncArchiverStuck(t *testing.T) {
	t.Parallel()
	r := newRig(t, 15)
	c := r.start("primary", r.keepAll(map[string]string{"archive_command": "false"}))
	sync := r.sync(c)
	r.flushed(c)
	away := filepath.Join(r.dir, "away")
	blocked := filepath.Join(r.spool, "wal")
	if err := os.Rename(blocked, away); err != nil {
		r.mkdir(away) // nothing was archived yet
	}
	r.must(os.WriteFile(blocked, []byte("a file where archive-cmd wants a directory"), 0o644))
	r.write(c, 8, 500_000)
	r.flushed(c)
	r.until("the segments wait", func() bool { return len(r.streamedFiles()) > 3 })
	sync.says("it stays in partial/")
	r.until("the note says it", func() bool { return r.streamNote().Trouble != "" })
	r.write(c, 2, 500_000)
	end := r.flushed(c)
	if said := sync.said(); strings.Count(said, "it stays in partial/") > 3 {
		t.Errorf("it says the same again and again:\n%s", said)
	}
	sync.kill() // what waits is not forgotten
	sync.start()
	r.flushed(c)
	r.must(os.Remove(blocked))
	r.must(os.Rename(away, blocked))
	r.settled()
	r.until("the note is well again", func() bool { return r.streamNote().Trouble == "" })
	sync.stop()
	r.compare(c, 1, end)
	r.run("verify")
}

// An archive that has later segments, and lacks those between, does not make the stream leave them out.
func TestSyncLeavesNothingOut(t *testing.T) {
	t.Parallel()
	r := newRig(t, 15)
	c := r.start("primary", r.keepAll(map[string]string{"archive_mode": "off"}))
	sync := r.sync(c)
	r.load(c, 5, 1)
	r.flushed(c)
	sync.stop()
	var last string
	for range 4 {
		r.load(c, 5, 2)
		var err error
		last, err = c.SwitchWAL(r.ctx())
		r.must(err)
	}
	r.must(pgtest.Command(r.ctx(), cmdtest.Path("archive-cmd"), "-c", os.DevNull, "--spool", r.spool, "--lookahead", "0", c.Path("pg_wal/"+last)).Run())
	sync.start()
	end := r.flushed(c)
	r.settled()
	sync.stop()
	r.compare(c, 1, end)
	r.run("verify")
}
