package ship_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"walkeep/common/archive"
	"walkeep/common/codec"
	"walkeep/common/notes"
	"walkeep/common/storage"
	"walkeep/common/storage/count"
	"walkeep/common/storage/local"
	"walkeep/common/wal"
	"walkeep/supervisor/ship"
	"walkeep/supervisor/spool"
)

const segmentSize = wal.SegmentSize(1 << 20)

var identity = archive.Identity{SystemID: 4711, SegmentSize: segmentSize}

// A rig is a spool.
type rig struct {
	*testing.T
	spool *spool.Spool
	keep  int64
	// patience is how long wait waits; 0: 30 s.
	patience time.Duration
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "ship")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s, err := spool.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{T: t, spool: s, keep: 1 << 40}
	r.must(s.Archive.Bind(t.Context(), identity))
	return r
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// name is the name of the segment with a number on timeline 1.
func name(number uint64) wal.Name {
	return wal.SegmentAt(1, wal.LSN(number*uint64(segmentSize)), segmentSize)
}

// object is where that segment is stored.
func object(number uint64) string { return archive.Location(name(number)) + ".zst" }

// pack makes the stored object of a file; seed decides about its content.
func pack(t testing.TB, file string, seed uint64, size int, with string) []byte {
	t.Helper()
	plain := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)}).Read(plain[:min(size, 3000)])
	c, err := codec.ByName(with)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w, err := codec.NewWriter(&b, codec.WriterOptions{Codec: c, Level: 1, ChunkSize: 1 << 20, Workers: 1})
	if err == nil {
		if _, err = w.Write(plain); err == nil {
			_, err = w.Finish(codec.Trailer{Name: file, SystemID: 4711})
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// put stores an object in an archive.
func put(t testing.TB, a *archive.Archive, object string, content []byte) {
	t.Helper()
	if err := storage.PutAll(t.Context(), a.Backend(), object, content); err != nil {
		t.Fatal(err)
	}
}

// segments stores segments in the spool, from one number up to before another one.
func (r *rig) segments(from, to uint64) {
	r.Helper()
	for n := from; n < to; n++ {
		put(r, r.spool.Archive, object(n), pack(r, name(n).String(), n, int(segmentSize), "zstd"))
	}
}

// A place is a repository.
type place struct {
	storage.Backend // as the test sees it
	name            string
	counted         *count.Backend
	down            func() error // nil, or why it cannot be opened
}

func newPlace(name string, b storage.Backend) *place {
	return &place{Backend: b, name: name, counted: count.New(b)}
}

func (p *place) archive() *archive.Archive { return archive.New(p.Backend) }

var errDown = errors.New("connection refused")

// options ship to places, at a pace for tests.
func (r *rig) options(follow bool, places ...*place) ship.Options {
	o := ship.Options{
		Spool: r.spool, Follow: follow, Remove: true, Keep: r.keep, Log: slog.New(slog.NewTextHandler(testWriter{r.T}, nil)),
		Pace: ship.Pace{Poll: 5 * time.Millisecond, Note: 20 * time.Millisecond, First: 2 * time.Millisecond, Longest: 20 * time.Millisecond, Hole: 50 * time.Millisecond},
	}
	for _, p := range places {
		o.Repositories = append(o.Repositories, ship.Repository{
			Name: p.name, URL: "file:///" + p.name, Timeout: 5 * time.Second,
			Open: func(ctx context.Context) (ship.Remote, error) {
				if p.down != nil {
					if err := p.down(); err != nil {
						return ship.Remote{}, err
					}
				}
				requests := func() (int, int64) {
					c := p.counted.Counts()
					return c.Requests(), c.BytesWritten
				}
				return ship.Remote{Archive: archive.New(p.counted), Requests: requests, Close: func() error { return nil }}, nil
			},
		})
	}
	return o
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// once ships what is there.
func (r *rig) once(places ...*place) []ship.Result {
	r.Helper()
	results, err := ship.Run(r.Context(), r.options(false, places...))
	r.must(err)
	return results
}

// follow ships until stop is called.
func (r *rig) follow(places ...*place) (stop func()) {
	r.Helper()
	ctx, cancel := context.WithCancel(r.Context())
	done := make(chan error)
	go func() {
		_, err := ship.Run(ctx, r.options(true, places...))
		done <- err
	}()
	stop = func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			r.Error(err)
		}
	}
	return stop
}

// wait waits until a condition holds.
func (r *rig) wait(what string, is func() bool) {
	r.Helper()
	for until := time.Now().Add(cmp.Or(r.patience, 30*time.Second)); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(until) {
			r.Fatalf("not so: %s", what)
		}
	}
}

// note is the note of a repository in the spool.
func (r *rig) note(name string) notes.Shipping {
	r.Helper()
	n, err := r.spool.Archive.Notes().Shipping(r.Context(), name)
	r.must(err)
	return n
}

// holds compares what a place and the spool have of segments.
func (p *place) holds(t testing.TB, from, to uint64) {
	t.Helper()
	for n := from; n < to; n++ {
		if got := read(t, p.Backend, object(n)); !bytes.Equal(got, pack(t, name(n).String(), n, int(segmentSize), "zstd")) {
			t.Errorf("%s: %s is not what was stored in the spool", p.name, object(n))
		}
	}
}

func read(t testing.TB, b storage.Backend, object string) []byte {
	t.Helper()
	content, err := storage.ReadAll(t.Context(), b, object, 1<<30)
	if err != nil {
		t.Error(err)
	}
	return content
}

func exists(t testing.TB, b storage.Backend, object string) bool {
	t.Helper()
	o, err := b.Open(t.Context(), object)
	if errors.Is(err, storage.ErrNotExist) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	o.Close()
	return true
}

func (r *rig) inSpool(object string) bool {
	_, err := os.Stat(filepath.Join(r.spool.Dir, filepath.FromSlash(object)))
	return err == nil
}

// names lists all objects of a place but notes.
func (p *place) names(t testing.TB) []string {
	t.Helper()
	var all []string
	for e, err := range p.List(t.Context(), "", storage.ListOptions{Recursive: true}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e.Name)
	}
	slices.Sort(all)
	return all
}

func localPlace(t testing.TB, name string) *place {
	t.Helper()
	b, err := local.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return newPlace(name, b)
}
