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

// What cannot be archived stays, while streaming continues, and is archived as soon as that is possible.
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

// Another content under a segment's name: what was streamed is kept, and that is reported.
func TestSyncConflict(t *testing.T) {
	t.Parallel()
	r := newRig(t, 15)
	c := r.start("primary", r.keepAll(map[string]string{"archive_mode": "off"}))
	sync := r.sync(c)
	r.load(c, 5, 1)
	r.flushed(c)
	var name string
	for _, file := range r.streamedFiles() {
		name = strings.TrimSuffix(file, ".partial")
	}
	// The segment as the archive would hold it if another server had written other records after the first.
	content, err := os.ReadFile(c.Path("pg_wal/" + name))
	r.must(err)
	content[len(content)-100] ^= 1
	clear(content[len(content)/8:])
	other := filepath.Join(r.dir, name)
	r.must(os.WriteFile(other, content, 0o644))
	r.must(pgtest.Command(r.ctx(), cmdtest.Path("archive-cmd"), "-c", os.DevNull, "--spool", r.spool, other).Run())
	stored := r.archived(name)
	r.write(c, 4, 500_000)
	r.flushed(c)
	sync.says("another content is archived")
	r.until("the others to be archived", func() bool {
		waiting := 0
		for _, file := range r.streamedFiles() {
			if !strings.HasSuffix(file, ".partial") {
				waiting++
			}
		}
		return waiting == 1
	})
	if kept := r.streamedFile(name); len(kept) != 1<<20 {
		t.Errorf("%d bytes of %s are kept", len(kept), name)
	}
	if got := r.archived(name); string(got) != string(stored) {
		t.Error("what was archived was changed")
	}
	if trouble := r.streamNote().Trouble; !strings.Contains(trouble, name) {
		t.Errorf("the note says %q", trouble)
	}
	sync.stop()
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

// A partial segment whose segment the archive has by now is removed, even if a power cut has left something else behind
// its records; and kept aside if the records are others.
func TestSyncSuperseded(t *testing.T) {
	t.Parallel()
	for name, differs := range map[string]bool{"torn": false, "differs": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 15)
			c := r.start("primary", r.keepAll(map[string]string{"archive_mode": "off"}))
			sync := r.sync(c)
			r.load(c, 5, 1)
			r.flushed(c)
			r.settled()
			sync.stop()
			partial := filepath.Join(r.spool, "partial", r.streamedFiles()[0])
			content, err := os.ReadFile(partial)
			r.must(err)
			if differs { // an older content of the database, as it were: undamaged, and another
				content = content[:len(content)/2]
				copy(content[24:32], "another!") // the system identifier, which no record's checksum covers
			} else {
				content = append(content, "what a power cut leaves"...)
			}
			r.must(os.WriteFile(partial, content, 0o600))
			segment, err := c.SwitchWAL(r.ctx())
			r.must(err)
			r.must(pgtest.Command(r.ctx(), cmdtest.Path("archive-cmd"), "-c", os.DevNull, "--spool", r.spool, "--lookahead", "0", c.Path("pg_wal/"+segment)).Run())
			sync.start()
			r.load(c, 5, 2)
			end := r.flushed(c)
			r.until("the partial segment to be removed", func() bool { return r.streamedFile(filepath.Base(partial)) == nil })
			aside, err := filepath.Glob(partial + ".differs-*")
			r.must(err)
			if differs != (len(aside) == 1) || differs != strings.Contains(sync.said(), "differs from what is archived") {
				t.Errorf("%d files were put aside:\n%s", len(aside), sync.said())
			}
			if differs {
				if kept, err := os.ReadFile(aside[0]); err != nil || string(kept) != string(content) {
					t.Errorf("what differs was not kept: %v", err)
				}
			}
			r.settled()
			sync.stop()
			r.compare(c, 1, end)
		})
	}
}

// A server that came to its timeline in another way than the one whose history is archived is not streamed from.
func TestSyncOtherHistory(t *testing.T) {
	t.Parallel()
	r := newRig(t, 15)
	primary := r.start("primary", r.keepAll(map[string]string{"archive_mode": "off"}))
	r.load(primary, 5, 1)
	sync := r.sync(primary)
	r.flushed(primary)
	standby := r.cascade(primary, "standby", "off")
	sync.stop()
	r.must(primary.Kill())
	r.must(standby.Promote(r.ctx()))
	history := filepath.Join(r.dir, "00000002.history")
	r.must(os.WriteFile(history, []byte("1\t0/400028\tanother promotion\n"), 0o644))
	r.must(pgtest.Command(r.ctx(), cmdtest.Path("archive-cmd"), "-c", os.DevNull, "--spool", r.spool, history).Run())
	second := &streamer{r: r, log: filepath.Join(r.dir, "sync2.log"), args: []string{"sync", "--conninfo", standby.ConnString()}}
	second.start()
	defer second.cmd.Process.Kill()
	second.says("came to its timeline 2 in another way")
	for _, name := range r.streamedFiles() {
		if strings.HasPrefix(name, "00000002") {
			t.Errorf("%s was streamed", name)
		}
	}
	second.stop()
}
