package codec_test

import (
	"bytes"
	"io"
	"os"
	"testing"

	"github.com/klauspost/compress/zstd"

	"walkeep/common/codec"
)

// pgbench is a real segment, of what pgbench writes, four times: two chunks.
func pgbench(b *testing.B) []byte {
	b.Helper()
	packed, err := os.ReadFile("../../testdata/wal/15/00000003000000000000001E.zst")
	if err != nil {
		b.Fatal(err)
	}
	d, err := zstd.NewReader(bytes.NewReader(packed))
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	plain, err := io.ReadAll(d)
	if err != nil {
		b.Fatal(err)
	}
	return bytes.Repeat(plain, 4)
}

// stored is a whole object of the codec at its standard level.
func stored(b *testing.B, c codec.Codec, plain []byte) []byte {
	b.Helper()
	_, _, level := c.Levels()
	packer, err := codec.NewPacker(c, level)
	if err != nil {
		b.Fatal(err)
	}
	var object bytes.Buffer
	trailer, err := packer.Pack(&object, bytes.NewReader(plain), io.Discard)
	if err != nil {
		b.Fatal(err)
	}
	trailer.Name, trailer.Tool = "00000003000000000000001E", "bench"
	end, err := trailer.Encode()
	if err != nil {
		b.Fatal(err)
	}
	return append(object.Bytes(), end...)
}

func eachCodec(b *testing.B, bench func(b *testing.B, c codec.Codec, plain []byte)) {
	plain := pgbench(b)
	for _, name := range codec.Names() {
		c, err := codec.ByName(name)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			bench(b, c, plain)
		})
	}
}

func BenchmarkPack(b *testing.B) {
	eachCodec(b, func(b *testing.B, c codec.Codec, plain []byte) {
		_, _, level := c.Levels()
		packer, err := codec.NewPacker(c, level)
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if _, err := packer.Pack(io.Discard, bytes.NewReader(plain), io.Discard); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// On one core, so that what the code costs is seen and not how many there are.
func BenchmarkUnpack(b *testing.B) {
	eachCodec(b, func(b *testing.B, c codec.Codec, plain []byte) {
		object := stored(b, c, plain)
		got := make(sink, len(plain))
		for b.Loop() {
			o, err := codec.OpenObject(c, bytes.NewReader(object), int64(len(object)))
			if err != nil {
				b.Fatal(err)
			}
			o.Workers = 1
			if err := o.Unpack(b.Context(), got); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	eachCodec(b, func(b *testing.B, c codec.Codec, plain []byte) {
		object := stored(b, c, plain)
		for b.Loop() {
			o, err := codec.OpenObject(c, bytes.NewReader(object), int64(len(object)))
			if err != nil {
				b.Fatal(err)
			}
			if err := o.Verify(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
}
