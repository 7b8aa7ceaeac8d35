package archive_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"

	"walkeep/common/storage"
)

var errFault = errors.New("injected fault")

// faulty is a backend whose n-th call fails, counted from 0.
type faulty struct {
	storage.Backend
	mu   sync.Mutex
	n    int
	call string // that failed
}

func (f *faulty) fails(call string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n--
	if f.n == -1 {
		f.call = call
		return fmt.Errorf("%s: %w", call, errFault)
	}
	return nil
}

func (f *faulty) Create(ctx context.Context, name string, o storage.CreateOptions) (storage.Writer, error) {
	if err := f.fails("create " + name); err != nil {
		return nil, err
	}
	w, err := f.Backend.Create(ctx, name, o)
	if err != nil {
		return nil, err
	}
	return faultyWriter{w, f, name}, nil
}

type faultyWriter struct {
	storage.Writer
	f    *faulty
	name string
}

func (w faultyWriter) Verify(ctx context.Context, read func(io.Reader) error) error {
	if err := w.f.fails("verify " + w.name); err != nil {
		return err
	}
	return w.Writer.Verify(ctx, read)
}

func (w faultyWriter) Commit(ctx context.Context) error {
	if err := w.f.fails("commit " + w.name); err != nil {
		return err
	}
	return w.Writer.Commit(ctx)
}

func (f *faulty) Open(ctx context.Context, name string) (storage.Object, error) {
	if err := f.fails("open " + name); err != nil {
		return nil, err
	}
	o, err := f.Backend.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	return faultyObject{o, f, name}, nil
}

func (f *faulty) List(ctx context.Context, prefix string, o storage.ListOptions) iter.Seq2[storage.Entry, error] {
	if err := f.fails("list " + prefix); err != nil {
		return func(yield func(storage.Entry, error) bool) { yield(storage.Entry{}, err) }
	}
	return f.Backend.List(ctx, prefix, o)
}

func (f *faulty) Sync(ctx context.Context, name string) error {
	if err := f.fails("sync " + name); err != nil {
		return err
	}
	if s, ok := storage.As[storage.Syncer](f.Backend); ok {
		return s.Sync(ctx, name)
	}
	return nil
}

type faultyObject struct {
	storage.Object
	f    *faulty
	name string
}

func (o faultyObject) Reader(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if err := o.f.fails("read " + o.name); err != nil {
		return nil, err
	}
	return o.Object.Reader(ctx, off, n)
}

func (o faultyObject) ReadAt(p []byte, at int64) (int, error) {
	if err := o.f.fails("read " + o.name); err != nil {
		return 0, err
	}
	return o.Object.ReadAt(p, at)
}
