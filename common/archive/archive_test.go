package archive_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"

	"walkeep/common/archive"
	"walkeep/common/codec"
	"walkeep/common/storage"
	"walkeep/common/storage/local"
	"walkeep/common/storage/mem"
	"walkeep/common/wal"
)

// Files of the test data for PostgreSQL 15, whose segments have 1 MB.
const (
	segment  = "000000010000000000000009" // full
	switched = "00000001000000000000000A" // the one after it, ended by a switch
	label    = "00000001000000000000000B.00000028.backup"
	partial  = "000000010000000000000010.partial"
	history2 = "00000002.history"
	history3 = "00000003.history"
	third    = "000000030000000000000010" // with pages of three timelines
)

var loaded sync.Map // what load has read, by path

// load gives a file of the test data that a real server has archived. The caller may change it.
func load(t testing.TB, major, name string) []byte {
	t.Helper()
	path := filepath.Join("../../testdata/wal", major, name+".zst")
	if b, ok := loaded.Load(path); ok {
		return bytes.Clone(b.([]byte))
	}
	packed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := expander.DecodeAll(packed, nil)
	if err != nil {
		t.Fatalf("expand %s: %v", path, err)
	}
	loaded.Store(path, b)
	return bytes.Clone(b)
}

var expander, _ = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))

func file(t testing.TB, name string) []byte { return load(t, "15", name) }

// systemID is that of the cluster of which a segment is.
func systemID(t testing.TB, b []byte) wal.SystemID {
	t.Helper()
	h, err := wal.ParseHeader(b)
	if err != nil {
		t.Fatal(err)
	}
	return h.SystemID
}

// quickDir is a directory where fsync costs nothing, if there is one.
func quickDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "walkeep-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// onEach runs a test on an empty archive in memory and on one in a directory.
func onEach(t *testing.T, test func(t *testing.T, r *rig)) {
	t.Run("mem", func(t *testing.T) { test(t, newRig(t, new(mem.Backend))) })
	t.Run("local", func(t *testing.T) {
		b, err := local.Open(quickDir(t))
		if err != nil {
			t.Fatal(err)
		}
		test(t, newRig(t, b))
	})
}

// A rig is an archive and the pg_wal directory of a server that archives into it.
type rig struct {
	t     *testing.T
	b     storage.Backend
	a     *archive.Archive
	pgWAL string
}

func newRig(t *testing.T, b storage.Backend) *rig {
	return &rig{t, b, archive.New(b), quickDir(t)}
}

// options are what archive-cmd takes where nothing is said.
func options(t testing.TB, codecName string) archive.PushOptions {
	t.Helper()
	c, err := codec.ByName(codecName)
	if err != nil {
		t.Fatal(err)
	}
	return archive.PushOptions{Codec: c, Verify: archive.VerifyWarn, Tool: "0.1.0"}
}

// push writes a file into pg_wal and archives it.
func (r *rig) push(name string, content []byte) (archive.Pushed, error) {
	r.t.Helper()
	return r.pushWith(options(r.t, "zstd"), name, content)
}

func (r *rig) pushWith(o archive.PushOptions, name string, content []byte) (archive.Pushed, error) {
	r.t.Helper()
	path := filepath.Join(r.pgWAL, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		r.t.Fatal(err)
	}
	return r.a.NewPusher(o).Push(r.t.Context(), path)
}

// mustPush archives a file that must be archived, as a new object.
func (r *rig) mustPush(name string, content []byte) archive.Pushed {
	r.t.Helper()
	done, err := r.push(name, content)
	if err != nil || done.Duplicate {
		r.t.Fatalf("push %s: got %+v, %v", name, done, err)
	}
	return done
}

// target takes what Fetch writes.
type target struct {
	mu sync.Mutex
	b  []byte
}

func (w *target) WriteAt(p []byte, at int64) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if end := int(at) + len(p); end > len(w.b) {
		w.b = append(w.b, make([]byte, end-len(w.b))...)
	}
	return copy(w.b[at:], p), nil
}

// fetch gives what is delivered under a name to a cluster; nothing if there was an error.
func (r *rig) fetch(name string, cluster wal.SystemID) ([]byte, archive.Fetched, error) {
	r.t.Helper()
	var w target
	got, err := r.a.Fetch(r.t.Context(), parse(r.t, name), cluster, &w)
	if err != nil {
		return nil, got, err
	}
	if got.Size != int64(len(w.b)) {
		r.t.Errorf("fetch %s: it says %d bytes and delivers %d", name, got.Size, len(w.b))
	}
	return w.b, got, nil
}

