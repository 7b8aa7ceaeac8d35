package codec

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// maxWindow bounds the memory in bytes that a foreign .zst file can require; it is the zstd tool's default limit.
const maxWindow = 128 << 20

// window is how many bytes back a match may lie. A larger one does not make WAL smaller.
const window = 1 << 20

type zstdCodec struct{}

func (zstdCodec) Name() string            { return "zstd" }
func (zstdCodec) Ext() string             { return ".zst" }
func (zstdCodec) Levels() (int, int, int) { return 1, 22, 1 }
func (zstdCodec) id() uint8               { return 1 }

func (zstdCodec) wrap(n int) ([]byte, []byte) { return skippableFrame(n), nil }

// NewEncoder accepts the zstd tool's levels 1 to 22. The library has four levels of its own, which stand for the levels
// 1 and 2, 3 to 5, 6 to 9, and 10 to 22.
func (zstdCodec) NewEncoder(level int) (Encoder, error) {
	// The window comes first: if one is set, WithEncoderLevel keeps blocks of 128 kB, which is faster.
	w, err := zstd.NewWriter(nil, zstd.WithWindowSize(window), zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)),
		zstd.WithEncoderConcurrency(1), zstd.WithZeroFrames(true))
	if err != nil {
		return nil, err
	}
	return zstdEncoder{w}, nil
}

type zstdEncoder struct{ w *zstd.Encoder }

func (e zstdEncoder) Encode(dst, src []byte) ([]byte, error) { return e.w.EncodeAll(src, dst), nil }

func (zstdCodec) NewDecoder() (Decoder, error) {
	r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxChunkSize),
		zstd.WithDecodeAllCapLimit(true),
		zstd.IgnoreChecksum(true)) // callers compare or hash the plain bytes
	if err != nil {
		return nil, err
	}
	return zstdDecoder{r}, nil
}

type zstdDecoder struct{ r *zstd.Decoder }

func (d zstdDecoder) Decode(dst, src []byte) error {
	got, err := d.r.DecodeAll(src, dst[:0:min(cap(dst), len(dst)+DecodeSlack)])
	if err != nil {
		return fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	if len(got) != len(dst) {
		return fmt.Errorf("%w: a chunk expands to %d bytes instead of %d", ErrDamaged, len(got), len(dst))
	}
	return nil
}

func (zstdCodec) NewReader(r io.Reader) (io.ReadCloser, error) {
	z := &zstdReader{in: tail{r: r}}
	d, err := zstd.NewReader(&z.in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, err
	}
	z.ReadCloser = d.IOReadCloser()
	return z, nil
}

// A zstdReader distinguishes files that this program does not expand from damaged ones. The zstd tool also expands
// larger windows and, on many systems, frames of other formats in the same file.
type zstdReader struct {
	io.ReadCloser
	in tail
}

func (z *zstdReader) Read(p []byte) (int, error) {
	n, err := z.ReadCloser.Read(p)
	switch {
	case errors.Is(err, zstd.ErrWindowSizeExceeded):
		err = fmt.Errorf("%w: its window is larger than %d MB", ErrUnsupported, maxWindow>>20)
	case errors.Is(err, zstd.ErrMagicMismatch):
		for name, magic := range map[string]string{
			"lz4": "\x04\x22\x4D\x18", "lz4 (legacy)": "\x02\x21\x4C\x18", "gzip": "\x1F\x8B\x08", "xz": "\xFD7zX",
		} {
			if bytes.HasPrefix(z.in.last[:], []byte(magic)) {
				err = fmt.Errorf("%w: it continues with a frame of %s", ErrUnsupported, name)
			}
		}
	}
	return n, err
}

// A tail remembers the last four bytes that were read. If a frame has the wrong magic number, they are that number.
type tail struct {
	r    io.Reader
	last [4]byte
}

func (t *tail) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	four := append(t.last[:], p[max(0, n-4):n]...)
	copy(t.last[:], four[len(four)-4:])
	return n, err
}
