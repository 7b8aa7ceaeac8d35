package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"walkeep/common/notes"
	"walkeep/common/pgtest"
	"walkeep/supervisor/report"
)

// restorable returns the ids of the backups that list calls restorable.
func (r *rig) restorable() (ids []string) {
	r.t.Helper()
	var got report.Report
	r.must(json.Unmarshal([]byte(r.run("list", "--json")), &got))
	for _, b := range got.Backups {
		if b.Restorable {
			ids = append(ids, b.ID)
		}
	}
	return ids
}

// damage changes one byte of a file, and gives what puts it right again.
func (r *rig) damage(file string, at int64) (undo func()) {
	r.t.Helper()
	content, err := os.ReadFile(file)
	r.must(err)
	write := func() { r.must(os.WriteFile(file, content, 0o600)) }
	if at < 0 {
		at += int64(len(content))
	}
	content[at] ^= 4
	write()
	content[at] ^= 4
	return write
}

// Backups that lack objects, or in which damage was found, do not count: neither for list and check, nor for the rules of
// cleanup, nor for a restore, which takes an older one and reports this.
func TestUnsoundBackups(t *testing.T) {
	t.Parallel()
	r := newRig(t, restoreMajor)
	c := r.start("primary", nil)
	r.must(c.Exec(r.ctx(), "CREATE TABLE elsewhere (n int)"))
	var ids []string
	for i := range 4 {
		r.load(c, 5, uint64(i))
		ids = append(ids, r.backup(c))
	}
	r.cut(c)
	want := r.sum(c)
	volume := func(i int) string { return filepath.Join(r.spool, "backups", ids[i], "data-0001.tar.zst") }
	r.check(c, report.OK, []string{"restorable=4"})
	expect := func(when string, sound ...int) {
		t.Helper()
		var want []string
		for _, i := range sound {
			want = append(want, ids[i])
		}
		if got := r.restorable(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: restorable are %q, want %q", when, got, want)
		}
		r.check(c, report.Warning, []string{"cannot be restored", fmt.Sprintf("restorable=%d", len(sound))})
		dry := r.run("cleanup", "--keep-backups", "1", "--dry-run")
		if last := want[len(want)-1]; !strings.Contains(dry, "keep backup "+last+": one of the newest 1") {
			t.Errorf("%s: cleanup does not keep %s for its rule:\n%s", when, last, dry)
		}
	}

	// Nobody has verified: the listing shows it.
	r.must(os.Rename(volume(3), volume(3)+".away"))
	expect("a volume is missing", 0, 1, 2)
	r.must(os.Truncate(volume(2), 1000))
	expect("a volume was cut", 0, 1)

	// A trailer shows it to who opens it, the content to who reads it.
	undo := r.damage(volume(1), 100_000)
	r.fails(1, []string{"damaged: backups/" + ids[1]}, "verify", "--deep")
	expect("verify --deep has found damage", 0)
	r.fails(1, []string{"damaged: backups/" + ids[1], "verify --deep has found it"}, "verify")

	dir := filepath.Join(r.dir, "named")
	r.fails(1, []string{"backup " + ids[1] + " cannot be restored", "possible is", "hint: "}, "restore", "--target-dir", dir, ids[1])
	if _, err := os.Lstat(dir); err == nil {
		t.Error("a restore that was refused has made its directory")
	}
	copied := filepath.Join(r.dir, "copied")
	out, err := r.command("restore", "--target-dir", copied).CombinedOutput()
	for _, word := range []string{ids[3] + " cannot be restored", ids[2] + " cannot be restored", ids[1] + " cannot be restored", "restored backup " + ids[0]} {
		if err != nil || !strings.Contains(string(out), word) {
			t.Errorf("restore: %v, and it does not say %q:\n%s", err, word, out)
		}
	}
	r.opens(r.open(copied), want)
	undo()
	r.fails(1, []string{"damaged: backups/" + ids[2]}, "verify", "--deep")
	expect("read again and whole", 0, 1)

	// A trailer that is wrong is found by the restore itself, before it touches anything.
	undo = r.damage(volume(1), -10)
	other := filepath.Join(r.dir, "other")
	out, err = r.command("restore", "--target-dir", other).CombinedOutput()
	if err != nil || !strings.Contains(string(out), ids[1]+" cannot be restored") || !strings.Contains(string(out), "restored backup "+ids[0]) {
		t.Errorf("restore: %v\n%s", err, out)
	}
	undo()

	removed := r.run("cleanup", "--keep-backups", "2")
	if strings.Contains(removed, "removed backup "+ids[0]) || strings.Contains(removed, "removed backup "+ids[1]) {
		t.Errorf("cleanup has removed a sound backup:\n%s", removed)
	}
	if got := r.restorable(); len(got) != 2 {
		t.Errorf("after the cleanup %q can be restored", got)
	}
	for _, id := range ids[2:] {
		r.must(os.RemoveAll(filepath.Join(r.spool, "backups", id)))
	}
	r.run("cleanup", "--keep-backups", "2")
	if notes, err := filepath.Glob(filepath.Join(r.spool, "verified", ids[3]+"*")); err != nil || len(notes) > 0 {
		t.Errorf("the notes of a backup that is gone are still there: %q, %v", notes, err)
	}
	r.check(c, report.OK, []string{"restorable=2"})

	// A drill that fails counts, too, until one succeeds.
	r.drill(1, "--restore-command", "exit 200", ids[1])
	r.check(c, report.Warning, []string{"the last drill of backup " + ids[1] + " failed"})
	if dry := r.run("cleanup", "--keep-backups", "1", "--dry-run"); !strings.Contains(dry, "keep backup "+ids[0]+": one of the newest 1") {
		t.Errorf("cleanup counts a backup whose drill failed:\n%s", dry)
	}
	r.drill(0, ids[1])
	r.check(c, report.OK, nil)

	// A segment that is damaged ends what can be recovered.
	segment, err := filepath.Glob(filepath.Join(r.spool, "wal", "0000000100000000", "*.zst"))
	r.must(err)
	undo = r.damage(segment[len(segment)-1], -10)
	r.check(c, report.Critical, []string{"cannot be read: its newest data cannot be recovered"})
	undo()
	undo = r.damage(segment[len(segment)-1], 300)
	r.fails(1, []string{"damaged: "}, "verify", "--deep")
	r.check(c, report.Critical, []string{"is damaged in the archive", "can be recovered only up to"})
	r.fails(1, []string{"is damaged in the archive"}, "restore", "--target-dir", filepath.Join(r.dir, "nowhere"))
	undo()
	r.check(c, report.OK, nil)
}

