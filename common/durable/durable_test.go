package durable_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"walkeep/common/durable"
)

// create begins a file and writes its content.
func create(t testing.TB, path, content string) *durable.File {
	t.Helper()
	f, err := durable.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(content); err != nil {
		t.Fatal(err)
	}
	return f
}

// names lists a directory.
func names(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func wantFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	if got := names(t, dir); !slices.Equal(got, want) {
		t.Errorf("directory: got %q, want %q", got, want)
	}
}

func wantContent(t *testing.T, path, want string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s: got %q, %v, want %q", filepath.Base(path), got, err, want)
	}
}

func TestCommit(t *testing.T) {
	errCheck := errors.New("check failed")
	for _, test := range []struct {
		name   string
		before func(path string) error
		check  func(*os.File) error
		want   error
		then   string // content of the file, if there is one
	}{
		{name: "new", then: "new"},
		{name: "checked", then: "new", check: func(f *os.File) error {
			b, err := os.ReadFile(f.Name())
			if err == nil && string(b) != "new" {
				err = fmt.Errorf("check sees %q", b)
			}
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				return err
			}
			if b, err := io.ReadAll(f); err != nil || string(b) != "new" {
				return fmt.Errorf("check reads %q, %w", b, err)
			}
			return err
		}},
		{name: "check fails", check: func(*os.File) error { return errCheck }, want: errCheck},
		{name: "exists", before: func(p string) error { return os.WriteFile(p, []byte("old"), 0o600) }, want: fs.ErrExist, then: "old"},
		{name: "exists, empty", before: func(p string) error { return os.WriteFile(p, nil, 0o600) }, want: fs.ErrExist, then: ""},
		{name: "directory", before: func(p string) error { return os.Mkdir(p, 0o700) }, want: fs.ErrExist},
		{name: "dangling link", before: func(p string) error { return symlink("nowhere", p) }, want: fs.ErrExist},
		{name: "comes in between", want: fs.ErrExist, then: "other", check: func(f *os.File) error {
			return os.WriteFile(filepath.Join(filepath.Dir(f.Name()), "file"), []byte("other"), 0o600)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "file")
			if test.before != nil {
				if err := test.before(path); err != nil {
					t.Skip(err) // a system without symbolic links
				}
			}
			f := create(t, path, "new")
			if err := f.Commit(test.check); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			f.Discard() // as callers do in a defer
			if test.then != "" {
				wantContent(t, path, test.then)
			}
			left := names(t, dir)
			if test.want == nil || test.before != nil || test.then != "" {
				if !slices.Equal(left, []string{"file"}) {
					t.Errorf("directory: got %q, want the file alone", left)
				}
			} else if len(left) > 0 {
				t.Errorf("directory: got %q, want nothing", left)
			}
		})
	}
}

func symlink(to, path string) error {
	if runtime.GOOS == "windows" {
		return errors.ErrUnsupported
	}
	return os.Symlink(to, path)
}

func TestDiscard(t *testing.T) {
	dir := t.TempDir()
	f := create(t, filepath.Join(dir, "file"), "x")
	if left := names(t, dir); len(left) != 1 || !durable.IsTemp(left[0]) {
		t.Errorf("while it is written: got %q, want one temporary file", left)
	}
	f.Discard()
	f.Discard()
	wantFiles(t, dir)
	if err := f.Commit(nil); err == nil {
		t.Error("a discarded file is committed")
	}
	wantFiles(t, dir)
}

func TestCreateFails(t *testing.T) {
	dir := t.TempDir()
	if _, err := durable.Create(filepath.Join(dir, "missing", "file")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in a directory that does not exist: got %v, want ErrNotExist", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := durable.Create(filepath.Join(dir, "file", "below")); err == nil {
		t.Error("a file below a file is created")
	}
	wantFiles(t, dir, "file")
}

// What holds WAL is nobody else's business, whatever the umask.
func TestModes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes of Windows say nothing")
	}
	dir := t.TempDir()
	if err := durable.MkdirAll(dir, "a/b"); err != nil {
		t.Fatal(err)
	}
	if err := create(t, filepath.Join(dir, "a", "b", "file"), "x").Commit(nil); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(filepath.Join(dir, "a", "note"), []byte("x")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{"a": 0o700, "a/b": 0o700, "a/b/file": 0o600, "a/note": 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: got %v, %v, want %v", name, info.Mode().Perm(), err, want)
		}
	}
}

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "note")
	for _, content := range []string{"first", "", "a longer second", "third"} {
		if err := durable.WriteFile(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		wantContent(t, path, content)
		wantFiles(t, dir, "note")
	}
	if err := durable.WriteFile(filepath.Join(dir, "missing", "note"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in a directory that does not exist: got %v, want ErrNotExist", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "taken"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(filepath.Join(dir, "taken"), nil); err == nil {
		t.Error("a directory is replaced by a file")
	}
	wantFiles(t, dir, "note", "taken")
}

func TestReplace(t *testing.T) {
	dir := t.TempDir()
	temp, path := filepath.Join(dir, "RECOVERYXLOG.walkeep"), filepath.Join(dir, "RECOVERYXLOG")
	for _, content := range []string{"new", "newer"} {
		if err := os.WriteFile(temp, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := durable.Replace(temp, path); err != nil {
			t.Fatal(err)
		}
		wantContent(t, path, content)
		wantFiles(t, dir, "RECOVERYXLOG")
	}
	if err := durable.Replace(temp, path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a file: got %v, want ErrNotExist", err)
	}
	wantContent(t, path, "newer")
}

func TestMkdirAll(t *testing.T) {
	dir := t.TempDir()
	for _, sub := range []string{".", "", "a", "a/b/c", "a/b/c"} {
		if err := durable.MkdirAll(dir, sub); err != nil {
			t.Errorf("%q: %v", sub, err)
		}
		if info, err := os.Stat(filepath.Join(dir, sub)); err != nil || !info.IsDir() {
			t.Errorf("%q: got %v, %v, want a directory", sub, info, err)
		}
		if err := durable.SyncPath(dir, sub); err != nil {
			t.Errorf("%q: sync: %v", sub, err)
		}
	}
}

// A root that is missing is not made up, by no function.
func TestMissingRoot(t *testing.T) {
	root := filepath.Join(t.TempDir(), "not mounted")
	for _, sub := range []string{"a", "a/b"} {
		if err := durable.MkdirAll(root, sub); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("MkdirAll %q: got %v, want ErrNotExist", sub, err)
		}
	}
	durable.MkdirAll(root, ".")
	durable.MkdirAll(root, "")
	for _, sub := range []string{".", "", "a"} {
		if err := durable.SyncPath(root, sub); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("SyncPath %q: got %v, want ErrNotExist", sub, err)
		}
	}
	if _, err := os.Stat(root); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the root was made: %v", err)
	}
}

