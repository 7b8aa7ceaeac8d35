package codec_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"walkeep/common/codec"
)

// within fails a test whose goroutines wait for each other for ever.
func within(t *testing.T, d time.Duration, f func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-time.After(d):
		t.Fatal("it hangs")
		return nil
	}
}

// A failure of one worker ends all of them, at whichever chunk it happens.
func TestUnpackFails(t *testing.T) {
	plain := samples()["text"]
	object, _ := pack(t, "zstd", 0, plain)
	o := open(t, "zstd", object)
	for chunk := range o.Trailer.Chunks {
		w := &failingAt{at: int64(chunk) * codec.ChunkSize}
		if err := within(t, time.Minute, func() error { return o.Unpack(t.Context(), w) }); !errors.Is(err, errFault) {
			t.Errorf("writing chunk %d fails: got %v", chunk, err)
		}
	}
	for after := range len(o.Trailer.Chunks) {
		r := &failingReader{Reader: bytes.NewReader(object), fine: after + 1} // and one for the trailer
		o, err := codec.OpenObject(byName(t, "zstd"), r, int64(len(object)))
		if err != nil {
			t.Fatal(err)
		}
		w := &window{b: make([]byte, len(plain))}
		if err := within(t, time.Minute, func() error { return o.Unpack(t.Context(), w) }); !errors.Is(err, errFault) {
			t.Errorf("reading chunk %d fails: got %v", after, err)
		}
	}
}

type failingAt struct{ at int64 }

func (w *failingAt) WriteAt(p []byte, at int64) (int, error) {
	if at == w.at {
		return 0, errFault
	}
	return len(p), nil
}

// failingReader fails when it was read so often. It is read by one goroutine at a time.
type failingReader struct {
	*bytes.Reader
	fine int
}

func (r *failingReader) ReadAt(p []byte, at int64) (int, error) {
	if r.fine--; r.fine < 0 {
		return 0, errFault
	}
	return r.Reader.ReadAt(p, at)
}

func TestUnpackIsCanceled(t *testing.T) {
	object, _ := pack(t, "none", 0, samples()["random"])
	o := open(t, "none", object)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := o.Unpack(ctx, &window{}); !errors.Is(err, context.Canceled) {
		t.Errorf("before: got %v, want it canceled", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	w := writerFunc(func(p []byte, at int64) (int, error) { cancel(); return len(p), nil })
	if err := within(t, time.Minute, func() error { return o.Unpack(ctx, w) }); !errors.Is(err, context.Canceled) {
		t.Errorf("in between: got %v, want it canceled", err)
	}
}

type writerFunc func([]byte, int64) (int, error)

func (f writerFunc) WriteAt(p []byte, at int64) (int, error) { return f(p, at) }

// An object that gets shorter while it is read must not be taken for something else.
func TestObjectShrinks(t *testing.T) {
	object, _ := pack(t, "zstd", 0, samples()["text"])
	_, err := codec.OpenObject(byName(t, "zstd"), bytes.NewReader(object[:len(object)-100]), int64(len(object)))
	if !errors.Is(err, io.EOF) {
		t.Errorf("opened after: got %v, want the reader's error", err)
	}
	r := &shrinking{Reader: bytes.NewReader(object)}
	o, err := codec.OpenObject(byName(t, "zstd"), r, int64(len(object)))
	if err != nil {
		t.Fatal(err)
	}
	r.Reader = bytes.NewReader(object[:len(object)/2])
	if err := o.Verify(t.Context()); err == nil {
		t.Error("half an object is verified")
	}
	if err := o.Unpack(t.Context(), &window{b: make([]byte, o.Trailer.PlainSize)}); err == nil {
		t.Error("half an object is unpacked")
	}
}

type shrinking struct{ *bytes.Reader }

// What is stored under the ending of one codec was made by it.
func TestRenamed(t *testing.T) {
	plain := samples()[fmt.Sprintf("text of %d", codec.ChunkSize+1)]
	for _, from := range codec.Names() {
		object, _ := pack(t, from, 0, plain)
		for _, to := range codec.Names() {
			if byName(t, from).Ext() == byName(t, to).Ext() {
				roundTrip(t, to, object, open(t, from, object).Trailer, plain) // zstd and none read each other's
				continue
			}
			o, err := codec.OpenObject(byName(t, to), bytes.NewReader(object), int64(len(object)))
			if !errors.Is(err, codec.ErrDamaged) {
				t.Errorf("%s renamed to %s: got %+v, %v, want ErrDamaged", from, to, o, err)
			}
		}
	}
}

// Bytes between the chunks and the trailer, before the object and after it are noticed.
func TestInserted(t *testing.T) {
	for _, name := range codec.Names() {
		object, trailer := pack(t, name, 0, []byte("a small file"))
		stored := int(trailer.Chunks[0])
		for _, at := range []int{0, stored, len(object)} {
			for _, more := range [][]byte{{0}, object[:stored], object[stored:], object} {
				b := append(append(append([]byte(nil), object[:at]...), more...), object[at:]...)
				o, err := codec.OpenObject(byName(t, name), bytes.NewReader(b), int64(len(b)))
				if err == nil && o.Trailer != nil {
					err = o.Verify(t.Context())
				}
				if !errors.Is(err, codec.ErrDamaged) {
					t.Errorf("%s: %d bytes inserted at %d: got %v, want ErrDamaged", name, len(more), at, err)
				}
			}
		}
	}
}
