// Package retry repeats calls of a backend that have failed for a reason that may pass.
//
// It repeats whole calls that may be made twice: Create, Open, List, Remove, Replace and the beginning of a read. Write, Verify
// and Commit are not repeated: what was written is gone, and after a Commit without an answer an ErrExist would not tell
// whose object is there. A backend repeats the parts of these itself; the caller of Commit compares what is there.
package retry

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"github.com/cenkalti/backoff/v4"

	"walkeep/common/storage"
)

// A Backend repeats the calls of another one.
type Backend struct {
	b          storage.Backend
	first, max time.Duration
}

// New repeats calls of b, at intervals that grow from first on, until they have taken max in all.
func New(b storage.Backend, first, max time.Duration) *Backend { return &Backend{b, first, max} }

// Unwrap gives the backend behind it; see [storage.As].
func (b *Backend) Unwrap() storage.Backend { return b.b }

// try calls f until it gives an answer, or an error that another call would give as well.
func (b *Backend) try(ctx context.Context, f func() error) error {
	wait := backoff.NewExponentialBackOff(backoff.WithInitialInterval(b.first), backoff.WithMaxElapsedTime(b.max))
	return backoff.Retry(func() error {
		err := f()
		for _, final := range []error{storage.ErrNotExist, storage.ErrExist, storage.ErrDenied, storage.ErrName, storage.ErrUnconditional, context.Canceled, context.DeadlineExceeded} {
			if errors.Is(err, final) {
				return backoff.Permanent(err)
			}
		}
		return err
	}, backoff.WithContext(wait, ctx))
}

// Create implements [storage.Backend].
func (b *Backend) Create(ctx context.Context, name string, o storage.CreateOptions) (w storage.Writer, err error) {
	err = b.try(ctx, func() error {
		w, err = b.b.Create(ctx, name, o)
		return err
	})
	return w, err
}

// Open implements [storage.Backend].
func (b *Backend) Open(ctx context.Context, name string) (o storage.Object, err error) {
	err = b.try(ctx, func() error {
		o, err = b.b.Open(ctx, name)
		return err
	})
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
func (o object) Reader(ctx context.Context, off, n int64) (r io.ReadCloser, err error) {
	err = o.b.try(ctx, func() error {
		r, err = o.Object.Reader(ctx, off, n)
		return err
	})
	return r, err
}

// ReadAt implements [storage.Object].
func (o object) ReadAt(p []byte, off int64) (n int, err error) {
	end := error(nil)
	err = o.b.try(context.Background(), func() error {
		if n, end = o.Object.ReadAt(p, off); end == io.EOF {
			return nil
		}
		return end
	})
	if err == nil {
		err = end
	}
	return n, err
}

// List implements [storage.Backend]. A listing that fails is begun again, and what it gave before is passed over.
func (b *Backend) List(ctx context.Context, prefix string, o storage.ListOptions) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		last, more := o.After, true
		err := b.try(ctx, func() error {
			o.After = last // an attempt continues where the one before has ended
			for e, err := range b.b.List(ctx, prefix, o) {
				if err != nil {
					return err
				}
				if e.Name <= last {
					continue
				}
				if last = e.Name; !yield(e, nil) {
					more = false
					return nil
				}
			}
			return nil
		})
		if err != nil && more {
			yield(storage.Entry{}, err)
		}
	}
}

// Remove implements [storage.Backend]. An object that an earlier try has removed, unanswered, is said not to be there.
func (b *Backend) Remove(ctx context.Context, names ...string) error {
	return b.try(ctx, func() error { return b.b.Remove(ctx, names...) })
}

// Replace implements [storage.Backend].
func (b *Backend) Replace(ctx context.Context, name string, content []byte) error {
	return b.try(ctx, func() error { return b.b.Replace(ctx, name, content) })
}
