package codec

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

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
	switch level {
	case 2:
		return s2Encoder{s2.EncodeBetter}, nil
	case 3:
		return s2Encoder{s2.EncodeBest}, nil
	}
	return s2Encoder{s2.Encode}, nil
}

func (s2Codec) NewDecoder() (Decoder, error) { return s2Decoder{}, nil }

// The format of streams: an identifier, then blocks, each behind its type, its length in 3 bytes, and the checksum of its plain
// bytes. Encoder and decoder do not use the library's streams, which copy everything once more.
//
// Source: https://github.com/google/snappy/blob/main/framing_format.txt
const (
	s2Identifier = "\xff\x06\x00\x00S2sTwO"
	s2Head       = 4 // type and length
	s2Compressed = 0x00
	s2Plain      = 0x01
	s2Skippable  = 0x80 // and all above, up to the identifier
)

// s2Sum is the checksum of a block's plain bytes.
func s2Sum(plain []byte) uint32 {
	c := crc32.Checksum(plain, crc32.MakeTable(crc32.Castagnoli))
	return (c>>15 | c<<17) + 0xa282ead8
}

type s2Encoder struct{ encode func(dst, src []byte) []byte }

func (e s2Encoder) Encode(dst, src []byte) ([]byte, error) {
	dst = append(dst, s2Identifier...)
	for len(src) > 0 {
		plain := src[:min(len(src), ChunkSize)]
		src = src[len(plain):]
		begin := len(dst)
		dst = slices.Grow(dst, s2Head+4+s2.MaxEncodedLen(len(plain)))
		n := 4 + len(e.encode(dst[begin+s2Head+4:cap(dst)], plain))
		dst = append(dst, s2Compressed, byte(n), byte(n>>8), byte(n>>16))
		dst = binary.LittleEndian.AppendUint32(dst, s2Sum(plain))
		dst = dst[:begin+s2Head+n]
	}
	return dst, nil
}

type s2Decoder struct{}

func (s2Decoder) Decode(dst, src []byte) error {
	for len(src) > 0 {
		if len(src) < s2Head {
			return fmt.Errorf("%w: a block is cut off", ErrDamaged)
		}
		kind, n := src[0], int(src[1])|int(src[2])<<8|int(src[3])<<16
		if n > len(src)-s2Head {
			return fmt.Errorf("%w: a block is cut off", ErrDamaged)
		}
		block := src[s2Head : s2Head+n]
		src = src[s2Head+n:]
		switch {
		case kind == s2Compressed || kind == s2Plain:
			n, err := decodeS2(dst, block, kind == s2Compressed)
			if err != nil {
				return fmt.Errorf("%w: %v", ErrDamaged, err)
			}
			dst = dst[n:]
		case kind == s2Identifier[0] && string(block) != s2Identifier[s2Head:], kind < s2Skippable:
			return fmt.Errorf("%w: a block of type %02X", ErrDamaged, kind)
		}
	}
	if len(dst) > 0 {
		return fmt.Errorf("%w: a chunk expands to %d bytes too few", ErrDamaged, len(dst))
	}
	return nil
}

// decodeS2 expands a block to the beginning of dst, and returns its plain length.
func decodeS2(dst, block []byte, compressed bool) (int, error) {
	if len(block) < 4 {
		return 0, s2.ErrCorrupt
	}
	sum, block := binary.LittleEndian.Uint32(block), block[4:]
	n := len(block)
	if compressed {
		var err error
		if n, err = s2.DecodedLen(block); err != nil {
			return 0, err
		}
	}
	if n > len(dst) {
		return 0, fmt.Errorf("a chunk expands to more than it should")
	}
	plain := dst[:n:n]
	if !compressed {
		copy(plain, block)
	} else if _, err := s2.Decode(plain, block); err != nil {
		return 0, err
	}
	if s2Sum(plain) != sum {
		return 0, s2.ErrCRC
	}
	return n, nil
}

// s2MaxBlock is the most that the format allows.
const s2MaxBlock = 4 << 20

func (s2Codec) NewReader(r io.Reader) (io.ReadCloser, error) {
	return io.NopCloser(s2.NewReader(r, s2.ReaderMaxBlockSize(s2MaxBlock))), nil
}
