package codec

import (
	"context"
	"fmt"
	"io"
)

// A ChunkReader expands some chunks of an object that has a trailer. It compares only their length with the trailer;
// the caller checks the plain bytes. It is not safe for concurrent use; an object can have several.
type ChunkReader struct {
	o       *Object
	dec     Decoder
	offsets []int64 // of the chunks, and of their end
	packed  []byte
}

// NewChunkReader returns a reader for chunks. The object must have a trailer.
func (o *Object) NewChunkReader() (*ChunkReader, error) {
	dec, err := o.codec.NewDecoder()
	if err != nil {
		return nil, fmt.Errorf("prepare %s: %w", o.codec.Name(), err)
	}
	r := &ChunkReader{o: o, dec: dec, offsets: make([]int64, len(o.Trailer.Chunks)+1)}
	for i, n := range o.Trailer.Chunks {
		r.offsets[i+1] = r.offsets[i] + int64(n)
	}
	return r, nil
}

// Each reads the chunks from number first to before number end, counted from 0, as one stream, which for a remote store is one
// request. It expands each into plain, which has room for a whole chunk, and calls do with the part of plain that it filled. It
// ends with the error of do, or with [ErrDamaged] where a chunk does not expand to its length.
func (r *ChunkReader) Each(ctx context.Context, first, end int, plain []byte, do func(chunk int, plain []byte) error) error {
	t := r.o.Trailer
	stored, err := r.o.stream(ctx, r.offsets[first], r.offsets[end]-r.offsets[first])
	if err != nil {
		return err
	}
	defer stored.Close()
	for i := first; i < end; i++ {
		n := int(t.Chunks[i])
		if n > cap(r.packed) {
			r.packed = make([]byte, n, n+n/4)
		}
		if _, err := io.ReadFull(stored, r.packed[:n]); err != nil {
			return err
		}
		part := plain[:min(uint64(t.ChunkSize), t.PlainSize-uint64(i)*uint64(t.ChunkSize))]
		if err := r.dec.Decode(part, r.packed[:n]); err != nil {
			return err
		}
		if err := do(i, part); err != nil {
			return err
		}
	}
	return nil
}
