package codec_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/s2"

	"walkeep/common/codec"
)

// The decoder reads what the library's writer makes: several blocks, blocks that are not compressed, and what readers skip.
func TestS2DecodesStreams(t *testing.T) {
	random := make([]byte, 300_000)
	rand.NewChaCha8([32]byte{}).Read(random)
	plain := append(bytes.Repeat([]byte("what compresses well "), 10_000), random...)
	c, err := codec.ByName("s2")
	if err != nil {
		t.Fatal(err)
	}
	dec, err := c.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	for _, options := range [][]s2.WriterOption{
		{s2.WriterBlockSize(64 << 10)},
		{s2.WriterBlockSize(4 << 20), s2.WriterPadding(4096)},
		{s2.WriterBlockSize(100_000), s2.WriterAddIndex()},
		{s2.WriterUncompressed()},
	} {
		var stream bytes.Buffer
		w := s2.NewWriter(&stream, append(options, s2.WriterConcurrency(1))...)
		if _, err := w.Write(plain); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(plain))
		if err := dec.Decode(got, stream.Bytes()); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("got %v, equal %t", err, bytes.Equal(got, plain))
		}
		for _, n := range []int{0, 1, len(plain) - 1, len(plain) + 1} {
			if err := dec.Decode(make([]byte, n), stream.Bytes()); !errors.Is(err, codec.ErrDamaged) {
				t.Errorf("into %d bytes: got %v, want ErrDamaged", n, err)
			}
		}
		for n := range 30 {
			if err := dec.Decode(got, stream.Bytes()[:n]); !errors.Is(err, codec.ErrDamaged) {
				t.Errorf("of %d bytes: got %v, want ErrDamaged", n, err)
			}
		}
	}
	for _, stream := range []string{"\xff\x06\x00\x00sNaPpY", "\x02\x00\x00\x00", "\x00\x03\x00\x00abc", "\x01\x05\x00\x00\x00\x00\x00\x00a"} {
		if err := dec.Decode(make([]byte, 1), []byte(stream)); !errors.Is(err, codec.ErrDamaged) {
			t.Errorf("%q: got %v, want ErrDamaged", stream, err)
		}
	}
}
