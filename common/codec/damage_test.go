package codec_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"walkeep/common/codec"
)

// small is a plain file whose stored object has some hundred bytes, so that each of them can be tried.
var small = []byte("START WAL LOCATION: 0/B00028 (file 00000001000000000000000B)\nSTOP WAL LOCATION: 0/B00100\n")

// maxHead is the length of the longest head of a trailer, that of gzip.
const maxHead = 16

// Every byte of an object, in chunk, head, payload and tail, is changed in nine ways. None of them passes.
func TestFlips(t *testing.T) {
	for _, name := range codec.Names() {
		t.Run(name, func(t *testing.T) {
			object, _ := pack(t, name, 0, small)
			tried := 0
			for at := range object {
				for _, mask := range []byte{1, 2, 4, 8, 16, 32, 64, 128, 0xFF} {
					b := bytes.Clone(object)
					b[at] ^= mask
					passes(t, name, b, at, mask)
					tried++
				}
			}
			t.Logf("%d changes of an object of %d bytes", tried, len(object))
		})
	}
}

// The same in an object of several chunks, at places all over it.
func TestFlipsInChunks(t *testing.T) {
	for _, name := range codec.Names() {
		object, trailer := pack(t, name, 0, samples()["text"])
		places := []int{0, len(object) - 1, len(object) / 2}
		end := 0
		for _, n := range trailer.Chunks {
			end += int(n)
			places = append(places, end-1, end)
		}
		for i := 1; i < 20; i++ {
			places = append(places, i*len(object)/20)
		}
		for _, at := range places {
			b := bytes.Clone(object)
			b[at] ^= 1
			passes(t, name, b, at, 1)
		}
	}
}

// passes fails the test if a changed object is accepted, or not called damaged.
func passes(t *testing.T, name string, b []byte, at int, mask byte) {
	t.Helper()
	o, err := codec.OpenObject(byName(t, name), bytes.NewReader(b), int64(len(b)))
	if errors.Is(err, codec.ErrDamaged) {
		return
	}
	if err != nil || o.Trailer == nil {
		t.Errorf("byte %d ^ %02x: got %v, %v, want ErrDamaged", at, mask, o, err)
		return
	}
	if err := o.Verify(t.Context()); !errors.Is(err, codec.ErrDamaged) {
		t.Errorf("byte %d ^ %02x: Verify: got %v, want ErrDamaged", at, mask, err)
	}
	w := &window{b: make([]byte, o.Trailer.PlainSize)}
	if err := o.Unpack(t.Context(), w); !errors.Is(err, codec.ErrDamaged) {
		t.Errorf("byte %d ^ %02x: Unpack: got %v, want ErrDamaged", at, mask, err)
	}
	if w.outside != nil {
		t.Errorf("byte %d ^ %02x: %v", at, mask, w.outside)
	}
}

// An object that is cut off is never taken for a whole one. Where so much is gone that no mark of ours is left, it
// counts as foreign: then it does not expand, or it expands to all that the file had (cut between chunks and
// trailer), or to nothing at all (cut before the first byte of the content), which no WAL file is.
func TestTruncations(t *testing.T) {
	for _, name := range codec.Names() {
		t.Run(name, func(t *testing.T) {
			object, trailer := pack(t, name, 0, small)
			stored := int(trailer.Chunks[0])
			for n := range object {
				o, err := codec.OpenObject(byName(t, name), bytes.NewReader(object[:n]), int64(n))
				if errors.Is(err, codec.ErrDamaged) {
					continue
				}
				if err != nil || o.Trailer != nil {
					t.Errorf("%d of %d bytes: got %+v, %v", n, len(object), o, err)
					continue
				}
				if n >= stored+maxHead+len("WALKEEP\x00") {
					t.Errorf("%d of %d bytes: taken for a foreign file, although a mark is there", n, len(object))
				}
				got, err := tryStream(o, 1<<20)
				switch {
				case err != nil:
				case n == stored && bytes.Equal(got, small):
				case n < stored && len(got) == 0:
				default:
					t.Errorf("%d of %d bytes: expands to %d bytes without an error", n, len(object), len(got))
				}
			}
		})
	}
}

// A tail that a power cut left as zeros, as long as a sector, a page, or anything between.
func TestZeroedTails(t *testing.T) {
	for _, name := range codec.Names() {
		t.Run(name, func(t *testing.T) {
			object, trailer := pack(t, name, 0, small)
			for n := 1; n <= len(object); n++ {
				b := bytes.Clone(object)
				clear(b[len(b)-n:])
				if bytes.Equal(b, object) {
					continue // it ends with zeros
				}
				o, err := codec.OpenObject(byName(t, name), bytes.NewReader(b), int64(len(b)))
				if errors.Is(err, codec.ErrDamaged) {
					continue
				}
				if err != nil || o.Trailer != nil {
					t.Errorf("last %d bytes: got %+v, %v", n, o, err)
					continue
				}
				// What expands to the whole file nevertheless has lost nothing but the trailer.
				got, err := tryStream(o, 1<<20)
				chunk := int(trailer.Chunks[0])
				if err == nil && (!bytes.Equal(got, small) || !bytes.Equal(b[:chunk], object[:chunk])) {
					t.Errorf("last %d bytes: expands to %d bytes without an error", n, len(got))
				}
			}
		})
	}
}

func tryStream(o *codec.Object, limit int64) ([]byte, error) {
	r, err := o.Reader(context.Background(), limit)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// An object that is cut between two chunks is expanded by any tool without an error. The trailer shows the damage; if the
// trailer is gone too, the length of the content does.
func TestTruncatedBetweenChunks(t *testing.T) {
	plain := samples()["text"]
	for _, name := range codec.Names() {
		object, trailer := pack(t, name, 0, plain)
		n := int(trailer.Chunks[0])
		o, err := codec.OpenObject(byName(t, name), bytes.NewReader(object[:n]), int64(n))
		if err != nil || o.Trailer != nil {
			t.Fatalf("%s: got %+v, %v", name, o, err)
		}
		if got := stream(t, o, 1<<30); !bytes.Equal(got, plain[:codec.ChunkSize]) {
			t.Errorf("%s: got %d bytes, want the first chunk", name, len(got))
		}
		// A chunk that is taken out, with the trailer in its place.
		b := append(bytes.Clone(object[:n]), object[n+int(trailer.Chunks[1]):]...)
		if _, err := codec.OpenObject(byName(t, name), bytes.NewReader(b), int64(len(b))); !errors.Is(err, codec.ErrDamaged) {
			t.Errorf("%s without its second chunk: got %v, want ErrDamaged", name, err)
		}
		// Two chunks in the wrong order.
		b = append(bytes.Clone(object[n:n+int(trailer.Chunks[1])]), object[:n]...)
		b = append(b, object[n+int(trailer.Chunks[1]):]...)
		if err := open(t, name, b).Verify(t.Context()); !errors.Is(err, codec.ErrDamaged) {
			t.Errorf("%s with chunks in the wrong order: got %v, want ErrDamaged", name, err)
		}
	}
}
