package backup_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zeebo/xxh3"

	"walkeep/common/backup"
	"walkeep/common/backup/volume"
	"walkeep/common/cmdtest"
	"walkeep/common/codec"
	"walkeep/common/storage"
	"walkeep/common/storage/local"
	"walkeep/common/storage/mem"
)

var began = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func manifest() *backup.Manifest {
	return &backup.Manifest{
		Version: 1, ID: "20261122T120000Z", Type: "full", Tool: "0.1.0", Codec: "zstd", Server: "15.18", Major: 15, SystemID: 4711,
		SegmentSize: 1 << 20, Timeline: 2, Start: 0x400028, Stop: 0x500000, Began: began, Ended: began.Add(time.Minute),
		Label: "START WAL LOCATION: 0/400028\nLABEL: \"test\"\n", Tablespaces: []backup.Tablespace{{OID: 16384, Location: "/srv/ts"}}, Files: 1, Bytes: 10,
		Index:   backup.Stored{Name: "files.json.zst", Plain: 9, Stored: 8, SHA256: strings.Repeat("0a", 32)},
		Volumes: []backup.Stored{{Name: "data-0001.tar.zst", Plain: 9, Stored: 8, SHA256: strings.Repeat("0b", 32)}},
	}
}

func TestManifestFlips(t *testing.T) {
	m := manifest()
	m.Label = "START WAL LOCATION: 0/400028\n"
	content, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := backup.ParseManifest(content)
	if err != nil || !reflect.DeepEqual(got, m) {
		t.Fatalf("got %+v, %v; want %+v", got, err, m)
	}
	for at := range content {
		for bit := range 8 {
			changed := bytes.Clone(content)
			changed[at] ^= 1 << bit
			if _, err := backup.ParseManifest(changed); !errors.Is(err, codec.ErrDamaged) {
				t.Fatalf("bit %d of byte %d: got %v, want %v", bit, at, err, codec.ErrDamaged)
			}
		}
	}
	for n := range content {
		if _, err := backup.ParseManifest(content[:n]); !errors.Is(err, codec.ErrDamaged) {
			t.Fatalf("cut to %d bytes: got %v, want %v", n, err, codec.ErrDamaged)
		}
	}
	if _, err := backup.ParseManifest(append(bytes.Clone(content), ' ')); !errors.Is(err, codec.ErrDamaged) {
		t.Errorf("one byte more: got %v, want %v", err, codec.ErrDamaged)
	}
}

func TestManifestRefused(t *testing.T) {
	for name, spoil := range map[string]func(m *backup.Manifest){
		"id":            func(m *backup.Manifest) { m.ID = "../x" },
		"type":          func(m *backup.Manifest) { m.Type = "other" },
		"cluster":       func(m *backup.Manifest) { m.SystemID = 0 },
		"segment size":  func(m *backup.Manifest) { m.SegmentSize = 3 },
		"timeline":      func(m *backup.Manifest) { m.Timeline = 0 },
		"no start":      func(m *backup.Manifest) { m.Start = 0 },
		"ends before":   func(m *backup.Manifest) { m.Stop = m.Start - 1 },
		"no files":      func(m *backup.Manifest) { m.Files = 0 },
		"no volumes":    func(m *backup.Manifest) { m.Volumes = nil },
		"volume's name": func(m *backup.Manifest) { m.Volumes[0].Name = "../data" },
		"hidden name":   func(m *backup.Manifest) { m.Index.Name = ".files" },
		"no size":       func(m *backup.Manifest) { m.Index.Stored = 0 },
		"tablespace":    func(m *backup.Manifest) { m.Tablespaces[0].Location = "/a\n/b" },
	} {
		t.Run(name, func(t *testing.T) {
			m := manifest()
			spoil(m)
			if _, err := m.Encode(); err == nil {
				t.Error("it was encoded")
			}
		})
	}
}

func files() []backup.File {
	hashes := bytes.Repeat([]byte{1, 2}, backup.HashSize)
	return []backup.File{
		{Path: "base", Dir: true, Mode: 0o700, ModTime: began},
		{Path: "base/1", Mode: 0o600, ModTime: began, Size: backup.BlockSize + 1, Volume: 1, Offset: 1024, Hashes: hashes},
		{Path: "base/empty", Mode: 0o600, ModTime: began},
		{Path: "caf\u00e9 <&>\n\t", Mode: 0o640, ModTime: began},
		{Path: "not \xff utf-8\xfe", Mode: 0o640, ModTime: began},
	}
}

