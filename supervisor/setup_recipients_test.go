package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walkeep/common/config"
)

// setup makes a server encrypt its WAL: the list of recipients stands in the configuration file, and the key for comparisons lies
// beside the list. A configuration file without the list is refused.
func TestSetupRecipients(t *testing.T) {
	t.Parallel()
	r := newSetupRig(t, setupMajor, minimal)
	encrypt, _ := r.keys()
	key := filepath.Join(filepath.Dir(encrypt[1]), "compare-key")
	r.must(os.WriteFile(r.ini, []byte(config.Line("spool", r.spool)+"\n"), 0o644))
	r.give(filepath.Dir(r.ini))
	r.refuses("names other recipients, or none", encrypt...)
	r.must(os.Remove(r.ini))

	out := r.setup(append(encrypt, "--restart")...)
	for _, words := range []string{"ok: WAL and backups are encrypted for the recipients in " + encrypt[1], "plan: make " + key, "done: made " + key, config.Line("recipients-file", encrypt[1])} {
		if !strings.Contains(out, words) {
			t.Errorf("setup does not say %q:\n%s", words, out)
		}
	}
	if _, err := os.Stat(key); err != nil {
		t.Error(err)
	}
	r.must(r.c.Exec(r.ctx(), "CREATE TABLE elsewhere (n int)"))
	segment := r.cut(r.c)
	if _, err := os.Stat(filepath.Join(r.spool, "wal", segment[:16], segment+".zst.age")); err != nil {
		t.Errorf("the segment is not encrypted: %v", err)
	}
	r.says("nothing to do", encrypt...)
	if out, err := r.command("-c", r.ini, "sync", "--conninfo", r.c.ConnString()).CombinedOutput(); err == nil || !strings.Contains(string(out), "cannot be streamed encrypted") {
		t.Errorf("sync: %v\n%s", err, out)
	}
}
