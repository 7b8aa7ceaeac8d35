package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/minio/minio-go/v7"

	"walkeep/common/storage"
)

// headSize is how much of an object Open reads.
const headSize = 256 << 10

// An object has its first bytes in memory.
type object struct {
	b    *Backend
	name string
	size int64
	etag string
	head []byte
}

// Open implements [storage.Backend]: it reads the beginning of the object. A note that is larger than 256 KiB and is replaced while
// it is read gives an error.
func (b *Backend) Open(ctx context.Context, name string) (storage.Object, error) {
	if err := storage.CheckName(name); err != nil {
		return nil, err
	}
	o := &object{b: b, name: name}
	r, err := o.get(ctx, 0, headSize)
	if code(err) == "InvalidRange" { // there is no range of an empty object
		err = o.stat(ctx)
	} else if err == nil {
		defer r.Close()
		o.head = make([]byte, min(o.size, headSize))
		_, err = io.ReadFull(r, o.head)
	}
	if code(err) == minio.NoSuchKey {
		return nil, fmt.Errorf("get %s: %w", name, storage.ErrNotExist)
	}
	if err != nil {
		return nil, b.explain(err, "get", name)
	}
	return o, nil
}

// get asks for n bytes from off on, or as many as there are, and sets size and etag, or compares them where they are known.
func (o *object) get(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	var options minio.GetObjectOptions
	if err := options.SetRange(off, off+n-1); err != nil {
		return nil, err
	}
	if o.etag != "" { // it is not the first request
		if err := options.SetMatchETag(o.etag); err != nil {
			return nil, err
		}
	}
	r, info, header, err := o.b.core.GetObject(ctx, o.b.options.Bucket, o.b.key(o.name), options)
	if err != nil {
		return nil, err
	}
	if info.ETag == "" {
		r.Close()
		return nil, errForeign
	}
	var first, last, size int64
	if _, err := fmt.Sscanf(header.Get("Content-Range"), "bytes %d-%d/%d", &first, &last, &size); err != nil {
		// Without a range it is the whole object.
		first, last, size = 0, info.Size-1, info.Size
	}
	if first != off || last != min(off+n, size)-1 || o.etag != "" && size != o.size {
		r.Close()
		return nil, fmt.Errorf("the store answers with bytes %d to %d of %d, not with %d from %d on", first, last, size, n, off)
	}
	o.size, o.etag = size, info.ETag
	return r, nil
}

// stat accepts an empty object alone.
func (o *object) stat(ctx context.Context) error {
	info, err := o.b.core.StatObject(ctx, o.b.options.Bucket, o.b.key(o.name), minio.StatObjectOptions{})
	switch {
	case code(err) == minio.NoSuchKey: // without a body, this may be anybody's answer
		return errors.New("the object is gone that was there a moment ago")
	case err == nil && info.Size != 0:
		return fmt.Errorf("the store has %d bytes and gives none of them", info.Size)
	}
	return err
}

// Size implements [storage.Object].
func (o *object) Size() int64 { return o.size }

// Close implements [storage.Object].
func (o *object) Close() error { return nil }

// Reader implements [storage.Object].
func (o *object) Reader(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if off < 0 || n < 0 {
		return nil, fmt.Errorf("get %s: no range: %d bytes from %d on", o.name, n, off)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	off = min(off, o.size)
	n = min(n, o.size-off)
	head := o.head[min(off, int64(len(o.head))):min(off+n, int64(len(o.head)))]
	off, n = off+int64(len(head)), n-int64(len(head))
	if n == 0 {
		return io.NopCloser(bytes.NewReader(head)), nil
	}
	r, err := o.get(ctx, off, n)
	if err != nil {
		return nil, o.b.explain(err, "get", o.name)
	}
	return &reader{ctx: ctx, o: o, head: head, rest: r, off: off, left: n}, nil
}

// A reader gives what is in memory and then what the store sends. If the connection breaks, it asks for the rest.
type reader struct {
	ctx  context.Context
	o    *object
	head []byte
	rest io.ReadCloser
	off  int64 // of the next byte of rest
	left int64 // bytes of rest
	came int64 // bytes of this request
}

func (r *reader) Read(p []byte) (n int, err error) {
	if len(r.head) > 0 {
		n = copy(p, r.head)
		r.head = r.head[n:]
		return n, nil
	}
	if r.left == 0 {
		return 0, io.EOF
	}
	n, err = r.rest.Read(p[:min(int64(len(p)), r.left)])
	r.off, r.left = r.off+int64(n), r.left-int64(n)
	r.came += int64(n)
	if err == nil || r.left == 0 {
		return n, nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if r.came == 0 || !passes(err) { // each request has to give something
		return n, r.o.b.explain(err, "get", r.o.name)
	}
	r.came = 0
	again := r.o.b.retry(r.ctx, func() error {
		rest, err := r.o.get(r.ctx, r.off, r.left)
		if err == nil {
			r.rest.Close()
			r.rest = rest
		}
		return err
	})
	return n, r.o.b.explain(again, "get", r.o.name)
}

func (r *reader) Close() error { return r.rest.Close() }

// ReadAt implements [storage.Object].
func (o *object) ReadAt(p []byte, off int64) (int, error) {
	r, err := o.Reader(context.Background(), off, int64(len(p)))
	if err != nil {
		return 0, err
	}
	defer r.Close()
	n, err := io.ReadFull(r, p)
	if off+int64(n) == o.size && n < len(p) {
		err = io.EOF
	}
	return n, err
}
