package verify_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/backup/volume"
	"walkeep/common/codec"
	"walkeep/common/storage"
	"walkeep/common/storage/mem"
	"walkeep/common/wal"
	"walkeep/supervisor/verify"
)

// Files of the test data for PostgreSQL 15, whose segments have 1 MB. The second segment follows the first.
var files = []string{
	"000000010000000000000009", "00000001000000000000000A", "00000001000000000000000B.00000028.backup",
	"000000010000000000000010.partial", "00000002.history", "00000003.history", "000000030000000000000010",
}

// newArchive returns an archive of the test data and of a backup in several volumes.
func newArchive(t testing.TB) *mem.Backend {
	t.Helper()
	b := new(mem.Backend)
	for _, name := range files {
		push(t, b, name, load(t, name))
	}
	addBackup(t, b)
	return b
}

func load(t testing.TB, name string) []byte {
	t.Helper()
	packed, err := os.ReadFile(filepath.Join("../../testdata/wal/15", name+".zst"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := zstd.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	content, err := io.ReadAll(d)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func push(t testing.TB, b storage.Backend, name string, content []byte) {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := codec.ByName(codec.Default)
	if err != nil {
		t.Fatal(err)
	}
	p := archive.New(b).NewPusher(archive.PushOptions{Codec: c, Verify: archive.VerifyWarn, Tool: "test"})
	if _, err := p.Push(t.Context(), file); err != nil {
		t.Fatal(err)
	}
}

// files of a data directory, as a backup's source.
type source struct {
	files []backup.File
	seed  *rand.ChaCha8
}

func (s *source) Next() (backup.File, io.Reader, error) {
	if len(s.files) == 0 {
		return backup.File{}, nil, io.EOF
	}
	f := s.files[0]
	s.files = s.files[1:]
	return f, io.LimitReader(s.seed, f.Size), nil
}

func addBackup(t testing.TB, b storage.Backend) *backup.Manifest {
	t.Helper()
	ctx := context.Background()
	id, err := archive.New(b).Identity(ctx)
	if err != nil {
		t.Fatal(err)
	}
	c, err := codec.ByName(codec.Default)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	file := func(path string, size int64) backup.File {
		return backup.File{Path: path, Size: size, Mode: 0o600, ModTime: began}
	}
	dir := func(path string) backup.File { return backup.File{Path: path, Dir: true, Mode: 0o700, ModTime: began} }
	w := volume.NewWriter(b, backup.NewID(began, 1), volume.Options{Codec: c, Workers: 2, Tool: "test"})
	for i := range 3 { // each Add begins a volume
		name := fmt.Sprintf("base/%d", i)
		err := w.Add(ctx, &source{seed: rand.NewChaCha8([32]byte{byte(i)}), files: []backup.File{
			dir(name), file(name+"/empty", 0), file(name+"/small", 100), file(name+"/block", backup.BlockSize), file(name+"/large", 300<<10), dir(name + "/last"),
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	start := wal.LSN(9 * uint64(id.SegmentSize))
	m := &backup.Manifest{
		Type: "full", Server: "15", Major: 15, SystemID: id.SystemID, SegmentSize: id.SegmentSize, Timeline: 1, Start: start + 40,
		Stop: start + 1000, Began: began, Ended: began, Tablespaces: []backup.Tablespace{},
	}
	if err := w.Commit(ctx, m); err != nil {
		t.Fatal(err)
	}
	return m
}

// run verifies an archive.
func run(t testing.TB, b storage.Backend, deep bool) *verify.Result {
	t.Helper()
	r, err := verify.Run(context.Background(), archive.New(b), verify.Options{Deep: deep, Jobs: 2})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// all returns the names and contents of all objects.
func all(t testing.TB, b storage.Backend) map[string][]byte {
	t.Helper()
	content := make(map[string][]byte)
	var list func(prefix string)
	list = func(prefix string) {
		entries, err := storage.ListAll(context.Background(), b, prefix)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.IsDir() {
				list(e.Name)
				continue
			}
			if content[e.Name], err = storage.ReadAll(context.Background(), b, e.Name, 1<<30); err != nil {
				t.Fatal(err)
			}
		}
	}
	list("")
	return content
}
