//go:build unix

package main_test

import (
	"io/fs"
	"os"
	"testing"

	"walkeep/common/cmdtest"
)

// In a cluster with group access the group may read what is delivered, as it may all else.
func TestGroupAccess(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	name := files.Segments()[0]
	h := newHost(t, files.Only(name))
	for dir, want := range map[fs.FileMode]fs.FileMode{0o750: 0o640, 0o700: 0o600} {
		if err := os.Chmod(h.data.Path(), dir); err != nil {
			t.Fatal(err)
		}
		h.deliver(t, name, files[name])
		info, err := os.Stat(h.data.Path(target))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("data directory %o: got %o, want %o", dir, got, want)
		}
	}
}
