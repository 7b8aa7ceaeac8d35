package codec

import (
	"encoding/binary"
	"io"
)

// noneCodec stores zstd frames of blocks that are not compressed.
type noneCodec struct{ zstdCodec }

func (noneCodec) Name() string                    { return "none" }
func (noneCodec) Levels() (int, int, int)         { return 0, 0, 0 }
func (noneCodec) NewEncoder(int) (Encoder, error) { return rawFrames{}, nil }
func (noneCodec) id() uint8                       { return 5 }

// rawFrames writes the frames of RFC 8878: a header that says the content's size, then raw blocks.
type rawFrames struct{}

const rawBlock = 128 << 10 // the most that a block may hold

func (rawFrames) Encode(dst, src []byte) ([]byte, error) {
	const singleSegmentSize4 = 0xA0 // frame header descriptor: content size of 4 bytes, which is the window as well
	dst = append(dst, 0x28, 0xB5, 0x2F, 0xFD, singleSegmentSize4)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(src)))
	for {
		n := min(len(src), rawBlock)
		head := uint32(n) << 3 // type 0: raw
		if n == len(src) {
			head |= 1 // the last block
		}
		dst = append(dst, byte(head), byte(head>>8), byte(head>>16))
		dst = append(dst, src[:n]...)
		if src = src[n:]; len(src) == 0 {
			return dst, nil
		}
	}
}

// plainFile reads a foreign file that is not compressed at all.
type plainFile struct{ noneCodec }

func (plainFile) Name() string { return "plain" }
func (plainFile) Ext() string  { return "" }

func (plainFile) NewReader(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(r), nil }
