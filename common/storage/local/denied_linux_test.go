package local_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"walkeep/common/storage"
	"walkeep/common/storage/local"
)

// asNobody runs f with the rights of a user who may do nothing, on files at least: root may do everything.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	if os.Getuid() != 0 {
		f()
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Setfsuid(65534); err != nil {
		t.Fatal(err)
	}
	defer unix.Setfsuid(0)
	f()
}

// A root that may not be read says nothing about what is in it.
func TestRootUnreadable(t *testing.T) {
	for _, mode := range []os.FileMode{0, 0o444, 0o111} {
		root := filepath.Join(t.TempDir(), "spool")
		if err := os.Mkdir(root, 0o755); err != nil {
			t.Fatal(err)
		}
		reachable(t, filepath.Dir(root))
		b := open(t, root)
		if err := storage.Put(t.Context(), b, "there", text("x"), nil); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(root, mode); err != nil {
			t.Fatal(err)
		}
		asNobody(t, func() {
			_, err := local.Open(root)
			if !errors.Is(err, storage.ErrUnavailable) || !errors.Is(err, os.ErrPermission) {
				t.Errorf("mode %v: Open: got %v, want ErrUnavailable", mode, err)
			}
			wantUnavailable(t, b)
		})
		if err := os.Chmod(root, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// reachable lets everybody pass through the test's directories.
func reachable(t *testing.T, dir string) {
	t.Helper()
	for ; dir != "/" && dir != "/tmp"; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		if st := info.Sys().(*syscall.Stat_t); int(st.Uid) != os.Getuid() {
			return
		}
		if info.Mode()&0o005 != 0o005 {
			if err := os.Chmod(dir, info.Mode()|0o055); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// An object or a directory that may not be read is not "not there".
func TestObjectUnreadable(t *testing.T) {
	root := t.TempDir()
	reachable(t, root)
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	b := open(t, root)
	for _, name := range []string{"object", "dir/object"} {
		if err := storage.Put(t.Context(), b, name, text("x"), nil); err != nil {
			t.Fatal(err)
		}
	}
	if os.Getuid() != 0 {
		for _, name := range []string{"object", "dir"} {
			if err := os.Chmod(filepath.Join(root, name), 0); err != nil {
				t.Fatal(err)
			}
		}
		defer os.Chmod(filepath.Join(root, "dir"), 0o700)
	}
	asNobody(t, func() {
		_, errOpen := b.Open(t.Context(), "object")
		_, errBelow := b.Open(t.Context(), "dir/object")
		_, errList := storage.ListAll(t.Context(), b, "dir/")
		errPut := storage.Put(t.Context(), b, "dir/object", text("x"), nil)
		for what, err := range map[string]error{"Open": errOpen, "Open below": errBelow, "List": errList, "Put": errPut} {
			if !errors.Is(err, os.ErrPermission) || errors.Is(err, storage.ErrNotExist) || errors.Is(err, storage.ErrExist) {
				t.Errorf("%s: got %v, want a permission error", what, err)
			}
		}
	})
}
