package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"walkeep/common/pgtest"
)

// Each test here is of something that a user must never see.

// lost is a rig with a backup and WAL behind it, of a cluster that no longer exists.
func lost(t *testing.T) (r *rig, id, want string) {
	t.Helper()
	r = newRig(t, 15)
	c := r.start("primary", nil)
	r.must(c.Exec(r.ctx(), "CREATE TABLE elsewhere (n int)"))
	r.load(c, 20, 1)
	id = r.backup(c)
	for seed := range uint64(4) {
		r.load(c, 20, 2+seed)
		r.cut(c)
	}
	want = r.sum(c)
	r.must(c.Kill())
	r.must(os.RemoveAll(c.Dir))
	return r, id, want
}

// segments are the archived segments' objects, in order.
func (r *rig) segments() []string {
	r.t.Helper()
	files, err := filepath.Glob(filepath.Join(r.spool, "wal", "*", "*.zst"))
	r.must(err)
	segment := regexp.MustCompile(`/[0-9A-F]{24}\.zst$`)
	files = slices.DeleteFunc(files, func(f string) bool { return !segment.MatchString(f) })
	if len(files) < 5 {
		r.t.Fatalf("the archive has %d segments", len(files))
	}
	return files
}

// empty checks that nothing was made of a directory.
func (r *rig) empty(dir string) {
	r.t.Helper()
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		r.t.Errorf("%s holds %v", dir, entries)
	}
}

// A backup that cannot be restored alone: the primary and all else is gone.
func TestNeverABackupThatNeedsMore(t *testing.T) {
	t.Parallel()
	r, _, want := lost(t)
	r.opens(r.restore("restored"), want)
}

// A green status while the WAL has a hole; a restore that starts copying before it knows that it can reach its target.
func TestNeverGreenWithAHole(t *testing.T) {
	t.Parallel()
	r, id, _ := lost(t)
	segments := r.segments()
	hole := segments[len(segments)-2]
	name := strings.TrimSuffix(filepath.Base(hole), ".zst")
	r.must(os.Remove(hole))

	dir := filepath.Join(r.dir, "restored")
	r.fails(1, []string{name, "hint: "}, "restore", "--target-dir", dir)
	r.fails(1, []string{name}, "restore", id, "--target-dir", dir)
	r.fails(1, []string{name}, "verify")
	r.fails(2, []string{"CRITICAL", name}, "check")
	r.empty(dir)
	for _, command := range []string{"list", "status"} {
		if out := r.run(command); !strings.Contains(out, name) {
			t.Errorf("%s does not name %s:\n%s", command, name, out)
		}
		var report map[string]any
		out := r.run(command, "--json")
		if err := json.Unmarshal([]byte(out), &report); err != nil || !strings.Contains(out, name) {
			t.Errorf("%s --json does not name %s (%v):\n%s", command, name, err, out)
		}
	}
	// What lies before the hole can be recovered.
	to := r.restore("before", "--target-immediate", "--target-action", "promote")
	r.must(to.Start(r.ctx()))
	r.must(to.WaitOpen(r.ctx()))
	r.sum(to)
}

// A backup that is listed as good while WAL that it needs itself is missing.
func TestNeverABackupWithoutItsWAL(t *testing.T) {
	t.Parallel()
	r, id, _ := lost(t)
	manifest, err := os.ReadFile(filepath.Join(r.spool, "backups", id, "manifest.json"))
	r.must(err)
	label := regexp.MustCompile(`\(file ([0-9A-F]{24})\)`).FindSubmatch(manifest)
	if label == nil {
		t.Fatalf("the manifest has no label:\n%s", manifest)
	}
	name := string(label[1])
	r.must(os.Remove(filepath.Join(r.spool, "wal", name[:16], name+".zst")))
	dir := filepath.Join(r.dir, "restored")
	for _, args := range [][]string{{"--target-immediate"}, {id}, {}} {
		r.fails(1, []string{name}, append([]string{"restore", "--target-dir", dir}, args...)...)
	}
	r.fails(2, []string{"CRITICAL"}, "check")
	r.empty(dir)
}

