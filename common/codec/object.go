package codec

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"runtime"
	"sync"

	"github.com/zeebo/xxh3"
	"golang.org/x/sync/errgroup"
)

// An Object is a stored object that is open for reading.
type Object struct {
	Trailer *Trailer // nil for a foreign file

	Workers int // cores on which Unpack expands; 0: all
	// PlainOnly makes Unpack compare the plain bytes alone, and not the SHA-256 of the stored bytes, which takes most of the time for an
	// object that is not compressed. It is for copies that this host has made itself.
	PlainOnly bool

	codec Codec
	r     io.ReaderAt
	size  int64
}

// OpenObject reads the trailer of the object in r, of size bytes, whose name has the codec's ending.
func OpenObject(c Codec, r io.ReaderAt, size int64) (*Object, error) {
	t, err := ReadTrailer(c, r, size)
	if err != nil {
		return nil, err
	}
	return &Object{Trailer: t, codec: c, r: r, size: size}, nil
}

// A Ranged is an object of a store from which a range is read as one stream, which for a remote store is one request. See
// storage.Object.
type Ranged interface {
	Reader(ctx context.Context, off, n int64) (io.ReadCloser, error)
}

// stream reads n stored bytes from offset off on, in one stream where the store has that.
func (o *Object) stream(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if r, ok := o.r.(Ranged); ok {
		return r.Reader(ctx, off, n)
	}
	return io.NopCloser(io.NewSectionReader(o.r, off, n)), nil
}

// Reader expands a foreign file from its beginning, at most limit plain bytes and one more.
func (o *Object) Reader(ctx context.Context, limit int64) (io.ReadCloser, error) {
	stored, err := o.stream(ctx, 0, o.size)
	if err != nil {
		return nil, err
	}
	r, err := o.codec.NewReader(stored)
	if err != nil {
		stored.Close()
		if errors.Is(err, ErrUnsupported) {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	return expanding{io.LimitReader(r, limit+1), r, stored}, nil
}

// expanding is a foreign file that is being expanded.
type expanding struct {
	io.Reader
	decoder, stored io.Closer
}

func (e expanding) Close() error { return errors.Join(e.decoder.Close(), e.stored.Close()) }

// Verify reads every stored byte and compares the hash with the trailer's. It expands nothing, so that it takes a
// fraction of the time of Unpack and finds accidental damage only.
func (o *Object) Verify(ctx context.Context) error {
	r, err := o.stream(ctx, 0, o.Trailer.stored())
	if err != nil {
		return err
	}
	defer r.Close()
	_, sum, err := Sum(r)
	if err == nil && sum != o.Trailer.StoredXXH3 {
		err = fmt.Errorf("%w: its stored bytes do not have the hash that its trailer says", ErrDamaged)
	}
	return err
}

func (o *Object) checkStored(h hash.Hash) error {
	if [32]byte(h.Sum(nil)) != o.Trailer.StoredSHA256 {
		return fmt.Errorf("%w: its SHA-256 is not the one that its trailer says", ErrDamaged)
	}
	return nil
}

// Unpack expands an object that has a trailer into w, on several cores, and compares stored and plain bytes with the
// trailer. If it fails, the caller must discard the bytes in w.
func (o *Object) Unpack(ctx context.Context, w io.WriterAt) error {
	r, err := o.stream(ctx, 0, o.Trailer.stored())
	if err != nil {
		return err
	}
	defer r.Close()
	u := unpacker{Object: o, r: r, w: w, stored: sha256.New(), plain: xxh3.New()}
	u.turn.L = new(sync.Mutex)
	group, ctx := errgroup.WithContext(ctx)
	workers := o.Workers
	if workers == 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	for range min(workers, len(o.Trailer.Chunks)) {
		group.Go(func() error {
			err := u.work(ctx)
			if err != nil {
				u.abort()
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if !o.PlainOnly {
		if err := o.checkStored(u.stored); err != nil {
			return err
		}
	}
	if u.plain.Sum128().Bytes() != o.Trailer.PlainHash {
		return fmt.Errorf("%w: its plain bytes do not have the hash that its trailer says", ErrDamaged)
	}
	return nil
}

// An unpacker is the state that the workers of one Unpack share. Each chunk is read and hashed in order, expanded and
// written at the same time as others, and its plain bytes hashed in order again.
type unpacker struct {
	*Object
	w io.WriterAt

	read   sync.Mutex // guards the next three
	r      io.Reader  // of the chunks, one after the other
	next   int        // chunk to be read
	stored hash.Hash

	turn    sync.Cond // guards the next three
	hashed  int       // chunks whose plain bytes are in the hash
	plain   *xxh3.Hasher
	aborted bool
}

func (u *unpacker) work(ctx context.Context) error {
	dec, err := u.codec.NewDecoder()
	if err != nil {
		return err
	}
	chunkSize := int64(u.Trailer.ChunkSize)
	buf := make([]byte, min(chunkSize, int64(u.Trailer.PlainSize))+DecodeSlack)
	var packed []byte
	for ctx.Err() == nil {
		var i int
		if i, packed, err = u.readNext(packed); err != nil || i < 0 {
			return err
		}
		at := int64(i) * chunkSize
		plain := buf[:min(chunkSize, int64(u.Trailer.PlainSize)-at)]
		if err := dec.Decode(plain, packed); err != nil {
			return err
		}
		if _, err := u.w.WriteAt(plain, at); err != nil {
			return err
		}
		if !u.hash(i, plain) {
			return nil
		}
	}
	return ctx.Err()
}

// readNext reads the next chunk's stored bytes into buf or a larger one; -1 where there is none left.
func (u *unpacker) readNext(buf []byte) (int, []byte, error) {
	u.read.Lock()
	defer u.read.Unlock()
	i := u.next
	if i == len(u.Trailer.Chunks) {
		return -1, nil, nil
	}
	n := int(u.Trailer.Chunks[i])
	if n > cap(buf) {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if _, err := io.ReadFull(u.r, buf); err != nil {
		return 0, nil, err
	}
	if !u.PlainOnly {
		u.stored.Write(buf)
	}
	u.next++
	return i, buf, nil
}

// hash waits until all chunks before i are hashed, then hashes chunk i. It returns false if another worker has failed.
func (u *unpacker) hash(i int, plain []byte) bool {
	u.turn.L.Lock()
	defer u.turn.L.Unlock()
	for u.hashed != i && !u.aborted {
		u.turn.Wait()
	}
	if u.aborted {
		return false
	}
	u.plain.Write(plain)
	u.hashed++
	u.turn.Broadcast()
	return true
}

func (u *unpacker) abort() {
	u.turn.L.Lock()
	defer u.turn.L.Unlock()
	u.aborted = true
	u.turn.Broadcast()
}
