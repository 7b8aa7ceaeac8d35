package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// In front of a hole, what list says can be recovered can be had: by the position that it names, and by --target-available.
func TestRestoreAsFarAsAvailable(t *testing.T) {
	t.Parallel()
	r := newShortRig(t, 15)
	c := r.start("primary", nil)
	r.must(c.Exec(r.ctx(), "CREATE TABLE elsewhere (n int)"))
	r.load(c, 20, 1)
	r.backup(c)
	r.load(c, 20, 2)
	want := r.sum(c)
	r.cut(c)
	r.load(c, 5, 3)
	missing := r.cut(c)
	r.load(c, 5, 4)
	r.cut(c)
	hole, err := filepath.Glob(filepath.Join(r.spool, "wal", "*", missing+".*"))
	if err != nil || len(hole) != 1 {
		t.Fatalf("%s: %v, %v", missing, hole, err)
	}
	r.must(os.Remove(hole[0]))

	var list struct {
		Windows []struct {
			To string `json:"to_lsn"`
		}
	}
	r.must(json.Unmarshal([]byte(r.run("list", "--json")), &list))
	to := list.Windows[len(list.Windows)-1].To
	said := r.fails(1, []string{missing + " is missing", " to " + to, "--target-available"}, "restore", "--target-dir", filepath.Join(r.dir, "refused"))
	if strings.Contains(said, "restored backup") {
		t.Errorf("restore over a hole:\n%s", said)
	}
	for name, args := range map[string][]string{"position": {"--target-lsn", to}, "available": {"--target-available"}} {
		r.opens(r.restore(name, append(args, "--target-action", "promote")...), want)
	}
}
