package codec

import (
	"io"

	"github.com/klauspost/compress/s2"
)

type s2Codec struct{}

func (s2Codec) Name() string            { return "s2" }
func (s2Codec) Ext() string             { return ".s2" }
func (s2Codec) Levels() (int, int, int) { return 1, 3, 1 }
func (s2Codec) id() uint8               { return 2 }

func (s2Codec) wrap(n int) ([]byte, []byte) {
	return []byte{0xD7, byte(n), byte(n >> 8), byte(n >> 16)}, nil
}

// NewEncoder takes the levels 1 (fast), 2 (better) and 3 (best).
func (s2Codec) NewEncoder(level int) (Encoder, error) {
	options := []s2.WriterOption{s2.WriterConcurrency(1), s2.WriterBlockSize(ChunkSize)}
	switch level {
	case 2:
		options = append(options, s2.WriterBetterCompression())
	case 3:
		options = append(options, s2.WriterBestCompression())
	}
	return &s2Encoder{w: s2.NewWriter(nil, options...)}, nil
}

type s2Encoder struct {
	w   *s2.Writer
	out buffer
}

func (e *s2Encoder) Encode(dst, src []byte) ([]byte, error) {
	e.out.b = dst
	e.w.Reset(&e.out)
	if err := e.w.EncodeBuffer(src); err != nil {
		return nil, err
	}
	err := e.w.Close()
	return e.out.b, err
}

func (s2Codec) NewDecoder() (Decoder, error) {
	return &streamDecoder{r: s2.NewReader(nil, s2.ReaderMaxBlockSize(s2MaxBlock))}, nil
}

// s2MaxBlock is the most that the format allows.
const s2MaxBlock = 4 << 20

func (s2Codec) NewReader(r io.Reader) (io.ReadCloser, error) {
	return io.NopCloser(s2.NewReader(r, s2.ReaderMaxBlockSize(s2MaxBlock))), nil
}
