//go:build unix

package durable_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"walkeep/common/durable"
)

// What root makes belongs to the directory's owner, who cannot lead root elsewhere by a link.
func TestOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	const user = 65534
	dir, out := t.TempDir(), t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	owner := func(path string) int {
		t.Helper()
		info, err := os.Lstat(path)
		must(err)
		return int(info.Sys().(*syscall.Stat_t).Uid)
	}
	must(os.Chown(dir, user, user))
	must(os.Mkdir(filepath.Join(dir, "old"), 0o700)) // root's own, as older versions made it
	must(durable.MkdirAll(dir, "old/new/newer"))
	must(durable.WriteFile(filepath.Join(dir, "old/new/newer/note"), nil))
	f, err := durable.Create(filepath.Join(dir, "object"))
	must(err)
	must(f.Commit(nil))
	for _, path := range []string{"old", "old/new", "old/new/newer", "old/new/newer/note", "object"} {
		if got := owner(filepath.Join(dir, path)); got != user {
			t.Errorf("%s belongs to %d", path, got)
		}
	}

	secret := filepath.Join(out, "secret")
	must(os.WriteFile(secret, []byte("x"), 0o600))
	must(os.Symlink(secret, filepath.Join(dir, "link")))
	must(os.Symlink(out, filepath.Join(dir, "elsewhere")))
	must(os.Link(secret, filepath.Join(dir, "hard")))
	if f, err := durable.OpenFile(filepath.Join(dir, "link"), os.O_RDWR|os.O_CREATE); err == nil {
		f.Close()
		t.Error("root follows a link out of the directory")
	}
	f2, err := durable.OpenFile(filepath.Join(dir, "hard"), os.O_RDWR|os.O_CREATE)
	must(err)
	f2.Close()
	must(durable.MkdirAll(dir, "elsewhere/made")) // a directory that was moved to another disk
	for _, path := range []string{secret, out, filepath.Join(out, "made")} {
		if got := owner(path); got != 0 {
			t.Errorf("root gave %s to %d", path, got)
		}
	}
}
