package local_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"walkeep/common/storage"
	"walkeep/common/storage/local"
)

func TestLimit(t *testing.T) {
	root := t.TempDir()
	first := open(t, root)
	for _, name := range []string{"archive.json", "wal/a", "wal/0000000100000000/b"} {
		if err := storage.Put(t.Context(), first, name, text(strings.Repeat("x", 1000)), nil); err != nil {
			t.Fatal(err)
		}
	}
	b := open(t, root)
	b.SetLimit(5000)
	for _, test := range []struct {
		name string
		size int
		full bool
	}{
		{"wal/c", 2001, true},
		{"wal/d", 1000, false},
		{"wal/e", 1001, true},
		{"wal/f", 1000, false}, // exactly
		{"wal/g", 1, true},
		{"wal/h", 0, false},
	} {
		err := storage.Put(t.Context(), b, test.name, text(strings.Repeat("x", test.size)), nil)
		if errors.Is(err, local.ErrFull) != test.full || (err != nil) != test.full {
			t.Errorf("%s: got %v, want full %t", test.name, err, test.full)
		}
		if _, err := b.Open(t.Context(), test.name); errors.Is(err, storage.ErrNotExist) != test.full {
			t.Errorf("%s: open: %v", test.name, err)
		}
	}
	left, err := filepath.Glob(filepath.Join(root, "wal", ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
	if err := storage.Put(t.Context(), b, "wal/d", text("x"), nil); !errors.Is(err, storage.ErrExist) {
		t.Errorf("an object that is there, in a full archive: got %v, want ErrExist", err)
	}
	if err := b.Replace(t.Context(), "note", []byte("x")); err != nil {
		t.Errorf("a note in a full archive: %v", err)
	}
}

// An archive that is full already takes nothing, and is not measured wrong by what is being written.
func TestLimitBelowUse(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "foreign"), make([]byte, 2000), 0o600); err != nil {
		t.Fatal(err)
	}
	b := open(t, root)
	b.SetLimit(1000)
	for range 2 {
		if err := storage.Put(t.Context(), b, "x", text("1"), nil); !errors.Is(err, local.ErrFull) || !strings.Contains(err.Error(), "2000 of 1000 bytes") {
			t.Errorf("got %v, want ErrFull", err)
		}
	}
}

// Several writers in one process never take the archive over its limit together.
func TestLimitIsShared(t *testing.T) {
	root := quickDir(t)
	b := open(t, root)
	b.SetLimit(10_000)
	var done sync.WaitGroup
	for i := range 30 {
		done.Go(func() {
			err := storage.Put(t.Context(), b, fmt.Sprintf("wal/%d", i), text(strings.Repeat("x", 1000)), nil)
			if err != nil && !errors.Is(err, local.ErrFull) {
				t.Error(err)
			}
		})
	}
	done.Wait()
	entries, err := storage.ListAll(t.Context(), b, "wal/")
	if err != nil || len(entries) > 10 || len(entries) == 0 {
		t.Errorf("got %d objects of 1000 bytes, %v, want at most 10", len(entries), err)
	}
}

// A check that fails leaves no reserve behind that would fill the archive by and by.
func TestLimitAfterFailures(t *testing.T) {
	b := open(t, quickDir(t))
	b.SetLimit(3000)
	for range 20 {
		err := storage.Put(t.Context(), b, "x", text(strings.Repeat("x", 1000)), func(io.Reader) error { return io.ErrUnexpectedEOF })
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("got %v", err)
		}
	}
	if err := storage.Put(t.Context(), b, "x", text("x"), nil); err != nil {
		t.Errorf("after failures: %v", err)
	}
}

// A call for one segment reads few of the directories that many segments lie in, and sees all the same what is added to them
// or taken away. A directory that is read again shows by a file that was written to, which no object ever is.
func TestLimitReadsLittle(t *testing.T) {
	root := quickDir(t)
	first := open(t, root)
	const logs, size = 30, 1000
	object := func(log int, name string) string { return fmt.Sprintf("wal/00000001%08X/%s", log, name) }
	for log := range logs {
		if err := storage.Put(t.Context(), first, object(log, "a"), text(strings.Repeat("x", size)), nil); err != nil {
			t.Fatal(err)
		}
	}
	room := func(extra int64) error {
		b := open(t, root)
		b.SetLimit(logs*size + 10_000 + extra)
		return storage.Put(t.Context(), b, object(logs-1, "z"), text("x"), func(io.Reader) error { return io.ErrUnexpectedEOF })
	}
	const fits = "fits" // the check failed, behind the limit
	answer := func(err error) string {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return fits
		}
		return fmt.Sprint(err)
	}
	if got := answer(room(0)); got != fits {
		t.Fatal(got)
	}
	written := filepath.Join(root, filepath.FromSlash(object(3, "a")))
	if err := os.WriteFile(written, make([]byte, 50_000), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := answer(room(0)); got != fits {
		t.Errorf("a directory that has not changed was read again: %s", got)
	}
	if err := storage.Put(t.Context(), first, object(3, "b"), text("x"), nil); err != nil {
		t.Fatal(err)
	}
	if err := room(0); !errors.Is(err, local.ErrFull) {
		t.Errorf("a directory that has changed was not read again: %v", err)
	}
	for _, name := range []string{"a", "b"} {
		if err := first.Remove(t.Context(), object(3, name)); err != nil {
			t.Fatal(err)
		}
	}
	if got := answer(room(0)); got != fits {
		t.Errorf("after a removal: %s", got)
	}
	if err := storage.Put(t.Context(), first, "backups/b/data", text(strings.Repeat("x", 20_000)), nil); err != nil {
		t.Fatal(err)
	}
	if err := room(0); !errors.Is(err, local.ErrFull) {
		t.Errorf("after a backup: %v", err)
	}
}