func TestIndexRoundTrip(t *testing.T) {
	var b bytes.Buffer
	if err := backup.WriteIndex(&b, files()); err != nil {
		t.Fatal(err)
	}
	got, err := backup.ReadIndex(&b)
	if err != nil || !reflect.DeepEqual(got, files()) {
		t.Errorf("got %+v, %v; want %+v", got, err, files())
	}
}

func TestHostilePaths(t *testing.T) {
	for _, path := range []string{
		"", ".", "..", "/", "/etc/passwd", "../x", "a/../../x", "a/..", "a//b", "a/", "./a", "a/./b", "a\x00b", "a\\b", "..\\x",
	} {
		if backup.CheckPath(path) == nil {
			t.Errorf("%q was accepted", path)
		}
		if backup.WriteIndex(io.Discard, []backup.File{{Path: path}}) == nil {
			t.Errorf("%q was written", path)
		}
		line := fmt.Sprintf(`{"encoded_path":"%x","mode":384,"mtime":0}`+"\n", path)
		if _, err := backup.ReadIndex(strings.NewReader(line)); !errors.Is(err, codec.ErrDamaged) {
			t.Errorf("%q was read: %v", path, err)
		}
	}
	for _, line := range []string{
		`{"path":"a","mode":384,"mtime":0}` + "\n" + `{"path":"a","mode":384,"mtime":0}`, `{"path":"a","mode":512,"mtime":0}`,
		`{"path":"a","mode":0,"mtime":0,"size":-1}`, `{"path":"a","mode":0,"mtime":0,"size":5}`, `{"path":"a","dir":true,"mode":0,"mtime":0,"size":5}`,
		`{"path":"a","mode":0,"mtime":0,"size":5,"volume":1}`, `{"path":"a","mode":0,"mtime":0,"link":"/etc"}`, `{"path":"a"`, `[]`, `null`,
	} {
		if f, err := backup.ReadIndex(strings.NewReader(line + "\n")); !errors.Is(err, codec.ErrDamaged) {
			t.Errorf("%s was read as %+v: %v", line, f, err)
		}
	}
}

// What can be read is written as what reads the same.
func FuzzIndex(f *testing.F) {
	var b bytes.Buffer
	if err := backup.WriteIndex(&b, files()); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, content []byte) {
		once, err := backup.ReadIndex(bytes.NewReader(content))
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := backup.WriteIndex(&again, once); err != nil {
			t.Fatalf("%+v cannot be written: %v", once, err)
		}
		if twice, err := backup.ReadIndex(&again); err != nil || !reflect.DeepEqual(once, twice) {
			t.Fatalf("got %+v, %v; want %+v", twice, err, once)
		}
	})
}

func FuzzManifest(f *testing.F) {
	content, err := manifest().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(content)
	f.Fuzz(func(t *testing.T, content []byte) {
		m, err := backup.ParseManifest(content)
		if err != nil {
			return
		}
		if _, err := m.Encode(); err != nil {
			t.Fatalf("%+v cannot be written: %v", m, err)
		}
	})
}

// A data directory's files, with content that depends on the path.
type source struct {
	files []backup.File
	zero  bool // content, as that of a sparse file
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func contentOf(f backup.File) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte([]byte(f.Path + strings.Repeat(" ", 32))[:32])), f.Size)
}

func (s *source) Next() (backup.File, io.Reader, error) {
	if len(s.files) == 0 {
		return backup.File{}, nil, io.EOF
	}
	f := s.files[0]
	s.files = s.files[1:]
	if s.zero {
		return f, zeros{}, nil
	}
	return f, contentOf(f), nil
}

