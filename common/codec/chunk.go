package codec

import "fmt"

// A ChunkReader expands single chunks of an object that has a trailer. It compares only their length with the trailer;
// the caller checks the plain bytes. It is not safe for concurrent use; an object can have several.
type ChunkReader struct {
	o       *Object
	dec     Decoder
	offsets []int64
	packed  []byte
}

// NewChunkReader returns a reader for single chunks. The object must have a trailer.
func (o *Object) NewChunkReader() (*ChunkReader, error) {
	dec, err := o.codec.NewDecoder()
	if err != nil {
		return nil, fmt.Errorf("prepare %s: %w", o.codec.Name(), err)
	}
	r := &ChunkReader{o: o, dec: dec, offsets: make([]int64, len(o.Trailer.Chunks))}
	var at int64
	for i, n := range o.Trailer.Chunks {
		r.offsets[i] = at
		at += int64(n)
	}
	return r, nil
}

// Read expands chunk i, counted from 0, into dst, which has room for a whole chunk, and returns the part of dst that it
// filled. A chunk that does not expand to its length is [ErrDamaged].
func (r *ChunkReader) Read(i int, dst []byte) ([]byte, error) {
	t := r.o.Trailer
	size := min(uint64(t.ChunkSize), t.PlainSize-uint64(i)*uint64(t.ChunkSize))
	n := int(t.Chunks[i])
	if n > cap(r.packed) {
		r.packed = make([]byte, n, n+n/4)
	}
	if _, err := r.o.r.ReadAt(r.packed[:n], r.offsets[i]); err != nil {
		return nil, err
	}
	dst = dst[:size]
	return dst, r.dec.Decode(dst, r.packed[:n])
}
