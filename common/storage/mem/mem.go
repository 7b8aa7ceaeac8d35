// Package mem keeps an archive in memory, for tests of what is built on a [storage.Backend].
package mem

import (
	"bytes"
	"context"
	"fmt"
	"io"
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

// Put implements [storage.Backend].
func (b *Backend) Put(ctx context.Context, name string, write func(io.Writer) error, check func(io.Reader) error) error {
	if err := storage.CheckName(name); err != nil {
		return err
	}
	var content bytes.Buffer
	if err := write(&content); err != nil {
		return err
	}
	if check != nil {
		if err := check(bytes.NewReader(content.Bytes())); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.objects[name]; ok {
		return fmt.Errorf("create %s: %w", name, storage.ErrExist)
	}
	b.set(name, content.Bytes())
	return nil
}

func (b *Backend) set(name string, content []byte) {
	if b.objects == nil {
		b.objects = make(map[string][]byte)
	}
	b.objects[name] = content
}

// Replace implements [storage.Replacer].
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

type object struct{ *bytes.Reader }

func (object) Close() error { return nil }

// List implements [storage.Backend].
func (b *Backend) List(ctx context.Context, prefix string) ([]storage.Entry, error) {
	if err := storage.CheckPrefix(prefix); err != nil {
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
		if sub, _, ok := strings.Cut(name[len(dir):], "/"); ok {
			e = storage.Entry{Name: dir + sub + "/"}
		}
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b storage.Entry) int { return strings.Compare(a.Name, b.Name) })
	return slices.Compact(entries), nil
}

// Remove implements [storage.Backend].
func (b *Backend) Remove(ctx context.Context, name string) error {
	if err := storage.CheckName(name); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.objects[name]; !ok {
		return fmt.Errorf("remove %s: %w", name, storage.ErrNotExist)
	}
	delete(b.objects, name)
	return nil
}
