package main_test

import (
	"path/filepath"
	"strings"
	"testing"

	"walkeep/common/pgtest"
)

// A standby that was promoted for a test archives a timeline with a higher number than the production server's. What is
// recovered and followed without a word is the production server's, and the other one is named.
func TestProductionTimelineIsFollowed(t *testing.T) {
	t.Parallel()
	r := newRig(t, 15)
	production := r.start("primary", nil)
	r.must(production.Exec(r.ctx(), "CREATE TABLE elsewhere (n int)"))
	r.load(production, 20, 1)
	old := r.backup(production)
	tested := r.standby("tested", nil)
	r.follows(tested, production)
	r.must(tested.Promote(r.ctx()))
	r.must(tested.Exec(r.ctx(), "CREATE TABLE of_a_test AS SELECT 1"))
	r.cut(tested)

	r.load(production, 20, 2)
	r.cut(production)
	// Nobody has asked the server since: both ends are named, and how to choose.
	said := r.says("restore", "--target-dir", filepath.Join(r.dir, "unsure"))
	for _, word := range []string{"recovery goes along timeline 2", "because it is the newest", "timeline 1, which parts from it at 0/", "--target-timeline 1"} {
		if !strings.Contains(said, word) {
			t.Errorf("restore does not say %q:\n%s", word, said)
		}
	}
	// A server that can be asked is.
	said = r.says("restore", "--conninfo", production.ConnString(), "--target-dir", filepath.Join(r.dir, "asked"))
	if !strings.Contains(said, "recovery goes along timeline 1") || !strings.Contains(said, "which is the production server's") {
		t.Errorf("restore with a server to ask:\n%s", said)
	}

	newer := r.backup(production)
	r.load(production, 20, 3)
	r.cut(production)
	want := r.sum(production)
	dir := filepath.Join(r.dir, "copy")
	said = r.says("restore", "--target-dir", dir)
	for _, word := range []string{"restored backup " + newer, "of timeline 1", "timeline 2, which parts from it at 0/", "cleanup --drop-timeline 2"} {
		if !strings.Contains(said, word) {
			t.Errorf("restore does not say %q:\n%s", word, said)
		}
	}
	r.opens(r.open(dir), want)
	if out := r.run("drill"); !strings.Contains(out, "timeline 1") {
		t.Errorf("the drill is not of timeline 1:\n%s", out)
	}
	if out := r.run("cleanup", "--dry-run", "--keep-backups", "1"); strings.Contains(out, "keep backup "+old+":") || !strings.Contains(out, "keep backup "+newer+":") {
		t.Errorf("cleanup keeps the backup that leads to the tested standby's timeline:\n%s", out)
	}

	r.must(tested.Stop(r.ctx(), pgtest.Fast))
	out := r.rejoined(tested)
	if !strings.Contains(out, "timeline 1, the production server's") {
		t.Errorf("rejoin:\n%s", out)
	}
	r.load(production, 20, 4)
	r.follows(tested, production)
	if s, err := tested.QueryString(r.ctx(), "SELECT coalesce(to_regclass('of_a_test')::text, 'gone')"); err != nil || s != "gone" {
		t.Errorf("the test's table: %q, %v", s, err)
	}

	r.fails(1, []string{"the production server was last seen on it"}, "cleanup", "--drop-timeline", "1")
	before := r.run("list")
	r.run("cleanup", "--drop-timeline", "2", "--dry-run")
	if r.run("list") != before {
		t.Error("a dry run removed something")
	}
	if out := r.run("cleanup", "--drop-timeline", "2"); !strings.Contains(out, "removed of timeline 2:") {
		t.Errorf("cleanup --drop-timeline:\n%s", out)
	}
	r.fails(1, []string{"the archive has nothing of this timeline"}, "cleanup", "--drop-timeline", "2")
	if said := r.says("restore", "--target-dir", filepath.Join(r.dir, "after")); strings.Contains(said, "timeline 2") {
		t.Errorf("restore after the timeline was dropped:\n%s", said)
	}
	r.load(production, 5, 5)
	r.follows(tested, production)
}

// says calls supervisor, which must succeed, and returns its output and messages.
func (r *rig) says(args ...string) string {
	r.t.Helper()
	out, err := r.command(args...).CombinedOutput()
	if err != nil {
		r.t.Fatalf("supervisor %q: %v\n%s", args, err, out)
	}
	return string(out)
}