// check reports WAL that the server archives elsewhere, keeps for a slot, or has given up.
func TestCheckOfServer(t *testing.T) {
	t.Parallel()
	r := newRig(t, restoreMajor)
	c := r.start("primary", nil)
	r.backup(c)
	r.cut(c)
	r.check(c, report.OK, nil)
	set := func(name, value string) {
		t.Helper()
		r.must(c.Exec(r.ctx(), "ALTER SYSTEM SET "+name+" = '"+value+"'"))
		r.must(c.Reload(r.ctx()))
	}
	turn := func(n int) {
		t.Helper()
		for range n {
			_, err := c.SwitchWAL(r.ctx())
			r.must(err)
		}
	}
	acknowledged := func() {
		t.Helper()
		r.cut(c)
	}

	// The statistics begin again after a crash. The archive shows that the command, whatever it is, has archived here.
	wrapper := filepath.Join(r.dir, "wrapper")
	r.must(os.WriteFile(wrapper, []byte("#!/bin/sh\nwhile [ -e "+wrapper+".hold ]; do sleep 0.1; done\nexec "+strings.Replace(r.archiveCommand(), "%p", "$1", 1)+"\n"), 0o755))
	set("archive_command", wrapper+" %p")
	r.must(c.Exec(r.ctx(), "SELECT pg_stat_reset_shared('archiver')"))
	r.check(c, report.OK, nil)

	// What a quiet server has just finished has not waited since it archived the segment before.
	r.cut(c)
	r.must(c.Exec(r.ctx(), "SELECT pg_sleep(2)"))
	r.must(os.WriteFile(wrapper+".hold", nil, 0o644))
	before := time.Now()
	turn(1)
	late := r.status("--conninfo", c.ConnString())
	since := time.Since(before) + time.Second // the server rounds the times of files down to seconds
	if s := late.Server; s.Lag == nil || s.Lag.Segments != 1 || s.Lag.Seconds > since.Seconds() {
		t.Errorf("lag %+v, want at most %s, as the segment was just finished; the last one was archived at %s", s.Lag, since, s.LastArchivedTime)
	}
	r.must(os.Remove(wrapper + ".hold"))
	r.cut(c)

	for _, command := range []string{"/bin/true", strings.Replace(r.archiveCommand(), r.spool, filepath.Join(r.dir, "elsewhere"), 1)} {
		if strings.Contains(command, "elsewhere") {
			r.mkdir(filepath.Join(r.dir, "elsewhere"))
		}
		set("archive_command", command)
		acknowledged()
		r.check(c, report.Critical, []string{"the server has reported"})
	}
	set("archive_command", "")
	r.check(c, report.Critical, []string{"archive_command is empty"})

	// What failed and waited before archiving was turned off is no matter of today's.
	set("archive_command", "exit 1 #archive-cmd")
	turn(1)
	set("archive_mode", "off")
	r.must(c.WaitFor(r.ctx(), pgtest.Timeout, "a failure to archive", func(ctx context.Context) (bool, error) {
		n, err := c.QueryInt(ctx, "SELECT failed_count FROM pg_stat_archiver")
		return n > 0, err
	}))
	r.check(c, report.Critical, []string{"archiving fails"})
	r.must(c.Restart(r.ctx()))
	if s := r.status("--conninfo", c.ConnString()).Server; s == nil || s.Failing || s.Failed == 0 || s.Ready != nil {
		t.Errorf("archive_mode is off: %+v", s)
	}
	set("archive_mode", "on")
	r.must(c.Restart(r.ctx()))

	// The command does not come back: nothing fails, and what is behind is known.
	set("archive_command", "sleep 600 #archive-cmd")
	turn(18)
	r.check(c, report.Critical, []string{"segments behind"}, "--max-lag", "0s")
	got := r.status("--conninfo", c.ConnString())
	if l := got.Server.Lag; l == nil || l.Segments < 18 || l.First == "" {
		t.Errorf("lag: %+v", l)
	}
	first := r.status("--conninfo", c.ConnString()).Server.Lag.Seconds
	time.Sleep(1100 * time.Millisecond)
	if later := r.status("--conninfo", c.ConnString()).Server.Lag.Seconds; later <= first {
		t.Errorf("the lag does not grow: %g s, then %g s", first, later)
	}

	// The server keeps WAL for a slot that nobody uses.
	r.must(c.Exec(r.ctx(), "SELECT pg_create_physical_replication_slot('unused', true)"))
	turn(18)
	r.check(c, report.Critical, []string{"replication slot unused is not in use"})
	r.must(c.Exec(r.ctx(), "SELECT pg_drop_replication_slot('unused')"))
}

