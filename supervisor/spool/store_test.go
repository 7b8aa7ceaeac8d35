package spool_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"walkeep/common/archive"
	"walkeep/common/storage/mem"
	"walkeep/supervisor/spool"
)

// complete archives the complete files of a spool with store.
func complete(ctx context.Context, dir string, store func(context.Context, string) error) error {
	s := &spool.Spool{Dir: dir, Archive: archive.New(new(mem.Backend)), Store: store}
	return s.StoreComplete(ctx, nil)
}

// Two processes may store the same segments: the second one has no error.
func TestStoredByAnother(t *testing.T) {
	at := t.TempDir()
	path := filepath.Join(at, "partial", "000000010000000000000007")
	for _, err := range []error{os.Mkdir(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("WAL"), 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	store := func(_ context.Context, path string) error {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
		return errors.New("no such file")
	}
	if err := complete(t.Context(), at, store); err != nil {
		t.Errorf("got %v", err)
	}
}

// A segment that cannot be stored stays, and does not delay the others.
func TestStoreRefused(t *testing.T) {
	at := t.TempDir()
	dir := filepath.Join(at, "partial")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	names := []string{"000000010000000000000007", "000000010000000000000008", "000000010000000000000009.partial"}
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("WAL"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	refused := errors.New("refused")
	err := complete(t.Context(), at, func(_ context.Context, path string) error {
		if filepath.Base(path) == names[0] {
			return refused
		}
		return nil
	})
	if !errors.Is(err, refused) {
		t.Errorf("got %v, want %v", err, refused)
	}
	for i, want := range []bool{true, false, true} {
		if _, err := os.Stat(filepath.Join(dir, names[i])); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", names[i], err == nil, want)
		}
	}
}

// A complete segment is stored whatever the time of its file: the clock may have been set back, or be another host's.
func TestStoredWhateverTheTime(t *testing.T) {
	at := t.TempDir()
	dir := filepath.Join(at, "partial")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, age := range map[string]time.Duration{"000000010000000000000007": -time.Hour, "000000010000000000000008": time.Hour, "00000002.history": -time.Hour} {
		path, when := filepath.Join(dir, name), time.Now().Add(-age)
		if err := os.WriteFile(path, []byte("WAL"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	stored := 0
	err := complete(t.Context(), at, func(context.Context, string) error {
		stored++
		return nil
	})
	if left, _ := os.ReadDir(dir); err != nil || stored != 3 || len(left) > 0 {
		t.Errorf("stored %d of 3, %d are left (%v)", stored, len(left), err)
	}
}

// A missing target of the link partial/ is an error, not an empty directory.
func TestStreamedDirectoryIsLost(t *testing.T) {
	at := t.TempDir()
	if err := os.Symlink("nowhere", filepath.Join(at, "partial")); err != nil {
		t.Skip(err)
	}
	if err := complete(t.Context(), at, nil); err == nil {
		t.Error("got no error")
	}
}
