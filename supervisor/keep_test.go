package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"walkeep/common/backup"
	"walkeep/common/pgtest"
)

// A cluster is backed up three times, on two timelines: what cleanup leaves is whole, can be restored, and is what the dry
// run has said.
func TestCleanupAndVerify(t *testing.T) {
	pgtest.Each(t, func(t *testing.T, major int) {
		r := newRig(t, major)
		c := r.start("first", nil)
		r.must(c.Exec(r.ctx(), "CREATE TABLE elsewhere (n int)"))
		r.load(c, 50, 1)
		oldest := r.backup(c)
		r.load(c, 50, 2)
		middle := r.backup(c)
		r.cut(c)
		r.must(c.Stop(r.ctx(), pgtest.Fast))
		r.must(c.Recover(map[string]string{
			"restore_command":          r.restoreCommand(),
			"recovery_target_timeline": "latest",
		}))
		r.must(c.Start(r.ctx()))
		r.must(c.WaitOpen(r.ctx()))
		r.load(c, 50, 3)
		newest := r.backup(c)
		r.load(c, 50, 4)
		want := r.sum(c)
		r.cut(c)

		r.run("verify")
		r.run("verify", "--deep", "--jobs", "1")
		dry := lines(r.run("cleanup", "--keep-backups", "2", "--dry-run", "-v"), "would remove ")
		if len(dry) == 0 {
			t.Fatal("nothing would be removed")
		}
		if out := r.run("cleanup"); strings.Contains(out, oldest+" (") {
			t.Errorf("without a rule a backup was removed:\n%s", out)
		}
		dry = lines(r.run("cleanup", "--keep-backups", "2", "--dry-run", "-v"), "would remove ")
		removed := lines(r.run("cleanup", "--keep-backups", "2", "-v"), "removed ")
		if !slices.Equal(dry, removed) {
			t.Errorf("the dry run said %q, the run removed %q", dry, removed)
		}
		if again := lines(r.run("cleanup", "--keep-backups", "2", "-v"), "removed "); !slices.Equal(again, []string{"0 objects, 0 B in all"}) {
			t.Errorf("a second cleanup removed %q", again)
		}
		for _, id := range []string{middle, newest} {
			if _, err := os.Stat(filepath.Join(r.spool, "backups", id, "manifest.json")); err != nil {
				t.Errorf("backup %s: %v", id, err)
			}
		}
		if _, err := os.Stat(filepath.Join(r.spool, "backups", oldest)); !os.IsNotExist(err) {
			t.Errorf("directory of backup %s: %v", oldest, err)
		}
		r.run("verify", "--deep")
		r.must(c.Stop(r.ctx(), pgtest.Fast))
		r.opens(r.restore("again", middle), want)

		r.missing(t, newest)
	}, pgtest.Few()...)
}

// missing removes a volume of a backup and a segment that the backup needs, and expects verify to name both.
func (r *rig) missing(t *testing.T, id string) {
	backups := filepath.Join(r.spool, "backups", id)
	content, err := os.ReadFile(filepath.Join(backups, "manifest.json"))
	r.must(err)
	m, err := backup.ParseManifest(content)
	r.must(err)
	volume := filepath.Join(backups, "data-0001.tar.zst")
	r.must(os.Rename(volume, volume+".away"))
	name := m.FirstSegment().String()
	r.must(os.Rename(filepath.Join(r.spool, "wal", name[:16], name+".zst"), filepath.Join(r.dir, "away")))
	for _, args := range [][]string{{"verify"}, {"verify", "--deep"}} {
		r.fails(1, []string{
			"damaged: backups/" + id + "/data-0001.tar.zst: ", "missing: " + name + ": missing, although there is later WAL",
			"missing: backups/" + id + "/: backup " + id + " cannot be restored: ", "3 problems found", "hint: ",
		}, args...)
	}
	out, _ := r.command("verify", "--json").Output()
	var result struct {
		Problems []struct{ Severity, Object, Problem string }
	}
	r.must(json.Unmarshal(out, &result))
	if got := len(result.Problems); got != 3 {
		t.Errorf("verify --json names %d problems, want 3: %s", got, out)
	}
}

// lines returns the rest of each line that begins with a word.
func lines(out, word string) []string {
	var found []string
	for line := range strings.Lines(out) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), word); ok {
			found = append(found, rest)
		}
	}
	return found
}