// A stream that is gone for good alarms nobody for ever.
func TestStreamIsForgotten(t *testing.T) {
	t.Parallel()
	r := newRig(t, restoreMajor)
	c := r.start("primary", nil)
	r.backup(c)
	r.cut(c)
	note := func(slot string) {
		t.Helper()
		r.must(pgtest.Command(r.ctx(), "mkdir", "-p", filepath.Join(r.spool, "streams")).Run())
		content, err := json.Marshal(notes.Stream{Host: "gone", Slot: slot, Timeline: 1, Flushed: 1, Sent: 1, Heard: time.Now().Add(-time.Hour), Synchronous: true})
		r.must(err)
		file := filepath.Join(r.spool, "streams", slot+".json")
		r.must(os.WriteFile(file, content, 0o644))
	}
	note("old")
	r.must(c.Exec(r.ctx(), "SELECT pg_create_physical_replication_slot('old')"))
	r.check(c, report.Warning, []string{"stream old has not heard its server", "--forget-stream old"})
	r.must(c.Exec(r.ctx(), "ALTER SYSTEM SET synchronous_standby_names = 'walkeep'"))
	r.must(c.Reload(r.ctx()))
	r.check(c, report.Critical, []string{"commits that wait for it do not return"})

	s := r.sync(c, "--slot", "new", "--synchronous")
	r.streaming(c)
	r.until("the new stream to be noted", func() bool {
		_, err := os.Stat(filepath.Join(r.spool, "streams", "new.json"))
		return err == nil
	})
	r.check(c, report.OK, nil)
	r.must(c.Exec(r.ctx(), "ALTER SYSTEM RESET synchronous_standby_names"))
	r.must(c.Reload(r.ctx()))
	s.stop()
	r.must(c.Exec(r.ctx(), "SELECT pg_drop_replication_slot('old')"))
	r.check(c, report.OK, nil)
	if text := r.run("status", "--conninfo", c.ConnString()); !strings.Contains(text, "its slot does not exist") {
		t.Errorf("status:\n%s", text)
	}
	r.run("cleanup", "--forget-stream", "old")
	r.fails(2, []string{"no note of such a stream"}, "cleanup", "--forget-stream", "old")
}
