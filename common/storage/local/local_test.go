package local_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"walkeep/common/storage"
	"walkeep/common/storage/local"
	"walkeep/common/storage/storagetest"
)

// quickDir is a directory where fsync costs nothing, if there is one.
func quickDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "walkeep-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func open(t *testing.T, dir string) *local.Backend {
	t.Helper()
	b, err := local.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func text(s string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, s)
		return err
	}
}

func TestConformance(t *testing.T) {
	storagetest.Run(t, storagetest.Options{}, func(t *testing.T) storage.Backend { return open(t, quickDir(t)) })
}

// The answers of an archive that is there, by any of its methods.
func everyMethod(t *testing.T, b *local.Backend) map[string]error {
	errs := map[string]error{
		"Put":         storage.Put(t.Context(), b, "object", text("x"), nil),
		"Put below":   storage.Put(t.Context(), b, "dir/sub/object", text("x"), nil),
		"Remove":      b.Remove(t.Context(), "dir/other"),
		"Sync":        b.Sync(t.Context(), "dir/other"),
		"Replace":     b.Replace(t.Context(), "note", []byte("x")),
		"Replace far": b.Replace(t.Context(), "notes/note", []byte("x")),
	}
	_, errs["Open"] = b.Open(t.Context(), "dir/other")
	_, errs["List"] = storage.ListAll(t.Context(), b, "")
	_, errs["List below"] = storage.ListAll(t.Context(), b, "dir/o")
	return errs
}

func wantUnavailable(t *testing.T, b *local.Backend) {
	t.Helper()
	for method, err := range everyMethod(t, b) {
		if !errors.Is(err, storage.ErrUnavailable) || errors.Is(err, storage.ErrNotExist) {
			t.Errorf("%s: got %v, want ErrUnavailable", method, err)
		}
	}
}

// A root that is missing is a file system that is not mounted: nothing is "not there", and nothing is made behind it.
func TestRootMissing(t *testing.T) {
	root := filepath.Join(t.TempDir(), "spool")
	if _, err := local.Open(root); !errors.Is(err, storage.ErrUnavailable) || errors.Is(err, storage.ErrNotExist) {
		t.Errorf("Open: got %v, want ErrUnavailable", err)
	}
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	b := open(t, root)
	if err := os.Remove(root); err != nil {
		t.Fatal(err)
	}
	wantUnavailable(t, b)
	if _, err := os.Lstat(root); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the root was made: %v", err)
	}
}