// Targets that are not there, refused with what is, before anything is copied.
func TestNeverACopyForATargetThatIsNotThere(t *testing.T) {
	t.Parallel()
	r, _, _ := lost(t)
	dir := filepath.Join(r.dir, "restored")
	for _, args := range [][]string{
		{"--target-time", "2001-01-01 00:00:00+00"},
		{"--target-time", time.Now().Add(time.Hour).UTC().Format("2006-01-02 15:04:05-07")},
		{"--target-xid", "4000000000"},
		{"--target-lsn", "0/28"},
		{"--target-lsn", "FF/0"},
		{"--target-name", "nobody has set it"},
		{"--target-timeline", "7"},
		{"20010101T000000Z"},
	} {
		r.fails(1, nil, append([]string{"restore", "--target-dir", dir}, args...)...)
		r.empty(dir)
	}
}

// "Latest" that is not the latest data: a damaged segment ends what can be recovered, and the archive's own objects are
// looked at, not only their names.
func TestNeverAnOlderLatest(t *testing.T) {
	t.Parallel()
	r, _, _ := lost(t)
	to := r.restore("restored")
	segments := r.segments()
	last := segments[len(segments)-1]
	content, err := os.ReadFile(last)
	r.must(err)
	content[len(content)/3] ^= 1
	r.must(os.WriteFile(last, content, 0o600))
	r.fails(1, []string{filepath.Base(last)}, "verify", "--deep")
	refused := filepath.Join(r.dir, "refused")
	r.fails(1, []string{"is damaged in the archive"}, "restore", "--target-dir", refused)
	r.empty(refused)
	// The server itself stops, rather than to open the database as it was before.
	r.must(to.Launch())
	if err := to.WaitExit(r.ctx(), pgtest.Timeout); err != nil {
		t.Errorf("the server goes on without the newest segment: %v", err)
	}
	if log := to.Log(); !strings.Contains(log, "damaged") {
		t.Errorf("the server's log does not say what is damaged:\n%s", log)
	}
}

// A restore into a directory that is in use, or that holds something.
func TestNeverOverALiveServer(t *testing.T) {
	t.Parallel()
	r, _, want := lost(t)
	to := r.restore("restored")
	r.opens(to, want)
	for _, delta := range []string{"--delta", "--jobs=1"} {
		r.fails(1, []string{"hint: "}, "restore", "--target-dir", to.Dir, delta)
	}
	r.must(to.Exec(r.ctx(), "SELECT 1"))
	if got := r.sum(to); got != want {
		t.Errorf("the live server's rows have changed")
	}
	r.must(to.Stop(r.ctx(), pgtest.Fast))
	r.fails(1, []string{"not empty"}, "restore", "--target-dir", to.Dir)
	other := filepath.Join(r.dir, "precious")
	r.mkdir(other)
	r.must(pgtest.Command(r.ctx(), "touch", filepath.Join(other, "file")).Run())
	r.fails(1, nil, "restore", "--target-dir", other, "--delta")
	if _, err := os.Stat(filepath.Join(other, "file")); err != nil {
		t.Error(err)
	}
}

// A drill, or a restore, that touches a live server or its tablespaces.
func TestNeverIntoALiveTablespace(t *testing.T) {
	t.Parallel()
	r := newRig(t, 15)
	c := r.start("primary", nil)
	space := filepath.Join(r.dir, "space")
	r.mkdir(space)
	r.must(c.Exec(r.ctx(), "CREATE TABLESPACE aside LOCATION '"+space+"'"))
	r.must(c.Exec(r.ctx(), "CREATE TABLE elsewhere (n int) TABLESPACE aside"))
	r.must(c.Exec(r.ctx(), "INSERT INTO elsewhere SELECT generate_series(1, 1000)"))
	r.load(c, 20, 1)
	r.backup(c)
	r.cut(c)
	r.must(c.Checkpoint(r.ctx()))
	want, before := r.sum(c), tree(t, space)

	r.run("drill", "--drill-dir", r.dir)
	for _, delta := range []string{"--delta", "--jobs=1"} {
		dir := filepath.Join(r.dir, "restored")
		r.fails(1, []string{space}, "restore", "--target-dir", dir, delta)
		r.empty(dir)
	}
	if after := tree(t, space); !slices.Equal(after, before) {
		t.Errorf("the live server's tablespace was changed:\n%q\n%q", before, after)
	}
	if got := r.sum(c); got != want {
		t.Error("the live server's rows have changed")
	}
}

// tree lists what is in a directory, with sizes and times.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil {
			all = append(all, fmt.Sprint(path, info.Mode(), info.Size(), info.ModTime()))
		}
		return err
	})
	if err != nil || len(all) < 3 {
		t.Fatalf("list %s: %q, %v", dir, all, err)
	}
	return all
}
