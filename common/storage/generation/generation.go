// Package generation keeps an archive on a store that cannot create an object only if its name is free. Nothing is overwritten
// there either: each writer stores its object under a name of its own, a generation of the object's name.
//
// An object NAME is stored as NAME!TIME-RANDOM, where TIME is when its writer began, by that host's clock, in 16 hexadecimal digits of
// nanoseconds, so that generations are listed from the oldest to the newest. Readers take the newest. A generation is visible only
// when it is whole, as every object of a [storage.Backend] is. A note is stored under its own name, which comes before any generation.
//
// # What is weaker than the contract
//
// A writer looks for other generations before and after it stores its own, and returns ErrExist if one was there before or a newer one
// is there after. Of writers that store at the same moment, more than one can succeed all the same: one that has looked before the
// other's object was there. Then both objects are kept and readers take the newer one. A caller that has compared its content with
// the older one is not told. Where two servers archive one timeline by mistake, such a store does not notice each conflict.
//
// A new object takes two listings and what the store takes to create it. An object is opened with one listing more.
package generation

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"walkeep/common/storage"
)

// mark is between a name and its generation. It is less than what names are made of, so that a listing of generations is in the order of
// their names.
const mark = "!"

// A Backend stores generations of objects in another one, which need not keep two writers from one name.
type Backend struct{ b storage.Backend }

// New stores generations in b.
func New(b storage.Backend) *Backend { return &Backend{b} }

// Unwrap gives the backend behind it; see [storage.As].
func (b *Backend) Unwrap() storage.Backend { return b.b }

// check refuses what cannot be told from a generation, or would be listed in another order.
func check(name string) error {
	if err := storage.CheckName(name); err != nil {
		return err
	}
	if i := strings.IndexFunc(name, func(r rune) bool { return r <= ' ' || r == '!' }); i >= 0 {
		return fmt.Errorf("%w: %q", storage.ErrName, name)
	}
	return nil
}

// logical is the name of which one is a generation; the same if it is none.
func logical(stored string) string {
	name, _, _ := strings.Cut(stored, mark)
	return name
}

// stored lists under which names an object is stored: its own if it is a note, and then its generations, the oldest first.
func (b *Backend) stored(ctx context.Context, name string) ([]storage.Entry, error) {
	var found []storage.Entry
	for e, err := range b.b.List(ctx, name, storage.ListOptions{}) {
		if err != nil {
			return nil, err
		}
		if e.Name > name+mark+"~" {
			break
		}
		if logical(e.Name) == name {
			found = append(found, e)
		}
	}
	return found, nil
}

// newest is what readers take of the names of one object.
func newest(found []storage.Entry, name string) storage.Entry {
	if found[0].Name == name {
		return found[0]
	}
	return found[len(found)-1]
}

// Create implements [storage.Backend].
func (b *Backend) Create(ctx context.Context, name string, o storage.CreateOptions) (storage.Writer, error) {
	if err := check(name); err != nil {
		return nil, err
	}
	own := fmt.Sprintf("%s%s%016X-%s", name, mark, time.Now().UnixNano(), rand.Text()[:10])
	w, err := b.b.Create(ctx, own, o)
	if err != nil {
		return nil, err
	}
	return &writer{w, b, name, own}, nil
}

type writer struct {
	storage.Writer
	b         *Backend
	name, own string
}

// Commit implements [storage.Writer].
func (w *writer) Commit(ctx context.Context) error {
	found, err := w.b.stored(ctx, w.name)
	if err != nil {
		return err
	}
	if len(found) > 0 {
		return fmt.Errorf("create %s: %w", w.name, storage.ErrExist)
	}
	if err := w.Writer.Commit(ctx); err != nil {
		return err
	}
	if found, err = w.b.stored(ctx, w.name); err != nil {
		return err
	}
	switch {
	case len(found) == 0:
		return fmt.Errorf("create %s: it was stored as %s and is not listed", w.name, w.own)
	case newest(found, w.name).Name != w.own:
		return fmt.Errorf("create %s: %w", w.name, storage.ErrExist)
	}
	return nil
}

// Open implements [storage.Backend].
func (b *Backend) Open(ctx context.Context, name string) (storage.Object, error) {
	if err := check(name); err != nil {
		return nil, err
	}
	found, err := b.stored(ctx, name)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("open %s: %w", name, storage.ErrNotExist)
	}
	return b.b.Open(ctx, newest(found, name).Name)
}

// List implements [storage.Backend].
func (b *Backend) List(ctx context.Context, prefix string, o storage.ListOptions) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		if strings.Contains(prefix, mark) {
			yield(storage.Entry{}, fmt.Errorf("%w: %q", storage.ErrName, prefix))
			return
		}
		after := o.After
		o.After = ""              // the names below are longer than their objects' names
		var found []storage.Entry // of one object
		flush := func() bool {
			if len(found) == 0 {
				return true
			}
			name := logical(found[0].Name)
			e := newest(found, name)
			e.Name = name
			found = found[:0]
			return name <= after || yield(e, nil)
		}
		for e, err := range b.b.List(ctx, prefix, o) {
			if err != nil {
				yield(storage.Entry{}, err)
				return
			}
			if len(found) > 0 && logical(e.Name) != logical(found[0].Name) && !flush() {
				return
			}
			found = append(found, e)
		}
		flush()
	}
}

// Remove implements [storage.Backend]: it removes all generations.
func (b *Backend) Remove(ctx context.Context, names ...string) error {
	var missing error
	for _, name := range names {
		if err := check(name); err != nil {
			return err
		}
	}
	for _, name := range names {
		found, err := b.stored(ctx, name)
		if err != nil {
			return err
		}
		if len(found) == 0 {
			missing = fmt.Errorf("remove %s: %w", name, storage.ErrNotExist)
			continue
		}
		var all []string
		for _, e := range found {
			all = append(all, e.Name)
		}
		if err := b.b.Remove(ctx, all...); err != nil && !errors.Is(err, storage.ErrNotExist) {
			return err
		}
	}
	return missing
}

// Replace implements [storage.Backend].
func (b *Backend) Replace(ctx context.Context, name string, content []byte) error {
	if err := check(name); err != nil {
		return err
	}
	return b.b.Replace(ctx, name, content)
}
