package codec

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/zeebo/xxh3"
)

// readSize is how many plain bytes are read at once: few enough to be in the core's nearest cache for hash and tap.
const readSize = 128 << 10

// A Packer makes stored objects, one after the other. It is not safe for concurrent use and keeps about 2 MB of
// buffers and tables.
type Packer struct {
	codec  Codec
	enc    Encoder
	dec    Decoder
	plain  []byte
	packed []byte
	back   []byte
	stored hash.Hash
	sum    *xxh3.Hasher
}

// NewPacker prepares a codec at one of its levels.
func NewPacker(c Codec, level int) (*Packer, error) {
	enc, err := c.NewEncoder(level)
	if err != nil {
		return nil, fmt.Errorf("prepare %s: %w", c.Name(), err)
	}
	dec, err := c.NewDecoder()
	if err != nil {
		return nil, fmt.Errorf("prepare %s: %w", c.Name(), err)
	}
	return &Packer{
		codec: c, enc: enc, dec: dec,
		plain: make([]byte, ChunkSize), back: make([]byte, ChunkSize+DecodeSlack), packed: make([]byte, 0, ChunkSize+ChunkSize/4),
		stored: sha256.New(), sum: xxh3.New(),
	}, nil
}

// Pack reads src to its end, once: it hashes, writes to tap and stores the same bytes. It expands each chunk again and
// compares it with the plain bytes before it writes the chunk to dst. The caller completes the trailer, encodes it and
// writes it. Errors of tap are ignored.
func (p *Packer) Pack(dst io.Writer, src io.Reader, tap io.Writer) (*Trailer, error) {
	t := &Trailer{Codec: p.codec.Name(), ChunkSize: ChunkSize}
	plainHash := xxh3.New()
	p.stored.Reset()
	p.sum.Reset()
	for {
		n, err := p.readChunk(src, io.MultiWriter(plainHash, tap))
		if err != nil {
			return nil, err
		}
		if n > 0 {
			if err := p.packChunk(dst, p.plain[:n]); err != nil {
				return nil, err
			}
			t.PlainSize += uint64(n)
			t.Chunks = append(t.Chunks, uint32(len(p.packed)))
		}
		if n < ChunkSize {
			break
		}
	}
	t.PlainHash = plainHash.Sum128().Bytes()
	p.stored.Sum(t.StoredSHA256[:0])
	t.StoredXXH3 = p.sum.Sum128().Bytes()
	return t, nil
}

// readChunk reads ChunkSize plain bytes, or fewer at the end of src.
func (p *Packer) readChunk(src io.Reader, tap io.Writer) (int, error) {
	n := 0
	for n < ChunkSize {
		got, err := io.ReadFull(src, p.plain[n:min(n+readSize, ChunkSize)])
		tap.Write(p.plain[n : n+got])
		n += got
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (p *Packer) packChunk(dst io.Writer, plain []byte) error {
	var err error
	if p.packed, err = p.enc.Encode(p.packed[:0], plain); err != nil {
		return fmt.Errorf("compress with %s: %w", p.codec.Name(), err)
	}
	back := p.back[:len(plain)]
	if err := p.dec.Decode(back, p.packed); err != nil || !bytes.Equal(back, plain) {
		return fmt.Errorf("compress with %s: the compressed bytes do not expand to the plain ones (%v)", p.codec.Name(), err)
	}
	p.stored.Write(p.packed)
	p.sum.Write(p.packed)
	_, err = dst.Write(p.packed)
	return err
}

// Sum is the function Sum, without a buffer of its own.
func (p *Packer) Sum(r io.Reader) (uint64, [16]byte, error) { return sum(r, p.plain[:readSize]) }

// Sum reads r to its end and returns its size in bytes and the XXH3-128 hash that a trailer records.
func Sum(r io.Reader) (uint64, [16]byte, error) { return sum(r, make([]byte, 32<<10)) }

func sum(r io.Reader, buf []byte) (uint64, [16]byte, error) {
	h := xxh3.New()
	n, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{r}, buf)
	return uint64(n), h.Sum128().Bytes(), err
}

// A Summer passes bytes to a writer, and counts and hashes them as [Sum] does. It is not safe for concurrent use.
type Summer struct {
	w io.Writer
	h *xxh3.Hasher
	n uint64
}

// NewSummer returns a Summer that writes to w.
func NewSummer(w io.Writer) *Summer { return &Summer{w: w, h: xxh3.New()} }

func (s *Summer) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.h.Write(p[:n])
	s.n += uint64(n)
	return n, err
}

// Sum returns the size in bytes and the XXH3-128 hash of the bytes written so far.
func (s *Summer) Sum() (uint64, [16]byte) { return s.n, s.h.Sum128().Bytes() }
