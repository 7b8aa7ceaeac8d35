package codec_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"walkeep/common/codec"
)

// plainOf is content that compresses, but not to nothing.
func plainOf(n int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.IntN(4)) + byte(i>>12)
	}
	return b
}

// write makes an object of plain, given in pieces.
func write(t testing.TB, o codec.WriterOptions, plain []byte, piece int) ([]byte, *codec.Trailer) {
	t.Helper()
	var object bytes.Buffer
	w, err := codec.NewWriter(&object, o)
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(plain); at += piece {
		if n, err := w.Write(plain[at:min(len(plain), at+piece)]); err != nil || n != min(piece, len(plain)-at) {
			t.Fatalf("write: %d, %v", n, err)
		}
	}
	if got := w.Size(); got != int64(len(plain)) {
		t.Errorf("size: got %d, want %d", got, len(plain))
	}
	trailer, err := w.Finish(codec.Trailer{Name: "data", Tool: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return object.Bytes(), trailer
}

// What a Writer makes is an object as a Packer makes it: Unpack, ChunkReader and CheckStored read it.
func TestWriter(t *testing.T) {
	const chunk = 64 << 10
	for _, name := range codec.Names() {
		for _, size := range []int{0, 1, chunk - 1, chunk, chunk + 1, 9*chunk + 17} {
			for _, workers := range []int{1, 3} {
				t.Run(fmt.Sprintf("%s/%d/%d", name, size, workers), func(t *testing.T) {
					c, err := codec.ByName(name)
					if err != nil {
						t.Fatal(err)
					}
					_, _, level := c.Levels()
					plain := plainOf(size)
					object, trailer := write(t, codec.WriterOptions{Codec: c, Level: level, ChunkSize: chunk, Workers: workers}, plain, 10_000)
					if err := codec.CheckStored(bytes.NewReader(object), trailer); err != nil {
						t.Fatalf("CheckStored: %v", err)
					}
					o, err := codec.OpenObject(c, bytes.NewReader(object), int64(len(object)))
					if err != nil || o.Trailer == nil {
						t.Fatalf("open: %v", err)
					}
					if o.Trailer.Name != "data" || o.Trailer.Tool != "test" || o.Trailer.PlainSize != uint64(size) {
						t.Errorf("trailer %+v", o.Trailer)
					}
					if err := o.Verify(t.Context()); err != nil {
						t.Errorf("Verify: %v", err)
					}
					got := make(sink, size)
					if err := o.Unpack(t.Context(), got); err != nil || !bytes.Equal(got, plain) {
						t.Fatalf("Unpack: %v, equal: %v", err, bytes.Equal(got, plain))
					}
					r, err := o.NewChunkReader()
					if err != nil {
						t.Fatal(err)
					}
					dst := make([]byte, chunk)
					chunks := len(o.Trailer.Chunks)
					for _, first := range rand.Perm(chunks) {
						next, end := first, first+1+rand.IntN(chunks-first)
						err := r.Each(t.Context(), first, end, dst, func(i int, part []byte) error {
							if want := plain[i*chunk : min(size, (i+1)*chunk)]; i != next || !bytes.Equal(part, want) {
								t.Fatalf("chunk %d, want %d; equal: %v", i, next, bytes.Equal(part, want))
							}
							next++
							return nil
						})
						if err != nil || next != end {
							t.Fatalf("chunks %d to %d: %v, ended before %d", first, end, err, next)
						}
					}
				})
			}
		}
	}
}

type sink []byte

func (s sink) WriteAt(p []byte, at int64) (int, error) { return copy(s[at:], p), nil }

// With one chunk size, Writer and Packer make the same bytes.
func TestWriterEqualsPacker(t *testing.T) {
	for _, name := range codec.Names() {
		t.Run(name, func(t *testing.T) {
			c, err := codec.ByName(name)
			if err != nil {
				t.Fatal(err)
			}
			_, _, level := c.Levels()
			plain := plainOf(3*codec.ChunkSize + 99)
			got, _ := write(t, codec.WriterOptions{Codec: c, Level: level, ChunkSize: codec.ChunkSize, Workers: 2}, plain, 100_000)
			p, err := codec.NewPacker(c, level)
			if err != nil {
				t.Fatal(err)
			}
			var want, nowhere bytes.Buffer
			trailer, err := p.Pack(&want, bytes.NewReader(plain), &nowhere)
			if err != nil {
				t.Fatal(err)
			}
			trailer.Name, trailer.Tool = "data", "test"
			end, err := trailer.Encode()
			if err != nil {
				t.Fatal(err)
			}
			want.Write(end)
			if !bytes.Equal(got, want.Bytes()) {
				t.Errorf("%d bytes of the Writer differ from %d of the Packer", len(got), want.Len())
			}
		})
	}
}

// CheckStored notices every byte that is not what was written.
func TestCheckStoredFlips(t *testing.T) {
	c, err := codec.ByName("zstd")
	if err != nil {
		t.Fatal(err)
	}
	object, trailer := write(t, codec.WriterOptions{Codec: c, Level: 1, ChunkSize: 1 << 10, Workers: 2}, plainOf(5000), 1000)
	for at := range object {
		changed := bytes.Clone(object)
		changed[at] ^= 1
		if codec.CheckStored(bytes.NewReader(changed), trailer) == nil {
			t.Fatalf("byte %d was changed and not noticed", at)
		}
	}
	for _, changed := range [][]byte{object[:len(object)-1], object[:10], nil, append(bytes.Clone(object), 0)} {
		if codec.CheckStored(bytes.NewReader(changed), trailer) == nil {
			t.Errorf("%d bytes instead of %d were not noticed", len(changed), len(object))
		}
	}
}

var errFull = errors.New("no space")

// limited fails when more than so many bytes are written.
type limited int

func (l *limited) Write(p []byte) (int, error) {
	if *l -= limited(len(p)); *l < 0 {
		return 0, errFull
	}
	return len(p), nil
}

// However early the destination fails, Finish or Abort says why, and nothing hangs.
func TestWriterFails(t *testing.T) {
	c, err := codec.ByName("none")
	if err != nil {
		t.Fatal(err)
	}
	plain := plainOf(200 << 10)
	for _, room := range []int{0, 1, 5000, 100 << 10, 200 << 10} {
		for _, abort := range []bool{false, true} {
			dst := limited(room)
			w, err := codec.NewWriter(&dst, codec.WriterOptions{Codec: c, ChunkSize: 4 << 10, Workers: 2})
			if err != nil {
				t.Fatal(err)
			}
			var wrote error
			for at := 0; at < len(plain) && wrote == nil; at += 1000 {
				_, wrote = w.Write(plain[at:min(len(plain), at+1000)])
			}
			if wrote != nil && !errors.Is(wrote, codec.ErrAborted) {
				t.Errorf("room for %d bytes: Write: got %v, want %v", room, wrote, codec.ErrAborted)
			}
			var end error
			if abort {
				end = w.Abort()
			} else {
				_, end = w.Finish(codec.Trailer{Name: "data"})
			}
			if !errors.Is(end, errFull) {
				t.Errorf("room for %d bytes, abort %v: got %v, want %v", room, abort, end, errFull)
			}
		}
	}
}

func TestWriterAbort(t *testing.T) {
	c, err := codec.ByName("zstd")
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{0, 10, 100_000} {
		var dst bytes.Buffer
		w, err := codec.NewWriter(&dst, codec.WriterOptions{Codec: c, Level: 1, ChunkSize: 4 << 10, Workers: 3})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(plainOf(size)); err != nil {
			t.Fatal(err)
		}
		if err := w.Abort(); !errors.Is(err, codec.ErrAborted) {
			t.Errorf("abort after %d bytes: got %v, want %v", size, err, codec.ErrAborted)
		}
		if _, err := w.Write(plainOf(10_000)); !errors.Is(err, codec.ErrAborted) {
			t.Errorf("write after abort: got %v, want %v", err, codec.ErrAborted)
		}
		if _, err := w.Finish(codec.Trailer{}); !errors.Is(err, codec.ErrAborted) {
			t.Errorf("finish after abort: got %v, want %v", err, codec.ErrAborted)
		}
	}
}
