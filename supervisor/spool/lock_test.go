package spool_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"walkeep/supervisor/spool"
)

// One supervisor of a host works on a spool.
func TestLock(t *testing.T) {
	dir := t.TempDir()
	here := &spool.Spool{Dir: dir}
	first, err := here.Lock()
	if err != nil {
		t.Fatal(err)
	}
	if f, err := here.Lock(); !errors.Is(err, spool.ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v, %v, want %v", f, err, spool.ErrLocked)
	}
	first.Close()
	second, err := here.Lock()
	if err != nil {
		t.Fatalf("after the first has ended: %v", err)
	}
	second.Close()
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 || !strings.HasPrefix(files[0].Name(), ".") {
		t.Errorf("got %v, %v, want one file that no listing of the archive shows", files, err)
	}
	if _, err := (&spool.Spool{Dir: filepath.Join(dir, "missing")}).Lock(); err == nil || errors.Is(err, spool.ErrLocked) {
		t.Errorf("a spool that is missing: got %v", err)
	}
}