func parse(t testing.TB, name string) wal.Name {
	t.Helper()
	n, err := wal.ParseName(name)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// wantFetch fails the test if a name is not delivered with this content.
func (r *rig) wantFetch(name string, want []byte) archive.Fetched {
	r.t.Helper()
	got, info, err := r.fetch(name, 0)
	if err != nil || !bytes.Equal(got, want) {
		r.t.Errorf("fetch %s: got %d bytes, %v, want the %d that were archived", name, len(got), err, len(want))
	}
	return info
}

// wantErr fails the test if the error is not the one that is wanted, or is one of the others as well.
func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	all := []error{archive.ErrNotWAL, archive.ErrForeign, archive.ErrConflict, archive.ErrBroken, archive.ErrAbsent, archive.ErrGap,
		archive.ErrDamaged, archive.ErrNoFormat, archive.ErrUnbound, errFault}
	if err == nil {
		t.Errorf("%s: got no error, want %v", what, want)
		return
	}
	for _, other := range all {
		if errors.Is(err, other) != (other == want) {
			t.Errorf("%s: got %v, want %v", what, err, want)
			return
		}
	}
}

// objects lists all that is in the archive below wal/.
func (r *rig) objects() []string {
	r.t.Helper()
	return walk(r.t, r.b, "wal/")
}

func walk(t testing.TB, b storage.Backend, dir string) []string {
	t.Helper()
	entries, err := storage.ListAll(t.Context(), b, dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, walk(t, b, e.Name)...)
		} else {
			names = append(names, e.Name)
		}
	}
	return names
}

func (r *rig) wantObjects(want ...string) {
	r.t.Helper()
	if got := r.objects(); !slices.Equal(got, want) {
		r.t.Errorf("objects: got %q, want %q", got, want)
	}
}

// read gives an object's bytes.
func (r *rig) read(object string) []byte {
	r.t.Helper()
	b, err := storage.ReadAll(r.t.Context(), r.b, object, 1<<30)
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

// put stores bytes under an object's name, as another archiver, an administrator or a broken disk would.
func (r *rig) put(object string, content []byte) {
	r.t.Helper()
	if err := r.b.Remove(r.t.Context(), object); err != nil && !errors.Is(err, storage.ErrNotExist) {
		r.t.Fatal(err)
	}
	write := func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	}
	if err := storage.Put(r.t.Context(), r.b, object, write, nil); err != nil {
		r.t.Fatal(err)
	}
}

// bind makes the archive that of a cluster, without anything in it.
func (r *rig) bind(id wal.SystemID, size wal.SegmentSize) {
	r.t.Helper()
	if b, ok := storage.As[storage.Directories](r.b); ok {
		if err := b.MakeDir(r.t.Context(), "wal"); err != nil {
			r.t.Fatal(err)
		}
	}
	r.put("archive.json", fmt.Appendf(nil, `{"version":1,"system_identifier":"%d","segment_size":%d}`, id, size))
}

// trailer reads that of an object.
func (r *rig) trailer(object string) *codec.Trailer {
	r.t.Helper()
	c, ok := codec.ByExt(filepath.Ext(object))
	if !ok {
		r.t.Fatalf("%s has the ending of no codec", object)
	}
	b := r.read(object)
	t, err := codec.ReadTrailer(c, bytes.NewReader(b), int64(len(b)))
	if err != nil || t == nil {
		r.t.Fatalf("%s: got %v, %v, want a trailer", object, t, err)
	}
	return t
}

// directory is where the objects of a segment are.
func directory(name string) string { return "wal/" + name[:16] + "/" }

// Offsets in a segment's first page.
const (
	atSystemID    = 24
	atSegmentSize = 32
)

// ofAnother makes a segment that of another cluster.
func ofAnother(b []byte) []byte {
	b = bytes.Clone(b)
	binary.LittleEndian.PutUint64(b[atSystemID:], binary.LittleEndian.Uint64(b[atSystemID:])+1)
	return b
}

// broken changes a byte in the middle of a segment, so that the checksum of a record is wrong.
func broken(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)/2+100] ^= 0x40
	return b
}

// majors are the releases of which there is test data. A list that is too short would test too little.
func majors(t testing.TB) []string {
	t.Helper()
	dirs, err := filepath.Glob("../../testdata/wal/[0-9]*")
	if err != nil || len(dirs) != 10 {
		t.Fatalf("got test data of %d releases, %v, want 10: %q", len(dirs), err, dirs)
	}
	for i := range dirs {
		dirs[i] = filepath.Base(dirs[i])
	}
	return dirs
}

// archived lists the files that a server of a release has archived, history files first, then by name.
func archived(t testing.TB, major string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../../testdata/wal", major, "*.zst"))
	if err != nil || len(files) < 10 {
		t.Fatalf("got %d files, %v", len(files), err)
	}
	var names []string
	for _, f := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(f), ".zst"))
	}
	slices.SortStableFunc(names, func(a, b string) int {
		return strings.Compare(rank(a), rank(b))
	})
	return names
}

func rank(name string) string {
	if strings.HasSuffix(name, ".history") {
		return "0" + name
	}
	return "1" + name
}
