package ship_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"walkeep/common/archive"
	"walkeep/common/codec"
	"walkeep/common/storage"
	"walkeep/common/storage/mem"
	"walkeep/common/wal"
	"walkeep/supervisor/ship"
	"walkeep/supervisor/spool"
)

// realSegment is a segment of a server, and its name.
func realSegment(t *testing.T) (wal.Name, []byte) {
	t.Helper()
	packed, err := os.ReadFile("../../testdata/wal/15/000000010000000000000009.zst")
	if err != nil {
		t.Fatal(err)
	}
	d, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	content, err := d.DecodeAll(packed, nil)
	if err != nil {
		t.Fatal(err)
	}
	n, err := wal.ParseName("000000010000000000000009")
	if err != nil {
		t.Fatal(err)
	}
	return n, content
}

// What is streamed of the segment that is being written follows in pieces, whole records alone, also after another process
// has taken over. Another host's spool gets it from there.
func TestPieces(t *testing.T) {
	n, content := realSegment(t)
	h, err := wal.ParseHeader(content)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s, err := spool.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{T: t, spool: s, keep: 1 << 40}
	r.must(s.Archive.Bind(t.Context(), archive.Identity{SystemID: h.SystemID, SegmentSize: h.SegmentSize}))
	r.must(s.MakePartial())
	p := newPlace("a", new(mem.Backend))
	c, err := codec.ByName("zstd")
	r.must(err)
	follow := func() (stop func()) {
		o := r.options(true, p)
		o.Pieces = ship.Pieces{Interval: 10 * time.Millisecond, Store: archive.PushOptions{Codec: c}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			ship.Run(ctx, o)
		}()
		return func() { cancel(); <-done }
	}
	partial := filepath.Join(dir, "partial", n.String()+".partial")
	arrived := func(length int) {
		t.Helper()
		r.must(os.WriteFile(partial, content[:length], 0o600))
		want, err := archive.WalkStreamed(bytes.NewReader(content[:length]), n)
		r.must(err)
		r.wait("the pieces are there", func() bool {
			got, err := p.archive().Pieces(t.Context(), n)
			r.must(err)
			return got == int64(want.End-want.Start)
		})
	}
	stop := follow()
	arrived(30_000)
	arrived(50_000)
	arrived(100_000) // the next record ends far behind
	stop()
	stop = follow()
	arrived(500_000)
	arrived(900_000)
	stop()
	r.must(os.WriteFile(partial, content[:950_000], 0o600))
	once := r.options(false, p)
	once.Pieces = ship.Pieces{Interval: time.Second, Store: archive.PushOptions{Codec: c}}
	if _, err := ship.Run(t.Context(), once); err != nil {
		t.Fatal(err)
	}
	o, err := p.archive().OpenStreamed(t.Context(), n)
	r.must(err)
	got := make([]byte, o.Size())
	if _, err := o.ReadAt(got, 0); err != nil || !bytes.Equal(got, content[:len(got)]) || len(got) < 900_000 {
		t.Errorf("the pieces are not what was streamed (%v)", err)
	}

	other, err := spool.Open(t.TempDir())
	r.must(err)
	length := o.Size()
	for range 2 {
		object, err := other.KeepStreamed(t.Context(), p.archive(), archive.StreamedObject(n), length)
		r.must(err)
		if got := read(t, other.Archive.Backend(), object); object == archive.StreamedObject(n) || !bytes.Equal(got, content[:length]) {
			t.Errorf("%s: got %d bytes, want %d; a stream may write the one without a further ending", object, len(got), length)
		}
		r.must(other.DropOffered(object))
		if _, err := other.Archive.Backend().Open(t.Context(), object); !errors.Is(err, storage.ErrNotExist) {
			t.Errorf("after its removal: %v", err)
		}
	}
	if _, err := other.KeepStreamed(t.Context(), p.archive(), archive.StreamedObject(n.Next(h.SegmentSize)), 1); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
