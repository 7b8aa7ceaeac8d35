package codec_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/zeebo/xxh3"

	"walkeep/common/codec"
)

// pick takes a codec by any number.
func pick(n uint8) string { return codec.Names()[int(n)%len(codec.Names())] }

// FuzzTrailer reads arbitrary bytes as an object's end, and again with a hash, a length and a wrap that are right, so
// that the fields behind them are reached. What is read encodes to the bytes that it was read from.
func FuzzTrailer(f *testing.F) {
	for i, name := range codec.Names() {
		_, payload := example(name)
		f.Add(uint8(i), payload)
		object, trailer := pack(f, name, 0, small)
		f.Add(uint8(i), object)
		end, err := trailer.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), end)
	}
	f.Fuzz(func(t *testing.T, n uint8, b []byte) {
		name := pick(n)
		readBack(t, name, b, 0)
		stored := int64(0)
		if len(b) >= atChunks {
			chunks := int(binary.LittleEndian.Uint32(b[atChunkCount:]))
			for i := 0; i < chunks && atChunks+4*i+4 <= len(b); i++ {
				stored += int64(binary.LittleEndian.Uint32(b[atChunks+4*i:]))
			}
		}
		readBack(t, name, seal(name, b), stored)
	})
}

func readBack(t *testing.T, name string, end []byte, stored int64) {
	r := &sparse{zeros: stored, tail: end}
	trailer, err := codec.ReadTrailer(byName(t, name), r, r.size())
	if err != nil {
		if trailer != nil || !errors.Is(err, codec.ErrDamaged) {
			t.Fatalf("got %+v and %v, want ErrDamaged", trailer, err)
		}
		return
	}
	if trailer == nil {
		return // foreign
	}
	again, err := trailer.Encode()
	if err != nil {
		t.Fatalf("%+v was read and cannot be encoded: %v", trailer, err)
	}
	total := int64(len(again))
	for _, c := range trailer.Chunks {
		total += int64(c)
	}
	if !bytes.HasSuffix(end, again) || total != r.size() {
		t.Fatalf("read %x, encoded %x, with chunks %d bytes of %d", end, again, total, r.size())
	}
}

// FuzzUnpack gives arbitrary bytes to the decoders: as a chunk whose trailer has the right hash, and as a foreign file. No
// decoder may panic, write beyond the plain size, or return more than it was asked for.
func FuzzUnpack(f *testing.F) {
	for i, name := range codec.Names() {
		object, trailer := pack(f, name, 0, small)
		f.Add(uint8(i), uint32(len(small)), object[:trailer.Chunks[0]])
		f.Add(uint8(i), uint32(len(small)-1), object[:trailer.Chunks[0]])
		f.Add(uint8(i), uint32(len(small)+1), object)
		f.Add(uint8(i), uint32(1), bomb(f, name, 1<<20))
	}
	f.Fuzz(func(t *testing.T, n uint8, plainSize uint32, chunk []byte) {
		name := pick(n)
		plainSize = plainSize%(1<<18) + 1
		w := window{b: make([]byte, plainSize)}
		o := vouch(t, name, chunk, plainSize, [16]byte{})
		var err error
		used := allocated(func() { err = o.Unpack(t.Context(), &w) })
		if used > 32<<20 {
			t.Fatalf("a chunk of %d bytes took %d bytes of memory", len(chunk), used)
		}
		if !errors.Is(err, codec.ErrDamaged) || w.outside != nil {
			t.Fatalf("got %v, %v, want ErrDamaged: the hash is wrong", err, w.outside)
		}
		// Where the chunk does expand, the right hash makes it a sound object.
		o = vouch(t, name, chunk, plainSize, xxh3.Hash128(w.b).Bytes())
		again := window{b: make([]byte, plainSize)}
		if err := o.Unpack(t.Context(), &again); err == nil && !bytes.Equal(again.b, w.b) {
			t.Fatal("the same chunk expands to different bytes")
		}
		foreign, err := codec.OpenObject(byName(t, name), bytes.NewReader(chunk), int64(len(chunk)))
		if err != nil || foreign.Trailer != nil {
			return
		}
		r, err := foreign.Reader(t.Context(), 1<<18)
		if err != nil {
			return
		}
		defer r.Close()
		if got, _ := io.Copy(io.Discard, r); got > 1<<18+1 {
			t.Fatalf("got %d bytes from a reader that is limited to %d", got, 1<<18)
		}
	})
}

// vouch makes an object of one chunk whose trailer is right about all but, perhaps, the plain bytes.
func vouch(t testing.TB, name string, chunk []byte, plainSize uint32, plainHash [16]byte) *codec.Object {
	t.Helper()
	trailer := codec.Trailer{Codec: name, ChunkSize: codec.ChunkSize, PlainSize: uint64(plainSize), PlainHash: plainHash,
		StoredSHA256: sha256.Sum256(chunk), StoredXXH3: xxh3.Hash128(chunk).Bytes(), Chunks: []uint32{uint32(len(chunk))}, Name: "00000002.history"}
	end, err := trailer.Encode()
	if err != nil {
		t.Skip(err)
	}
	return open(t, name, append(bytes.Clone(chunk), end...))
}
