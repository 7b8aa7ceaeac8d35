// Package mem keeps an archive in memory, for tests of what is built on a [storage.Backend].
package mem

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"path"
	"slices"
	"strings"
	"sync"

	"walkeep/common/storage"
)

// A Backend is an archive in memory; its zero value is empty.
type Backend struct {
	mu      sync.Mutex
	objects map[string][]byte
}

// Create implements [storage.Backend].
func (b *Backend) Create(ctx context.Context, name string, o storage.CreateOptions) (storage.Writer, error) {
	if err := storage.CheckName(name); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.free(name); err != nil {
		return nil, err
	}
	return &writer{b: b, name: name}, nil
}

// free fails with ErrExist for a name that is taken.
func (b *Backend) free(name string) error {
	if _, ok := b.objects[name]; ok {
		return fmt.Errorf("create %s: %w", name, storage.ErrExist)
	}
	return nil
}

type writer struct {
	content bytes.Buffer
	b       *Backend
	name    string
}

// Write implements [storage.Writer].
func (w *writer) Write(p []byte) (int, error) { return w.content.Write(p) }

// Verify implements [storage.Writer].
func (w *writer) Verify(ctx context.Context, read func(io.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return read(bytes.NewReader(w.content.Bytes()))
}

// Commit implements [storage.Writer].
func (w *writer) Commit(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w.b.mu.Lock()
	defer w.b.mu.Unlock()
	if err := w.b.free(w.name); err != nil {
		return err
	}
	w.b.set(w.name, w.content.Bytes())
	return nil
}

// Discard implements [storage.Writer].
func (w *writer) Discard() {}

func (b *Backend) set(name string, content []byte) {
	if b.objects == nil {
		b.objects = make(map[string][]byte)
	}
	b.objects[name] = content
}

// Replace implements [storage.Backend].
func (b *Backend) Replace(ctx context.Context, name string, content []byte) error {
	if err := storage.CheckName(name); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.set(name, slices.Clone(content))
	return nil
}

// Open implements [storage.Backend].
func (b *Backend) Open(ctx context.Context, name string) (storage.Object, error) {
	if err := storage.CheckName(name); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	content, ok := b.objects[name]
	if !ok {
		return nil, fmt.Errorf("open %s: %w", name, storage.ErrNotExist)
	}
	return object{bytes.NewReader(content)}, nil
}

type object struct{ content *bytes.Reader }

// Size implements [storage.Object].
func (o object) Size() int64 { return o.content.Size() }

// ReadAt implements [storage.Object].
func (o object) ReadAt(p []byte, at int64) (int, error) { return o.content.ReadAt(p, at) }

func (object) Close() error { return nil }

// Reader implements [storage.Object].
func (o object) Reader(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(o.content, off, n)), ctx.Err()
}

// List implements [storage.Backend].
func (b *Backend) List(ctx context.Context, prefix string, o storage.ListOptions) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		entries, err := b.list(ctx, prefix, o.Recursive)
		if err != nil {
			yield(storage.Entry{}, err)
		}
		for _, e := range entries {
			if e.Name > o.After && !yield(e, nil) {
				return
			}
		}
	}
}

func (b *Backend) list(ctx context.Context, prefix string, recursive bool) ([]storage.Entry, error) {
	if err := errors.Join(storage.CheckPrefix(prefix), ctx.Err()); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	dir, _ := path.Split(prefix)
	var entries []storage.Entry
	for name, content := range b.objects {
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		e := storage.Entry{Name: name, Size: int64(len(content))}
		if sub, _, ok := strings.Cut(name[len(dir):], "/"); ok && !recursive {
			e = storage.Entry{Name: dir + sub + "/"}
		}
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b storage.Entry) int { return strings.Compare(a.Name, b.Name) })
	return slices.Compact(entries), nil
}

// Remove implements [storage.Backend].
func (b *Backend) Remove(ctx context.Context, names ...string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var missing error
	for _, name := range names {
		if err := storage.CheckName(name); err != nil {
			return err
		}
		if _, ok := b.objects[name]; !ok {
			missing = fmt.Errorf("remove %s: %w", name, storage.ErrNotExist)
		}
		delete(b.objects, name)
	}
	return missing
}
