package durable_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walkeep/common/durable"
)

// PostgreSQL renames and removes a WAL segment whether or not it is being archived.
func TestOpenFilesCanBeMoved(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	if err := os.WriteFile(a, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := durable.Open(a)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Rename(a, b); err != nil {
		t.Errorf("rename an open file: %v", err)
	}
	if err := os.Remove(b); err != nil {
		t.Errorf("remove an open file: %v", err)
	}
}

// A virus scanner holds a file for a moment, without sharing it.
func TestHeldFiles(t *testing.T) {
	for what, do := range map[string]func(path string) error{
		"replace": func(path string) error { return durable.WriteFile(path, []byte("new")) },
		"remove":  durable.Remove,
	} {
		t.Run(what, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			err = do(path) // it stays held, so it fails once the patience ends
			if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) {
				t.Errorf("while it is held: got %v, want a sharing violation", err)
			}
			if got, err := os.ReadFile(path); string(got) != "old" || err != nil {
				t.Errorf("while it is held: got %q, %v", got, err)
			}
			done := make(chan error)
			go func() { done <- do(path) }()
			f.Close()
			if err := <-done; err != nil {
				t.Errorf("once it is free: %v", err)
			}
			if left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); len(left) > 0 || err != nil {
				t.Errorf("left: %q, %v", left, err)
			}
		})
	}
}

func TestLongPath(t *testing.T) {
	dir := t.TempDir()
	long := strings.Repeat("long/", 60) + "end" // more than the 260 characters that Windows once had
	if err := durable.MkdirAll(dir, long); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, long, "file")
	for _, content := range []string{"one", "two"} {
		if err := durable.WriteFile(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	f, err := durable.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want ErrExist", err)
	}
	if got, err := os.ReadFile(path); string(got) != "two" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if err := errors.Join(durable.SyncPath(dir, long), durable.SyncFile(path), durable.Remove(path)); err != nil {
		t.Error(err)
	}
}

// A directory is removed once nobody has a file in it open.
func TestRemoveAllWaits(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "file"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err == nil {
		t.Fatal("an open file was removed: the test proves nothing")
	}
	done := make(chan error)
	go func() { done <- durable.RemoveAll(dir) }()
	f.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
