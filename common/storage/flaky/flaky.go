// Package flaky keeps an archive in memory with the manners of an object store, for tests of what is built on a
// [storage.Backend].
package flaky

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync/atomic"

	"walkeep/common/storage"
	"walkeep/common/storage/mem"
)

// Errors of the store.
var (
	ErrBusy = errors.New("503 slow down")
	ErrLost = errors.New("connection reset by peer")
)

// Manners are the ways in which the store differs from a directory. The zero value has none.
type Manners struct {
	NoReadBack   bool // nothing can be read of an object that is not complete
	Confirms     bool // with NoReadBack: the store confirms a checksum, and nothing is read back
	SilentRemove bool // what is not there is removed as well
	LateExist    bool // that a name is taken is said at the end only
	Page         int  // names of a page of a listing, which shows what is there by then; 0: all
	Busy         int  // each so many-th request fails before it has done anything; 0: none
	LostAnswers  int  // each so many-th Commit does what it should, and fails; 0: none
}

// A Backend is an archive in memory.
type Backend struct {
	mem.Backend
	Manners

	requests, commits atomic.Int64
}

// request fails if the store is too busy.
func (b *Backend) request() error {
	if n := b.requests.Add(1); b.Busy > 0 && n%int64(b.Busy) == 0 {
		return ErrBusy
	}
	return nil
}

// Create implements [storage.Backend].
func (b *Backend) Create(ctx context.Context, name string, o storage.CreateOptions) (storage.Writer, error) {
	if err := b.request(); err != nil {
		return nil, err
	}
	w, err := b.Backend.Create(ctx, name, o)
	if errors.Is(err, storage.ErrExist) && b.LateExist {
		return &writer{b: b, name: name, taken: err}, nil
	}
	if err != nil {
		return nil, err
	}
	return &writer{Writer: w, b: b, name: name}, nil
}

type writer struct {
	storage.Writer
	b     *Backend
	name  string
	taken error                 // that Commit will say; there is no Writer then
	read  func(io.Reader) error // that Commit will call
}

func (w *writer) Write(p []byte) (int, error) {
	if w.taken != nil {
		return len(p), nil
	}
	return w.Writer.Write(p)
}

func (w *writer) Verify(ctx context.Context, read func(io.Reader) error) error {
	if w.taken != nil || w.b.NoReadBack {
		w.read = read
		return ctx.Err()
	}
	return w.Writer.Verify(ctx, read)
}

func (w *writer) Commit(ctx context.Context) error {
	if w.taken != nil {
		return w.taken
	}
	if err := w.Writer.Commit(ctx); err != nil {
		return err
	}
	if n := w.b.commits.Add(1); w.b.LostAnswers > 0 && n%int64(w.b.LostAnswers) == 0 {
		return ErrLost
	}
	if w.read == nil || w.b.Confirms {
		return nil
	}
	o, err := w.b.Backend.Open(ctx, w.name)
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	defer o.Close()
	return w.read(io.NewSectionReader(o, 0, o.Size()))
}

func (w *writer) Discard() {
	if w.taken == nil {
		w.Writer.Discard()
	}
}

// Open implements [storage.Backend].
func (b *Backend) Open(ctx context.Context, name string) (storage.Object, error) {
	if err := b.request(); err != nil {
		return nil, err
	}
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

// Reader implements [storage.Object].
func (o object) Reader(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if err := o.b.request(); err != nil {
		return nil, err
	}
	return o.Object.Reader(ctx, off, n)
}

// List implements [storage.Backend].
func (b *Backend) List(ctx context.Context, prefix string, o storage.ListOptions) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		for after, more := o.After, true; more; {
			if err := b.request(); err != nil {
				yield(storage.Entry{}, err)
				return
			}
			n := 0
			more = false
			for e, err := range b.Backend.List(ctx, prefix, o) {
				if err == nil && e.Name <= after {
					continue
				}
				if n++; b.Page > 0 && n > b.Page {
					more = true
					break
				}
				if after = e.Name; !yield(e, err) {
					return
				}
			}
		}
	}
}

// Remove implements [storage.Backend].
func (b *Backend) Remove(ctx context.Context, names ...string) error {
	if err := b.request(); err != nil {
		return err
	}
	err := b.Backend.Remove(ctx, names...)
	if errors.Is(err, storage.ErrNotExist) && b.SilentRemove {
		return nil
	}
	return err
}

// Replace implements [storage.Backend].
func (b *Backend) Replace(ctx context.Context, name string, content []byte) error {
	if err := b.request(); err != nil {
		return err
	}
	return b.Backend.Replace(ctx, name, content)
}
