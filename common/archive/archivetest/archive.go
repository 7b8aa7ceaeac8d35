package archivetest

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
	"walkeep/common/recovery"
	"walkeep/common/storage"
	"walkeep/common/storage/local"
	"walkeep/common/storage/mem"
	"walkeep/common/wal"
)

// Files of the test data for PostgreSQL 15, whose segments have 1 MB.
const (
	Segment  = "000000010000000000000009" // full
	Switched = "00000001000000000000000A" // the one after it, ended by a switch
	Label    = "00000001000000000000000B.00000028.backup"
	Partial  = "000000010000000000000010.partial"
	History2 = "00000002.history"
	History3 = "00000003.history"
	Third    = "000000030000000000000010" // with pages of three timelines
)

var Loaded sync.Map // what load has read, by path

// load gives a file of the test data that a real server has archived. The caller may change it.
func Load(t testing.TB, major, name string) []byte {
	t.Helper()
	path := filepath.Join("../../testdata/wal", major, name+".zst")
	if b, ok := Loaded.Load(path); ok {
		return bytes.Clone(b.([]byte))
	}
	packed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Expander.DecodeAll(packed, nil)
	if err != nil {
		t.Fatalf("expand %s: %v", path, err)
	}
	Loaded.Store(path, b)
	return bytes.Clone(b)
}

var Expander, _ = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))

func File(t testing.TB, name string) []byte { return Load(t, "15", name) }

// systemID is that of the cluster of which a segment is.
func SystemID(t testing.TB, b []byte) wal.SystemID {
	t.Helper()
	h, err := wal.ParseHeader(b)
	if err != nil {
		t.Fatal(err)
	}
	return h.SystemID
}

// quickDir is a directory where fsync costs nothing, if there is one.
func QuickDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "walkeep-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// onEach runs a test on an empty archive in memory and on one in a directory.
func OnEach(t *testing.T, test func(t *testing.T, r *Rig)) {
	t.Run("mem", func(t *testing.T) { test(t, New(t, new(mem.Backend))) })
	t.Run("local", func(t *testing.T) {
		b, err := local.Open(QuickDir(t))
		if err != nil {
			t.Fatal(err)
		}
		test(t, New(t, b))
	})
}

// A rig is an archive and the pg_wal directory of a server that archives into it.
type Rig struct {
	T     *testing.T
	B     storage.Backend
	A     *archive.Archive
	PgWAL string
}

func New(t *testing.T, b storage.Backend) *Rig {
	return &Rig{t, b, archive.New(b), QuickDir(t)}
}

// options are what archive-cmd takes where nothing is said.
func Options(t testing.TB, codecName string) archive.PushOptions {
	t.Helper()
	c, err := codec.ByName(codecName)
	if err != nil {
		t.Fatal(err)
	}
	return archive.PushOptions{Codec: c, Verify: archive.VerifyWarn, Tool: "0.1.0"}
}

// push writes a file into pg_wal and archives it.
func (r *Rig) Push(name string, content []byte) (archive.Pushed, error) {
	r.T.Helper()
	return r.PushWith(Options(r.T, "zstd"), name, content)
}

func (r *Rig) PushWith(o archive.PushOptions, name string, content []byte) (archive.Pushed, error) {
	r.T.Helper()
	path := filepath.Join(r.PgWAL, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		r.T.Fatal(err)
	}
	return r.A.NewPusher(o).Push(r.T.Context(), path)
}

// mustPush archives a file that must be archived, as a new object.
func (r *Rig) MustPush(name string, content []byte) archive.Pushed {
	r.T.Helper()
	done, err := r.Push(name, content)
	if err != nil || done.Duplicate {
		r.T.Fatalf("push %s: got %+v, %v", name, done, err)
	}
	return done
}

// target takes what Fetch writes.
type Target struct {
	Mu sync.Mutex
	B  []byte
}

func (w *Target) WriteAt(p []byte, at int64) (int, error) {
	w.Mu.Lock()
	defer w.Mu.Unlock()
	if end := int(at) + len(p); end > len(w.B) {
		w.B = append(w.B, make([]byte, end-len(w.B))...)
	}
	return copy(w.B[at:], p), nil
}

// fetch gives what is delivered under a name to a cluster; nothing if there was an error.
func (r *Rig) Fetch(name string, cluster wal.SystemID) ([]byte, archive.Fetched, error) {
	r.T.Helper()
	var w Target
	got, err := recovery.Fetch(r.T.Context(), r.A, Parse(r.T, name), cluster, &w)
	if err != nil {
		return nil, got, err
	}
	if got.Size != int64(len(w.B)) {
		r.T.Errorf("fetch %s: it says %d bytes and delivers %d", name, got.Size, len(w.B))
	}
	return w.B, got, nil
}

