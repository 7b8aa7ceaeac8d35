// Package count counts what is asked of a backend, for budgets: a remote store takes its time for each request.
package count

import (
	"context"
	"io"
	"iter"
	"sync"

	"walkeep/common/storage"
)

// Counts are how often each method was called, and how many bytes went through.
type Counts struct {
	Create, Commit, Open, Read, List, Remove, Replace int
	BytesWritten, BytesRead                           int64
}

// Requests is how many requests a store takes for these calls, in which each read is one and each object that is
// removed is one.
func (c Counts) Requests() int {
	return c.Create + c.Commit + c.Open + c.Read + c.List + c.Remove + c.Replace
}

// A Backend counts what is asked of another one.
type Backend struct {
	storage.Backend
	mu     sync.Mutex
	counts Counts
}

// New counts what is asked of b.
func New(b storage.Backend) *Backend { return &Backend{Backend: b} }

// Unwrap gives the backend behind it; see [storage.As].
func (b *Backend) Unwrap() storage.Backend { return b.Backend }

// Counts are those since New.
func (b *Backend) Counts() Counts {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.counts
}

func (b *Backend) count(f func(c *Counts)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(&b.counts)
}

// Create implements [storage.Backend].
func (b *Backend) Create(ctx context.Context, name string, o storage.CreateOptions) (storage.Writer, error) {
	b.count(func(c *Counts) { c.Create++ })
	w, err := b.Backend.Create(ctx, name, o)
	if err != nil {
		return nil, err
	}
	return &writer{w, b}, nil
}

type writer struct {
	storage.Writer
	b *Backend
}

func (w *writer) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	w.b.count(func(c *Counts) { c.BytesWritten += int64(n) })
	return n, err
}

func (w *writer) Commit(ctx context.Context) error {
	w.b.count(func(c *Counts) { c.Commit++ })
	return w.Writer.Commit(ctx)
}

// Open implements [storage.Backend].
func (b *Backend) Open(ctx context.Context, name string) (storage.Object, error) {
	b.count(func(c *Counts) { c.Open++ })
	o, err := b.Backend.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	return object{o, b}, nil
}

type object struct {
	storage.Object
	b *Backend
}

func (o object) ReadAt(p []byte, at int64) (int, error) {
	n, err := o.Object.ReadAt(p, at)
	o.b.count(func(c *Counts) { c.Read++; c.BytesRead += int64(n) })
	return n, err
}

func (o object) Reader(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	o.b.count(func(c *Counts) { c.Read++ })
	r, err := o.Object.Reader(ctx, off, n)
	if err != nil {
		return nil, err
	}
	return reader{r, o.b}, nil
}

type reader struct {
	io.ReadCloser
	b *Backend
}

func (r reader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.b.count(func(c *Counts) { c.BytesRead += int64(n) })
	return n, err
}

// List implements [storage.Backend].
func (b *Backend) List(ctx context.Context, prefix string, o storage.ListOptions) iter.Seq2[storage.Entry, error] {
	b.count(func(c *Counts) { c.List++ })
	return b.Backend.List(ctx, prefix, o)
}

// Remove implements [storage.Backend].
func (b *Backend) Remove(ctx context.Context, names ...string) error {
	b.count(func(c *Counts) { c.Remove += len(names) })
	return b.Backend.Remove(ctx, names...)
}

// Replace implements [storage.Backend].
func (b *Backend) Replace(ctx context.Context, name string, content []byte) error {
	b.count(func(c *Counts) { c.Replace++; c.BytesWritten += int64(len(content)) })
	return b.Backend.Replace(ctx, name, content)
}