func TestRootIsFile(t *testing.T) {
	root := filepath.Join(t.TempDir(), "spool")
	if err := os.WriteFile(root, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := local.Open(root); !errors.Is(err, storage.ErrUnavailable) || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("Open: got %v, want ErrUnavailable", err)
	}
	if err := os.Remove(root); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	b := open(t, root)
	if err := os.Remove(root); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(root, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantUnavailable(t, b)
}

func TestModes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes of Windows say nothing")
	}
	root := t.TempDir()
	b := open(t, root)
	if err := storage.Put(t.Context(), b, "wal/0000000100000000/object", text("x"), nil); err != nil {
		t.Fatal(err)
	}
	if err := b.Replace(t.Context(), "standbys/note", []byte("x")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{
		"wal": 0o700, "wal/0000000100000000": 0o700, "wal/0000000100000000/object": 0o600, "standbys": 0o700, "standbys/note": 0o600,
	} {
		info, err := os.Stat(filepath.Join(root, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: got %v, %v, want %v", name, info.Mode().Perm(), err, want)
		}
	}
}

// List returns objects only: no temporary files of any process, and no file whose name cannot be an object's.
func TestListSkips(t *testing.T) {
	root := t.TempDir()
	b := open(t, root)
	for _, name := range []string{".object.0123456789abcdef.tmp", ".object.zst.AbCdEf", ".hidden", "object"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(root, ".snapshot"), 0o700); err != nil {
		t.Fatal(err)
	}
	err := storage.Put(t.Context(), b, "put", func(w io.Writer) error {
		wantList(t, b, "", storage.Entry{Name: "object", Size: 1})
		return text("xy")(w)
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantList(t, b, "", storage.Entry{Name: "object", Size: 1}, storage.Entry{Name: "put", Size: 2})
}

func wantList(t *testing.T, b *local.Backend, prefix string, want ...storage.Entry) {
	t.Helper()
	got, err := storage.ListAll(t.Context(), b, prefix)
	if err != nil || len(got) != len(want) {
		t.Errorf("list %q: got %+v, %v, want %+v", prefix, got, err, want)
		return
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("list %q: got %+v, want %+v", prefix, got[i], want[i])
		}
	}
}

// Someone who ran out of space has moved a directory, and a file, to another disk.
func TestSymbolicLinks(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("links need a privilege there")
	}
	root, disk := t.TempDir(), t.TempDir()
	b := open(t, root)
	const dir = "wal/0000000100000000/"
	if err := storage.Put(t.Context(), b, dir+"a", text("content"), nil); err != nil {
		t.Fatal(err)
	}
	if err := storage.Put(t.Context(), b, "wal/file", text("content"), nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"wal/0000000100000000", "wal/file"} {
		moved := filepath.Join(disk, filepath.Base(name))
		if err := os.Rename(filepath.Join(root, name), moved); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(moved, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("nowhere", filepath.Join(root, "wal", "lost")); err != nil {
		t.Fatal(err)
	}
	entries, err := storage.ListAll(t.Context(), b, "wal/lost")
	if err != nil || len(entries) != 1 || entries[0].Err == nil {
		t.Errorf("a link that leads nowhere is listed as %+v (%v)", entries, err)
	}
	if _, err := b.Open(t.Context(), "wal/lost"); err == nil || errors.Is(err, storage.ErrNotExist) {
		t.Errorf("a link that leads nowhere: open: got %v", err)
	}
	if err := os.Remove(filepath.Join(root, "wal", "lost")); err != nil {
		t.Fatal(err)
	}
	wantList(t, b, "wal/", storage.Entry{Name: dir}, storage.Entry{Name: "wal/file", Size: 7})
	wantList(t, b, dir, storage.Entry{Name: dir + "a", Size: 7})
	for _, name := range []string{dir + "a", "wal/file"} {
		got, err := storage.ReadAll(t.Context(), b, name, 100)
		if err != nil || string(got) != "content" {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	if err := os.Symlink("nowhere", filepath.Join(root, "wal", "lost")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{dir + "a", "wal/file", "wal/lost"} {
		if err := storage.Put(t.Context(), b, name, text("other"), nil); !errors.Is(err, storage.ErrExist) {
			t.Errorf("put %s: got %v, want ErrExist", name, err)
		}
	}
	if err := storage.Put(t.Context(), b, dir+"b", text("new"), nil); err != nil {
		t.Errorf("put beside: %v", err)
	}
	if _, err := os.Stat(filepath.Join(disk, "0000000100000000", "b")); err != nil {
		t.Error(err)
	}
}

// What is no file cannot be read as one.
func TestOpenDirectory(t *testing.T) {
	root := t.TempDir()
	b := open(t, root)
	if err := os.Mkdir(filepath.Join(root, "x.zst"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Open(t.Context(), "x.zst"); err == nil || errors.Is(err, storage.ErrNotExist) {
		t.Errorf("got %v, want an error that is not ErrNotExist", err)
	}
	if err := storage.Put(t.Context(), b, "x.zst", text("x"), nil); !errors.Is(err, storage.ErrExist) {
		t.Errorf("put: got %v, want ErrExist", err)
	}
	if err := os.WriteFile(filepath.Join(root, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := storage.Put(t.Context(), b, "file/below", text("x"), nil); err == nil || errors.Is(err, storage.ErrNotExist) {
		t.Errorf("put below a file: got %v, want an error that is not ErrNotExist", err)
	}
}

// The disk to which a directory was moved is not mounted any more: nothing that it held is "not there", nor made again.
func TestLinkLeadsNowhere(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("links need a privilege there")
	}
	for _, moved := range []string{"wal", "wal/0000000100000000"} {
		root, disk := t.TempDir(), filepath.Join(t.TempDir(), "disk")
		b := open(t, root)
		const dir = "wal/0000000100000000/"
		if err := storage.Put(t.Context(), b, dir+"a", text("content"), nil); err != nil {
			t.Fatal(err)
		}
		for _, err := range []error{os.Rename(filepath.Join(root, moved), disk), os.Symlink(disk, filepath.Join(root, moved))} {
			if err != nil {
				t.Fatal(err)
			}
		}
		wantList(t, b, dir, storage.Entry{Name: dir + "a", Size: 7})
		if err := os.Rename(disk, disk+".off"); err != nil {
			t.Fatal(err)
		}
		_, errList := storage.ListAll(t.Context(), b, dir)
		_, errOpen := b.Open(t.Context(), dir+"a")
		_, errDir := b.HasDir(t.Context(), "wal/0000000100000000")
		for what, err := range map[string]error{
			"list": errList, "open": errOpen, "look for": errDir, "put": storage.Put(t.Context(), b, dir+"b", text("x"), nil),
			"replace": b.Replace(t.Context(), dir+"a", []byte("x")), "remove": b.Remove(t.Context(), dir+"a"), "make": b.MakeDir(t.Context(), dir[:len(dir)-1]),
		} {
			if !errors.Is(err, storage.ErrUnavailable) || errors.Is(err, storage.ErrNotExist) {
				t.Errorf("%s moved away: %s: got %v, want ErrUnavailable", moved, what, err)
			}
		}
		if _, err := os.Stat(disk); err == nil {
			t.Errorf("%s was made again", moved)
		}
	}
}
