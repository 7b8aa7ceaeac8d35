package codec_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/zeebo/xxh3"

	"walkeep/common/codec"
)

// bomb is one stream of the codec that expands to so many zeros.
func bomb(t testing.TB, name string, size int64) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch name {
	case "s2":
		w = s2.NewWriter(&b, s2.WriterConcurrency(1))
	case "lz4":
		w = lz4.NewWriter(&b)
	case "gzip":
		w = gzip.NewWriter(&b)
	default:
		var err error
		if w, err = zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.CopyN(w, zeros{}, size); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// allocated gives the bytes that f takes from the heap, all in all.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

const bombSize = 64 << 20

// A chunk is larger than its trailer says. Its expansion ends after the first byte too many, and takes no more memory than
// another chunk, even if both hashes are right.
func TestBombInChunk(t *testing.T) {
	for _, name := range codec.Names() {
		t.Run(name, func(t *testing.T) {
			chunk := bomb(t, name, bombSize)
			for _, plainSize := range []uint32{1, 1000, codec.ChunkSize} {
				w := window{b: make([]byte, plainSize)}
				o := vouch(t, name, chunk, plainSize, xxh3.Hash128(w.b).Bytes())
				var err error
				used := allocated(func() { err = o.Unpack(t.Context(), &w) })
				if !errors.Is(err, codec.ErrDamaged) || w.outside != nil {
					t.Errorf("plain size %d: got %v, %v, want ErrDamaged", plainSize, err, w.outside)
				}
				if used > 16<<20 {
					t.Errorf("plain size %d: it took %d bytes of memory", plainSize, used)
				}
			}
		})
	}
}

// A foreign file is read up to the limit and one byte more, by which its reader knows that it is too long.
func TestBombInForeignFile(t *testing.T) {
	for _, name := range codec.Names() {
		b := bomb(t, name, bombSize)
		o, err := codec.OpenObject(byName(t, name), bytes.NewReader(b), int64(len(b)))
		if err != nil || o.Trailer != nil {
			t.Fatalf("%s: got %+v, %v", name, o, err)
		}
		used := allocated(func() {
			if got := stream(t, o, 1000); len(got) != 1001 {
				t.Errorf("%s: got %d bytes, want the limit and one more", name, len(got))
			}
		})
		if used > 24<<20 {
			t.Errorf("%s: it took %d bytes of memory", name, used)
		}
	}
}

// A frame of a few bytes that asks for a window of up to 2 TB, or says that it holds as much.
func TestHungryZstd(t *testing.T) {
	block := []byte{0x0B, 0, 0, 0} // the last block: one zero byte, once
	frames := map[string][]byte{
		"window of 2 GB":        {0x28, 0xB5, 0x2F, 0xFD, 0x00, 21 << 3},
		"window of 256 MB":      {0x28, 0xB5, 0x2F, 0xFD, 0x00, 18 << 3},
		"window of 2 TB":        {0x28, 0xB5, 0x2F, 0xFD, 0x00, 31 << 3},
		"content of 2^63 bytes": binary.LittleEndian.AppendUint64([]byte{0x28, 0xB5, 0x2F, 0xFD, 0xE0}, 1<<63),
		"content of 1 GB":       binary.LittleEndian.AppendUint32([]byte{0x28, 0xB5, 0x2F, 0xFD, 0xA0}, 1<<30),
	}
	for name, head := range frames {
		frame := append(head, block...)
		w := window{b: make([]byte, 1)}
		o := vouch(t, "zstd", frame, 1, xxh3.Hash128(w.b).Bytes())
		foreign, err := codec.OpenObject(byName(t, "zstd"), bytes.NewReader(frame), int64(len(frame)))
		if err != nil {
			t.Fatal(err)
		}
		used := allocated(func() {
			if err := o.Unpack(t.Context(), &w); !errors.Is(err, codec.ErrDamaged) {
				t.Errorf("%s: got %v, want ErrDamaged", name, err)
			}
			if got, err := tryStream(foreign, 1<<20); err == nil {
				t.Errorf("%s: a foreign file expands to %d bytes", name, len(got))
			}
		})
		if used > 16<<20 {
			t.Errorf("%s: it took %d bytes of memory", name, used)
		}
	}
}

// A file as large as a disk, with a trailer that says it is one chunk.
func TestHugeChunk(t *testing.T) {
	_, payload := example("zstd")
	binary.LittleEndian.PutUint32(payload[atChunks:], 1<<32-1)
	end := seal("zstd", payload)
	r := &sparse{zeros: 1<<32 - 1 + 0x0203, tail: end}
	used := allocated(func() {
		if o, err := codec.OpenObject(byName(t, "zstd"), r, r.size()); !errors.Is(err, codec.ErrDamaged) {
			t.Errorf("got %+v, %v, want ErrDamaged", o, err)
		}
	})
	if used > 1<<20 {
		t.Errorf("it took %d bytes of memory", used)
	}
}