func TestSync(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := durable.SyncFile(path); err != nil {
		t.Errorf("SyncFile: %v", err)
	}
	if err := durable.SyncDir(dir); err != nil {
		t.Errorf("SyncDir: %v", err)
	}
	wantContent(t, path, "x")
	if err := durable.SyncFile(path + "2"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("SyncFile without a file: got %v, want ErrNotExist", err)
	}
	if err := durable.SyncDir(path + "2"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("SyncDir without a directory: got %v, want ErrNotExist", err)
	}
}

func TestOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if _, err := durable.Open(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a file: got %v, want ErrNotExist", err)
	}
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := durable.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Rename(path, path+"2"); err != nil { // as PostgreSQL does with segments
		t.Errorf("an open file cannot be renamed: %v", err)
	}
	if b, err := io.ReadAll(f); err != nil || string(b) != "x" {
		t.Errorf("got %q, %v", b, err)
	}
}

func TestIsTemp(t *testing.T) {
	for name, want := range map[string]bool{
		".000000010000000000000001.zst.0123456789abcdef.tmp": true,
		".tmp": true, ".x.tmp": true, "x.tmp": false, ".x": false, "": false, "000000010000000000000001.zst": false, ".x.tmp.zst": false,
	} {
		if got := durable.IsTemp(name); got != want {
			t.Errorf("%q: got %t, want %t", name, got, want)
		}
	}
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	live := create(t, filepath.Join(dir, "live"), "x")
	defer live.Discard()
	old := time.Now().Add(-1000 * time.Hour) // its writer is slow: age decides only where there are no locks
	if err := os.Chtimes(live.Name(), old, old); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".left.0000000000000000.tmp", ".other.tmp", "final", ".hidden", "visible.tmp"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, ".dir.tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	want := []string{".dir.tmp", ".hidden", filepath.Base(live.Name()), "final", "visible.tmp"}
	if err := symlink("final", filepath.Join(dir, ".link.tmp")); err == nil {
		want = append(want, ".link.tmp")
	}
	if n, err := durable.Sweep(dir); n != 2 || err != nil {
		t.Errorf("got %d, %v, want 2 removed", n, err)
	}
	slices.Sort(want)
	wantFiles(t, dir, want...)
	if err := live.Commit(nil); err != nil {
		t.Errorf("the live file: %v", err)
	}
	if n, err := durable.Sweep(dir); n != 0 || err != nil {
		t.Errorf("again: got %d, %v, want nothing removed", n, err)
	}
	if _, err := durable.Sweep(filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a directory: got %v, want ErrNotExist", err)
	}
}

// temps lists what is left of files without a name.
func temps(t testing.TB, dir string) []string {
	t.Helper()
	return slices.DeleteFunc(names(t, dir), func(n string) bool { return !strings.HasSuffix(n, ".tmp") })
}

// Content of any size, written at once or at any place, is there as it was given.
func TestPieces(t *testing.T) {
	for _, size := range []int{0, 1, 128<<10 - 1, 128 << 10, 128<<10 + 1, 300 << 10} {
		content := make([]byte, size)
		for i := range content {
			content[i] = byte(i * 7 / 3)
		}
		f, err := os.Create(filepath.Join(t.TempDir(), "file"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		n, err := durable.Pieces{File: f}.Write(content)
		if err != nil || n != size {
			t.Errorf("write %d bytes: got %d, %v", size, n, err)
		}
		if n, err = (durable.Pieces{File: f}).WriteAt(content, int64(size)+5); err != nil || n != size {
			t.Errorf("write %d bytes elsewhere: got %d, %v", size, n, err)
		}
		got, err := os.ReadFile(f.Name())
		if want := slices.Concat(content, make([]byte, 5), content); err != nil || size > 0 && !bytes.Equal(got, want) {
			t.Errorf("%d bytes are not what was written (%v)", size, err)
		}
	}
}
