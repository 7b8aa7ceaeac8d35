package codec

import (
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// maxWindow bounds the memory that a foreign .zst file can ask for; it is the most that the zstd tool accepts unasked.
const maxWindow = 128 << 20

// window is how far back a match may lie. WAL gains nothing from more.
const window = 1 << 20

type zstdCodec struct{}

func (zstdCodec) Name() string            { return "zstd" }
func (zstdCodec) Ext() string             { return ".zst" }
func (zstdCodec) Levels() (int, int, int) { return 1, 22, 1 }
func (zstdCodec) id() uint8               { return 1 }

func (zstdCodec) wrap(n int) ([]byte, []byte) { return skippableFrame(n), nil }

// NewEncoder takes the zstd tool's levels, of which the library tells four apart.
func (zstdCodec) NewEncoder(level int) (Encoder, error) {
	// The window comes first: where the level finds one set, it leaves the blocks at 128 kB, which is quicker.
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
		zstd.IgnoreChecksum(true)) // what is expanded is compared, or hashed, by whoever asks for it
	if err != nil {
		return nil, err
	}
	return zstdDecoder{r}, nil
}

type zstdDecoder struct{ r *zstd.Decoder }

func (d zstdDecoder) Decode(dst, src []byte) error {
	got, err := d.r.DecodeAll(src, dst[:0:len(dst)])
	if err != nil {
		return fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	if len(got) != len(dst) {
		return fmt.Errorf("%w: a chunk expands to %d bytes instead of %d", ErrDamaged, len(got), len(dst))
	}
	return nil
}

func (zstdCodec) NewReader(r io.Reader) (io.ReadCloser, error) {
	d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, err
	}
	return d.IOReadCloser(), nil
}
