package wal_test

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"

	"walkeep/common/wal"
)

// majors are the directories below testdata/wal, one for each major version.
var majors = []string{"10", "11", "12", "13", "14", "15", "16", "17", "18", "19"}

const testdata = "../../testdata/wal"

var loaded sync.Map // files that load has read

// load returns the bytes of a file of the test data. They must not be changed.
func load(t testing.TB, major, name string) []byte {
	t.Helper()
	key := major + "/" + name
	if b, ok := loaded.Load(key); ok {
		return b.([]byte)
	}
	f, err := os.Open(filepath.Join(testdata, major, name+".zst"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	b, err := io.ReadAll(d)
	if err != nil {
		t.Fatalf("expand %s: %v", key, err)
	}
	loaded.Store(key, b)
	return b
}

// names returns the files of the given kinds in the order of an archive. There is at least one.
func names(t testing.TB, major string, kinds ...wal.Kind) []wal.Name {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(testdata, major, "*.zst"))
	if err != nil {
		t.Fatal(err)
	}
	var found []wal.Name
	for _, f := range files {
		n := mustName(t, strings.TrimSuffix(filepath.Base(f), ".zst"))
		if slices.Contains(kinds, n.Kind) {
			found = append(found, n)
		}
	}
	if len(found) == 0 {
		t.Fatalf("no %v for %s in the test data", kinds, major)
	}
	slices.SortFunc(found, wal.Compare)
	return found
}

// walk walks one file by itself.
func walk(n wal.Name, b []byte) wal.Result {
	var w wal.Walker
	w.Reset(n)
	w.Write(b)
	return w.Finish()
}
