package codec

import (
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
	return &streamEncoder{w: w}, nil
}

func (lz4Codec) NewDecoder() (Decoder, error) { return &streamDecoder{r: lz4.NewReader(nil)}, nil }

func (lz4Codec) NewReader(r io.Reader) (io.ReadCloser, error) {
	return io.NopCloser(lz4.NewReader(r)), nil
}