// Ordinary tools expand the volumes to what was stored, and the index finds each block.
func TestVolumes(t *testing.T) {
	dir := t.TempDir()
	b, err := local.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	c, err := codec.ByName("zstd")
	if err != nil {
		t.Fatal(err)
	}
	list := []backup.File{
		{Path: "base", Dir: true, Mode: 0o700, ModTime: began}, {Path: "base/1", Mode: 0o600, ModTime: began, Size: 3*backup.ChunkSize + 5},
		{Path: "base/" + strings.Repeat("long", 60), Mode: 0o600, ModTime: began, Size: 7}, {Path: "empty", Mode: 0o640, ModTime: began},
		{Path: "PG_VERSION", Mode: 0o600, ModTime: began, Size: backup.BlockSize}, {Path: "not \xff utf-8", Mode: 0o600, ModTime: began, Size: 1},
	}
	w := volume.NewWriter(b, "20261122T120000Z", volume.Options{Codec: c, Workers: 2, Tool: "test"})
	if err := w.Add(t.Context(), &source{files: slices.Clone(list)}); err != nil {
		t.Fatal(err)
	}
	m := manifest()
	if err := w.Commit(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	got, err := m.ReadFiles(t.Context(), b, nil)
	if err != nil {
		t.Fatal(err)
	}
	plain := &bytes.Buffer{}
	tool, err := exec.LookPath("zstd")
	if err != nil {
		t.Skip("zstd is not installed")
	}
	cmd := exec.Command(tool, "-dc", filepath.Join(dir, "backups", m.ID, "data-0001.tar.zst"))
	cmd.Stdout, cmd.Stderr = plain, os.Stderr
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	for i, f := range got {
		want := list[i]
		if f.Path != want.Path || f.Size != want.Size || f.Mode != want.Mode || f.Dir != want.Dir {
			t.Errorf("file %d: got %+v, want %+v", i, f, want)
		}
		content, _ := io.ReadAll(contentOf(want))
		if f.Dir || f.Size == 0 {
			continue
		}
		if !bytes.Equal(plain.Bytes()[f.Offset:f.Offset+f.Size], content) {
			t.Errorf("%s is not where the index says", f.Path)
		}
		for n := range f.Blocks() {
			block := content[n*backup.BlockSize : min(len(content), (n+1)*backup.BlockSize)]
			if xxh3.Hash128(block).Bytes() != f.Hash(n) {
				t.Errorf("%s: the hash of block %d is wrong", f.Path, n)
			}
		}
	}
	r := tar.NewReader(bytes.NewReader(plain.Bytes()))
	for _, f := range list {
		h, err := r.Next()
		if err != nil || strings.TrimSuffix(h.Name, "/") != f.Path || h.Size != f.Size {
			t.Fatalf("tar: got %+v, %v; want %q of %d bytes", h, err, f.Path, f.Size)
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("tar: more than the files: %v", err)
	}
}

// A huge file gets a volume with larger chunks, so that the trailer can list them.
func TestHugeFile(t *testing.T) {
	cmdtest.Long(t)
	b := new(mem.Backend)
	c, err := codec.ByName("lz4")
	if err != nil {
		t.Fatal(err)
	}
	const huge = 5<<30 + 12345
	w := volume.NewWriter(b, "20261122T120000Z", volume.Options{Codec: c, Level: 1, Workers: 2, Tool: "test"})
	list := []backup.File{{Path: "small", Mode: 0o600, ModTime: began, Size: 10}, {Path: "huge", Mode: 0o600, ModTime: began, Size: huge}}
	if err := w.Add(t.Context(), &source{files: list, zero: true}); err != nil {
		t.Fatal(err)
	}
	m := manifest()
	if err := w.Commit(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if got := len(m.Volumes); got != 2 {
		t.Fatalf("%d volumes, want 2: %+v", got, m.Volumes)
	}
	var sizes []uint32
	for _, v := range m.Volumes {
		o, closer, err := m.Open(context.Background(), b, nil, v)
		if err != nil {
			t.Fatal(err)
		}
		closer.Close()
		sizes = append(sizes, o.Trailer.ChunkSize)
	}
	if want := []uint32{backup.ChunkSize, 2 * backup.ChunkSize}; !slices.Equal(sizes, want) {
		t.Errorf("chunk sizes: got %d, want %d", sizes, want)
	}
}

// A source or a store that fails leaves no volume, and the error is theirs.
func TestWriteFails(t *testing.T) {
	failed := errors.New("test")
	b := new(mem.Backend)
	c, err := codec.ByName("zstd")
	if err != nil {
		t.Fatal(err)
	}
	w := volume.NewWriter(b, "20261122T120000Z", volume.Options{Codec: c, Workers: 2})
	if err := w.Add(t.Context(), failing{failed}); !errors.Is(err, failed) {
		t.Errorf("got %v, want %v", err, failed)
	}
	w = volume.NewWriter(b, "20261122T120001Z", volume.Options{Codec: c, Workers: 2})
	short := &source{files: []backup.File{{Path: "a", Size: 10}}}
	if err := w.Add(t.Context(), cut{short}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("content that ends early: got %v, want %v", err, io.ErrUnexpectedEOF)
	}
	if there, _ := storage.ListAll(t.Context(), b, "backups/"); len(there) > 0 {
		t.Errorf("there is %v", there)
	}
}

type failing struct{ err error }

func (f failing) Next() (backup.File, io.Reader, error) {
	return backup.File{Path: "a", Size: 10}, io.MultiReader(strings.NewReader("abc"), errReader(f)), nil
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

type cut struct{ *source }

func (c cut) Next() (backup.File, io.Reader, error) {
	f, r, err := c.source.Next()
	return f, io.LimitReader(r, f.Size-1), err
}
