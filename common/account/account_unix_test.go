//go:build unix

package account_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"walkeep/common/account"
)

// nobody is a user that owns nothing of the system.
const nobody = 65534

// Files that root makes for the owner of a directory belong to that owner, and programs run as the owner. Another user changes
// no owner, and runs programs as itself.
func TestOwnerOf(t *testing.T) {
	dir := t.TempDir()
	want := os.Geteuid()
	if account.Root() {
		want = nobody
		if err := os.Chown(dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	a, err := account.OwnerOf(dir)
	if err != nil || a.Gives() != account.Root() || !a.Ours() || a.IsRoot() || a.Name == "" {
		t.Fatalf("got %+v (%v)", a, err)
	}
	file, link, opened := filepath.Join(dir, "file"), filepath.Join(dir, "link"), filepath.Join(dir, "opened")
	f, err := os.Create(opened)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	made := filepath.Join(dir, "made")
	for _, err := range []error{
		os.WriteFile(file, nil, 0o600), os.Symlink("nowhere", link), os.Mkdir(made, 0o700),
		a.Give(file), a.GiveLink(root, "link"), a.GiveFile(f), a.GiveDir(made),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	for _, path := range []string{file, link, opened, made} {
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := int(info.Sys().(*syscall.Stat_t).Uid); got != want || !a.Owns(info) || !a.Reads(info) {
			t.Errorf("%s belongs to %d, want %d", path, got, want)
		}
	}
	cmd := exec.Command("id", "-u")
	cmd.Dir = "/"
	a.Use(cmd)
	out, err := cmd.Output()
	if got := strings.TrimSpace(string(out)); err != nil || got != strconv.Itoa(want) {
		t.Errorf("a program runs as %s (%v), want %d", got, err, want)
	}
}

// A link that took the name of a directory is not followed.
func TestGiveDirFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	a, err := account.OwnerOf(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.GiveDir(link); (err != nil) != account.Root() {
		t.Errorf("got %v", err)
	}
}
