package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walkeep/common/sealed/sealedtest"
)

// A restore by root with a private key that the server's user cannot read is refused before anything is copied: the server would
// stop at its first segment.
func TestEncryptedKeyOfRoot(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can be root")
	}
	r := newRig(t, restoreMajor)
	made := sealedtest.New(t)
	r.must(os.Chmod(filepath.Dir(made.Identity), 0o700))
	encrypt, _ := r.keys()
	content, err := os.ReadFile(made.Recipients)
	r.must(err)
	r.must(os.WriteFile(encrypt[1], content, 0o644))
	c := r.start("primary", map[string]string{"archive_command": r.encrypting(encrypt...)})
	r.must(c.Exec(r.ctx(), "CREATE TABLE elsewhere (n int)"))
	r.load(c, 5, 1)
	r.backup(c, encrypt...)
	r.cut(c)
	want := r.sum(c)
	target := filepath.Join(r.dir, "restored")
	r.mkdir(target)
	out := r.asRoot("restore", "--target-dir", target, "--identity-file", made.Identity)
	if !strings.Contains(out, "cannot read "+made.Identity) || !strings.Contains(out, "hint: copy it to where that user can read it") {
		t.Errorf("restore says\n%s", out)
	}
	if entries, err := os.ReadDir(target); err != nil || len(entries) > 0 {
		t.Errorf("the directory has %v, %v", entries, err)
	}
	secret, err := os.ReadFile(made.Identity)
	r.must(err)
	copied := filepath.Join(r.dir, "keys", "identity")
	r.must(os.WriteFile(copied, secret, 0o600))
	r.give(filepath.Join(r.dir, "keys"))
	out = r.asRoot("restore", "--target-dir", target, "--identity-file", copied)
	r.opens(r.open(target), want)
	if t.Failed() {
		t.Log(out)
	}
}
