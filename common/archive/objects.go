package archive

import (
	"context"
	"fmt"
	"io"
	"iter"
	"path"
	"strings"

	"walkeep/common/codec"
	"walkeep/common/storage"
	"walkeep/common/wal"
)

// An Object is a stored object that holds a WAL file.
type Object struct {
	storage.Entry
	WAL wal.Name
}

// Objects lists the objects of segments, partial segments and backup label files, in the order of their timelines and
// numbers. Whatever else lies among them is not listed, and neither are histories.
func (a *Archive) Objects(ctx context.Context) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		dirs, err := a.b.List(ctx, "wal/")
		if err != nil {
			yield(Object{}, err)
			return
		}
		for _, d := range dirs {
			if base := path.Base(d.Name); !d.IsDir() || len(base) != 16 {
				continue
			}
			files, err := a.b.List(ctx, d.Name)
			if err != nil {
				yield(Object{}, err)
				return
			}
			for _, f := range files {
				if n, ok := nameOf(f); ok && !yield(Object{f, n}, nil) {
					return
				}
			}
		}
	}
}

// Histories lists the objects of timelines' histories.
func (a *Archive) Histories(ctx context.Context) ([]Object, error) {
	entries, err := a.b.List(ctx, "wal/")
	if err != nil {
		return nil, err
	}
	var found []Object
	for _, e := range entries {
		name, _, ok := strings.Cut(path.Base(e.Name), ".history")
		if tli, err := wal.ParseTimeline(name); ok && err == nil && !e.IsDir() {
			found = append(found, Object{e, wal.Name{Kind: wal.KindHistory, Timeline: tli}})
		}
	}
	return found, nil
}

// Prune removes directories in which nothing is left.
func (a *Archive) Prune(ctx context.Context, dirs ...string) error {
	b, ok := a.b.(storage.Pruner)
	for _, dir := range dirs {
		if !ok {
			break
		}
		if err := b.Prune(ctx, dir); err != nil {
			return err
		}
	}
	return nil
}

// Read expands one object into w and checks it as Fetch does. A history's or a backup label's text is checked, too.
func (a *Archive) Read(ctx context.Context, id Identity, o Object, w io.WriterAt) (Fetched, error) {
	s := a.storedAs(o)
	if o.WAL.Kind != wal.KindHistory && o.WAL.Kind != wal.KindBackup {
		return a.deliver(ctx, o.WAL, id, s, w)
	}
	var text memory
	got, err := a.deliver(ctx, o.WAL, id, s, &text)
	if err == nil {
		if err = checkText(o.WAL, text.b); err != nil {
			err = fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
	return got, err
}

// storedAs finds the codec of an object by its ending.
func (a *Archive) storedAs(o Object) stored {
	s := stored{Entry: o.Entry}
	rest := o.Name[len(location(o.WAL)):]
	if o.WAL.Kind == wal.KindPartial && isVariant(rest) {
		rest, s.variant = rest[variantLength:], true
	}
	s.codec, _ = codec.ByExt(rest)
	return s
}
