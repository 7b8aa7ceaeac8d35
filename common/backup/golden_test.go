package backup_test

import (
	"io"
	"os"
	"reflect"
	"slices"
	"testing"

	"walkeep/common/backup"
	"walkeep/common/backup/volume"
	"walkeep/common/codec"
	"walkeep/common/storage/local"
)

// golden holds a backup that the first version of the format has written. WALKEEP_GOLDEN=1 writes it again; do
// that only for a new version of the format.
const golden = "../../testdata/backup/v1"

func goldenFiles() []backup.File {
	return []backup.File{
		{Path: "base", Dir: true, Mode: 0o700, ModTime: began}, {Path: "base/1", Mode: 0o600, ModTime: began, Size: backup.BlockSize / 64},
		{Path: "empty", Mode: 0o640, ModTime: began}, {Path: "not \xff utf-8", Mode: 0o600, ModTime: began, Size: 3},
	}
}

func TestGolden(t *testing.T) {
	if os.Getenv("WALKEEP_GOLDEN") != "" {
		writeGolden(t)
	}
	b, err := local.Open(golden)
	if err != nil {
		t.Fatal(err)
	}
	m, err := backup.ReadManifest(t.Context(), b, manifest().ID)
	if err != nil {
		t.Fatal(err)
	}
	want := manifest()
	want.Files, want.Bytes, want.Volumes, want.Index = m.Files, m.Bytes, m.Volumes, m.Index
	if !reflect.DeepEqual(m, want) {
		t.Errorf("manifest: got %+v, want %+v", m, want)
	}
	got, err := m.ReadFiles(t.Context(), b, nil)
	if err != nil {
		t.Fatal(err)
	}
	o, closer, err := m.Open(t.Context(), b, nil, m.Volumes[0])
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	plain := make(memory, o.Trailer.PlainSize)
	if err := o.Unpack(t.Context(), plain); err != nil {
		t.Fatal(err)
	}
	for i, f := range goldenFiles() {
		content, _ := io.ReadAll(contentOf(f))
		if got[i].Path != f.Path || got[i].Mode != f.Mode || !slices.Equal(plain[got[i].Offset:got[i].Offset+f.Size], content) && f.Size > 0 {
			t.Errorf("file %d: got %+v, want %+v with its content", i, got[i], f)
		}
	}
}

type memory []byte

func (m memory) WriteAt(p []byte, at int64) (int, error) { return copy(m[at:], p), nil }

func writeGolden(t *testing.T) {
	t.Helper()
	if err := os.MkdirAll(golden, 0o755); err != nil {
		t.Fatal(err)
	}
	b, err := local.Open(golden)
	if err != nil {
		t.Fatal(err)
	}
	c, err := codec.ByName("zstd")
	if err != nil {
		t.Fatal(err)
	}
	w := volume.NewWriter(b, manifest().ID, volume.Options{Codec: c, Workers: 1, Tool: "0.1.0"})
	if err := w.Add(t.Context(), &source{files: goldenFiles()}); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(t.Context(), manifest()); err != nil {
		t.Fatal(err)
	}
}
