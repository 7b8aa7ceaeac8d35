package codec

import (
	"bytes"
	"io"

	"github.com/pierrec/lz4/v4"
)

type lz4Codec struct{}

func (lz4Codec) Name() string            { return "lz4" }
func (lz4Codec) Ext() string             { return ".lz4" }
func (lz4Codec) Levels() (int, int, int) { return 1, 10, 1 }
func (lz4Codec) id() uint8               { return 3 }

func (lz4Codec) wrap(n int) ([]byte, []byte) { return skippableFrame(n), nil }

// NewEncoder takes the levels 1 (fast) and 2 to 10 (the library's high compression, which it numbers 1 to 9).
func (lz4Codec) NewEncoder(level int) (Encoder, error) {
	w := lz4.NewWriter(nil)
	library := lz4.Fast
	if level > 1 {
		library = lz4.Level1 << (level - 2)
	}
	err := w.Apply(lz4.BlockSizeOption(lz4.Block1Mb), lz4.ConcurrencyOption(1), lz4.CompressionLevelOption(library))
	if err != nil {
		return nil, err
	}
	return &lz4Encoder{w: w}, nil
}

type lz4Encoder struct {
	w   *lz4.Writer
	out buffer
}

func (e *lz4Encoder) Encode(dst, src []byte) ([]byte, error) {
	e.out.b = dst
	e.w.Reset(&e.out)
	if _, err := e.w.Write(src); err != nil {
		return nil, err
	}
	err := e.w.Close()
	return e.out.b, err
}

func (lz4Codec) NewDecoder() (Decoder, error) { return &lz4Decoder{r: lz4.NewReader(nil)}, nil }

type lz4Decoder struct {
	r  *lz4.Reader
	in bytes.Reader
}

func (d *lz4Decoder) Decode(dst, src []byte) error {
	d.in.Reset(src)
	d.r.Reset(&d.in)
	return fill(dst, d.r)
}

func (lz4Codec) NewReader(r io.Reader) (io.ReadCloser, error) {
	return io.NopCloser(lz4.NewReader(r)), nil
}