func Parse(t testing.TB, name string) wal.Name {
	t.Helper()
	n, err := wal.ParseName(name)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// wantFetch fails the test if a name is not delivered with this content.
func (r *Rig) WantFetch(name string, want []byte) archive.Fetched {
	r.T.Helper()
	got, info, err := r.Fetch(name, 0)
	if err != nil || !bytes.Equal(got, want) {
		r.T.Errorf("fetch %s: got %d bytes, %v, want the %d that were archived", name, len(got), err, len(want))
	}
	return info
}

// wantErr fails the test if the error is not the one that is wanted, or is one of the others as well.
func WantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	all := []error{archive.ErrNotWAL, archive.ErrForeign, archive.ErrConflict, archive.ErrBroken, archive.ErrNotStored, recovery.ErrAbsent, recovery.ErrGap,
		archive.ErrDamaged, archive.ErrNoFormat, archive.ErrUnbound, ErrFault}
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
func (r *Rig) Objects() []string {
	r.T.Helper()
	return Walk(r.T, r.B, "wal/")
}

func Walk(t testing.TB, b storage.Backend, dir string) []string {
	t.Helper()
	entries, err := storage.ListAll(t.Context(), b, dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, Walk(t, b, e.Name)...)
		} else {
			names = append(names, e.Name)
		}
	}
	return names
}

func (r *Rig) WantObjects(want ...string) {
	r.T.Helper()
	if got := r.Objects(); !slices.Equal(got, want) {
		r.T.Errorf("objects: got %q, want %q", got, want)
	}
}

// read gives an object's bytes.
func (r *Rig) Read(object string) []byte {
	r.T.Helper()
	b, err := storage.ReadAll(r.T.Context(), r.B, object, 1<<30)
	if err != nil {
		r.T.Fatal(err)
	}
	return b
}

// put stores bytes under an object's name, as another archiver, an administrator or a broken disk would.
func (r *Rig) Put(object string, content []byte) {
	r.T.Helper()
	if err := r.B.Remove(r.T.Context(), object); err != nil && !errors.Is(err, storage.ErrNotExist) {
		r.T.Fatal(err)
	}
	write := func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	}
	if err := storage.Put(r.T.Context(), r.B, object, write, nil); err != nil {
		r.T.Fatal(err)
	}
}

// bind makes the archive that of a cluster, without anything in it.
func (r *Rig) Bind(id wal.SystemID, size wal.SegmentSize) {
	r.T.Helper()
	if b, ok := storage.As[storage.Directories](r.B); ok {
		if err := b.MakeDir(r.T.Context(), "wal"); err != nil {
			r.T.Fatal(err)
		}
	}
	r.Put("archive.json", fmt.Appendf(nil, `{"version":1,"system_identifier":"%d","segment_size":%d}`, id, size))
}

// trailer reads that of an object.
func (r *Rig) Trailer(object string) *codec.Trailer {
	r.T.Helper()
	c, ok := codec.ByExt(filepath.Ext(object))
	if !ok {
		r.T.Fatalf("%s has the ending of no codec", object)
	}
	b := r.Read(object)
	t, err := codec.ReadTrailer(c, bytes.NewReader(b), int64(len(b)))
	if err != nil || t == nil {
		r.T.Fatalf("%s: got %v, %v, want a trailer", object, t, err)
	}
	return t
}

// directory is where the objects of a segment are.
func Directory(name string) string { return "wal/" + name[:16] + "/" }

// Offsets in a segment's first page.
const (
	AtSystemID    = 24
	AtSegmentSize = 32
)

// ofAnother makes a segment that of another cluster.
func OfAnother(b []byte) []byte {
	b = bytes.Clone(b)
	binary.LittleEndian.PutUint64(b[AtSystemID:], binary.LittleEndian.Uint64(b[AtSystemID:])+1)
	return b
}

// broken changes a byte in the middle of a segment, so that the checksum of a record is wrong.
func Broken(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)/2+100] ^= 0x40
	return b
}

// majors are the releases of which there is test data. A list that is too short would test too little.
func Majors(t testing.TB) []string {
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
func Archived(t testing.TB, major string) []string {
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
		return strings.Compare(Rank(a), Rank(b))
	})
	return names
}

func Rank(name string) string {
	if strings.HasSuffix(name, ".history") {
		return "0" + name
	}
	return "1" + name
}
