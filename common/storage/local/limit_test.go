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
		if err := first.Put(t.Context(), name, text(strings.Repeat("x", 1000)), nil); err != nil {
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
		err := b.Put(t.Context(), test.name, text(strings.Repeat("x", test.size)), nil)
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
	if err := b.Put(t.Context(), "wal/d", text("x"), nil); !errors.Is(err, storage.ErrExist) {
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
		if err := b.Put(t.Context(), "x", text("1"), nil); !errors.Is(err, local.ErrFull) || !strings.Contains(err.Error(), "2000 of 1000 bytes") {
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
			err := b.Put(t.Context(), fmt.Sprintf("wal/%d", i), text(strings.Repeat("x", 1000)), nil)
			if err != nil && !errors.Is(err, local.ErrFull) {
				t.Error(err)
			}
		})
	}
	done.Wait()
	entries, err := b.List(t.Context(), "wal/")
	if err != nil || len(entries) > 10 || len(entries) == 0 {
		t.Errorf("got %d objects of 1000 bytes, %v, want at most 10", len(entries), err)
	}
}

// A check that fails leaves no reserve behind that would fill the archive by and by.
func TestLimitAfterFailures(t *testing.T) {
	b := open(t, quickDir(t))
	b.SetLimit(3000)
	for range 20 {
		err := b.Put(t.Context(), "x", text(strings.Repeat("x", 1000)), func(io.Reader) error { return io.ErrUnexpectedEOF })
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("got %v", err)
		}
	}
	if err := b.Put(t.Context(), "x", text("x"), nil); err != nil {
		t.Errorf("after failures: %v", err)
	}
}
