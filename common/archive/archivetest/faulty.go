package archivetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"

	"walkeep/common/storage"
)

var ErrFault = errors.New("injected fault")

// faulty is a backend whose n-th call fails, counted from 0.
type Faulty struct {
	storage.Backend
	Mu   sync.Mutex
	N    int
	Call string // that failed
}

func (f *Faulty) Fails(call string) error {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	f.N--
	if f.N == -1 {
		f.Call = call
		return fmt.Errorf("%s: %w", call, ErrFault)
	}
	return nil
}

func (f *Faulty) Create(ctx context.Context, name string, o storage.CreateOptions) (storage.Writer, error) {
	if err := f.Fails("create " + name); err != nil {
		return nil, err
	}
	w, err := f.Backend.Create(ctx, name, o)
	if err != nil {
		return nil, err
	}
	return FaultyWriter{w, f, name}, nil
}

type FaultyWriter struct {
	storage.Writer
	F    *Faulty
	Name string
}

func (w FaultyWriter) Verify(ctx context.Context, read func(io.Reader) error) error {
	if err := w.F.Fails("verify " + w.Name); err != nil {
		return err
	}
	return w.Writer.Verify(ctx, read)
}

func (w FaultyWriter) Commit(ctx context.Context) error {
	if err := w.F.Fails("commit " + w.Name); err != nil {
		return err
	}
	return w.Writer.Commit(ctx)
}

func (f *Faulty) Open(ctx context.Context, name string) (storage.Object, error) {
	if err := f.Fails("open " + name); err != nil {
		return nil, err
	}
	o, err := f.Backend.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	return FaultyObject{o, f, name}, nil
}

func (f *Faulty) List(ctx context.Context, prefix string, o storage.ListOptions) iter.Seq2[storage.Entry, error] {
	if err := f.Fails("list " + prefix); err != nil {
		return func(yield func(storage.Entry, error) bool) { yield(storage.Entry{}, err) }
	}
	return f.Backend.List(ctx, prefix, o)
}

func (f *Faulty) Sync(ctx context.Context, name string) error {
	if err := f.Fails("sync " + name); err != nil {
		return err
	}
	if s, ok := storage.As[storage.Syncer](f.Backend); ok {
		return s.Sync(ctx, name)
	}
	return nil
}

type FaultyObject struct {
	storage.Object
	F    *Faulty
	Name string
}

func (o FaultyObject) Reader(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if err := o.F.Fails("read " + o.Name); err != nil {
		return nil, err
	}
	return o.Object.Reader(ctx, off, n)
}

func (o FaultyObject) ReadAt(p []byte, at int64) (int, error) {
	if err := o.F.Fails("read " + o.Name); err != nil {
		return 0, err
	}
	return o.Object.ReadAt(p, at)
}
