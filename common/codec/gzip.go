package codec

import (
	"bytes"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
)

type gzipCodec struct{}

func (gzipCodec) Name() string            { return "gzip" }
func (gzipCodec) Ext() string             { return ".gz" }
func (gzipCodec) Levels() (int, int, int) { return 1, 9, 6 }
func (gzipCodec) id() uint8               { return 4 }

func (gzipCodec) wrap(n int) ([]byte, []byte) {
	head := []byte{0x1F, 0x8B, 8, 4, 0, 0, 0, 0, 0, 0xFF, byte(n + 4), byte((n + 4) >> 8), 'W', 'K', byte(n), byte(n >> 8)}
	return head, []byte{3, 0, 0, 0, 0, 0, 0, 0, 0, 0}
}

func (gzipCodec) NewEncoder(level int) (Encoder, error) {
	w, err := gzip.NewWriterLevel(nil, level)
	if err != nil {
		return nil, err
	}
	return &streamEncoder{w: w}, nil
}

func (gzipCodec) NewDecoder() (Decoder, error) { return new(gzipDecoder), nil }

type gzipDecoder struct {
	r  gzip.Reader
	in bytes.Reader
}

func (d *gzipDecoder) Decode(dst, src []byte) error {
	d.in.Reset(src)
	if err := d.r.Reset(&d.in); err != nil {
		return fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	return fill(dst, &d.r)
}

func (gzipCodec) NewReader(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) }
