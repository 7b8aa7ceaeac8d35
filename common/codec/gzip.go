package codec

import (
	"bufio"
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

func (gzipCodec) NewReader(r io.Reader) (io.ReadCloser, error) {
	g := &gzipReader{in: bufio.NewReader(r)}
	if err := g.r.Reset(g.in); err != nil {
		return nil, err
	}
	g.r.Multistream(false)
	return g, nil
}

// A gzipReader reads members one after the other, as the gzip tool does, which lets zero bytes follow the last: tapes and
// block devices leave them.
type gzipReader struct {
	in *bufio.Reader
	r  gzip.Reader
}

func (g *gzipReader) Read(p []byte) (int, error) {
	n, err := g.r.Read(p)
	if err != io.EOF || n > 0 && len(p) > 0 {
		if err == io.EOF {
			err = nil // again at the next call
		}
		return n, err
	}
	if _, err := g.in.Peek(1); err != nil {
		return 0, err // the end
	}
	if err := g.padding(); err != nil {
		return 0, err
	}
	if err := g.r.Reset(g.in); err != nil {
		return 0, err
	}
	g.r.Multistream(false)
	return g.Read(p)
}

// padding reads zero bytes, which nothing may follow; io.EOF is that. No error: there are none.
func (g *gzipReader) padding() error {
	for zeros := 0; ; zeros++ {
		switch c, err := g.in.ReadByte(); {
		case err != nil:
			return err
		case c != 0 && zeros == 0:
			return g.in.UnreadByte()
		case c != 0:
			return gzip.ErrHeader
		}
	}
}

func (g *gzipReader) Close() error { return g.r.Close() }
