package sealed

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"filippo.io/age"

	"walkeep/common/codec"
)

const (
	partSize   = 64 << 10      // plain bytes of a part of the payload
	sealedPart = partSize + 16 // stored bytes of it
)

// An Object is an encrypted object that is open for reading.
type Object struct {
	Facts *Facts // nil for a foreign object

	header *header
	r      io.ReaderAt
	size   int64
}

// Open reads the header of the encrypted object in r, of size bytes, and compares it with its MAC. It needs no key. The error
// is [codec.ErrDamaged] if the header is not what was stored.
func Open(r io.ReaderAt, size int64) (*Object, error) {
	h, err := readHeader(bufio.NewReaderSize(io.NewSectionReader(r, 0, size), 8<<10))
	if err != nil {
		return nil, damaged(err)
	}
	return &Object{Facts: h.facts, header: h, r: r, size: size}, nil
}

// damaged is the error of a header, unless reading it failed.
func damaged(err error) error {
	var failed *fs.PathError
	if errors.As(err, &failed) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("%w: %w", codec.ErrDamaged, err)
}

// Verify reads every stored byte and compares the SHA-256 with the stanza's. It needs no key. Of a foreign object, or one whose
// SHA-256 is in a manifest, there is nothing to compare, and nothing is read.
func (o *Object) Verify(ctx context.Context) error {
	if o.Facts == nil || o.Facts.Elsewhere {
		return nil
	}
	r, err := stream(ctx, o.r, 0, o.size)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = check(bufio.NewReaderSize(r, readSize))
	return err
}

// stream reads stored bytes in one stream where the store has that.
func stream(ctx context.Context, r io.ReaderAt, off, n int64) (io.ReadCloser, error) {
	if ranged, ok := r.(codec.Ranged); ok {
		return ranged.Reader(ctx, off, n)
	}
	return io.NopCloser(io.NewSectionReader(r, off, n)), nil
}

// A Plain is the plain text of an encrypted object, which is a stored object of package codec. It may be used concurrently.
type Plain struct {
	io.ReaderAt // for few bytes, here and there

	key  age.Identity // of this file alone
	o    *Object
	size int64
	kept []kept // stored bytes that age reads whenever the payload is opened
}

// kept is a part of the stored bytes.
type kept struct {
	at int64
	b  []byte
}

// Plain decrypts the object with a private key. Its error is [ErrNoKey] if there is no key, or none that fits, and
// [codec.ErrDamaged] if what is stored cannot be decrypted with the key that fits.
func (o *Object) Plain(ids *Identities) (*Plain, error) {
	list, err := ids.load()
	if err != nil {
		return nil, err
	}
	fileKey, err := age.DecryptHeader(o.header.raw, list...)
	if err != nil {
		var none *age.NoIdentityMatchError
		if errors.As(err, &none) {
			return nil, errOtherKey
		}
		return nil, fmt.Errorf("%w: %w", codec.ErrDamaged, err)
	}
	p := &Plain{key: age.NewInjectedFileKeyIdentity(fileKey), o: o}
	payload := int64(len(o.header.raw) + nonceSize)
	if o.size < payload {
		return nil, fmt.Errorf("%w: it is cut off", codec.ErrDamaged)
	}
	last := payload + (o.size-payload-1)/sealedPart*sealedPart
	for _, k := range []kept{{0, make([]byte, payload)}, {last, make([]byte, max(0, o.size-last))}} {
		if n, err := o.r.ReadAt(k.b, k.at); n < len(k.b) {
			return nil, err
		}
		p.kept = append(p.kept, k)
	}
	p.ReaderAt, p.size, err = p.open(o.r)
	return p, err
}

// open opens the payload, whose stored bytes are read from r where they are not kept.
func (p *Plain) open(r io.ReaderAt) (io.ReaderAt, int64, error) {
	plain, size, err := age.DecryptReaderAt(readerAt(func(b []byte, at int64) (int, error) {
		for _, k := range p.kept {
			if at >= k.at && at < k.at+int64(len(k.b)) {
				return copy(b, k.b[at-k.at:]), nil // fewer at the end of the header, which age reads as a stream
			}
		}
		return r.ReadAt(b, at)
	}), p.o.size, p.key)
	if err != nil {
		return nil, 0, damaged(err)
	}
	return readerAt(func(b []byte, at int64) (int, error) {
		n, err := plain.ReadAt(b, at)
		if err != nil && err != io.EOF {
			err = damaged(err)
		}
		return n, err
	}), size, nil
}

type readerAt func([]byte, int64) (int, error)

func (r readerAt) ReadAt(p []byte, at int64) (int, error) { return r(p, at) }

// Size is the number of plain bytes.
func (p *Plain) Size() int64 { return p.size }

// Reader implements [codec.Ranged]: the stored bytes are read as one stream.
func (p *Plain) Reader(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	n = min(n, p.size-off)
	if n <= 0 {
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	payload := int64(len(p.kept[0].b))
	first, end := payload+off/partSize*sealedPart, payload+((off+n-1)/partSize+1)*sealedPart
	stored, err := stream(ctx, p.o.r, first, min(end, p.o.size)-first)
	if err != nil {
		return nil, err
	}
	next := first
	plain, _, err := p.open(readerAt(func(b []byte, at int64) (int, error) {
		if at != next {
			return 0, fmt.Errorf("read at %d instead of %d", at, next)
		}
		got, err := io.ReadFull(stored, b)
		next += int64(got)
		return got, err
	}))
	if err != nil {
		stored.Close()
		return nil, err
	}
	return reading{bufio.NewReaderSize(io.NewSectionReader(plain, off, n), 4*partSize), stored}, nil
}

// reading is a part of the plain text that is being read.
type reading struct {
	io.Reader
	io.Closer
}
