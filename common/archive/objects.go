package archive

import (
	"context"
	"fmt"
	"io"
	"iter"

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
		dirs, err := a.logDirs(ctx, 0)
		if err != nil {
			yield(Object{}, err)
			return
		}
		for _, d := range dirs {
			files, err := storage.ListAll(ctx, a.b, d.Name)
			if err != nil {
				yield(Object{}, err)
				return
			}
			for _, f := range files {
				if n, s, ok := parseObject(f); ok && !s.stray() && !yield(Object{f, n}, nil) {
					return
				}
			}
		}
	}
}

// Histories lists the objects of timelines' histories.
func (a *Archive) Histories(ctx context.Context) ([]Object, error) {
	entries, err := storage.ListAll(ctx, a.b, walDir+"/")
	if err != nil {
		return nil, err
	}
	var found []Object
	for _, e := range entries {
		if n, s, ok := parseObject(e); ok && !s.stray() && n.Kind == wal.KindHistory {
			found = append(found, Object{e, n})
		}
	}
	return found, nil
}

// Prune removes directories in which nothing is left.
func (a *Archive) Prune(ctx context.Context, dirs ...string) error {
	b, ok := storage.As[storage.Pruner](a.b)
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
	_, s, _ := parseObject(o.Entry)
	if o.WAL.Kind != wal.KindHistory && o.WAL.Kind != wal.KindBackup {
		return a.deliver(ctx, o.WAL, id, s, w)
	}
	text := codec.Memory{Limit: maxSmall}
	got, err := a.deliver(ctx, o.WAL, id, s, &text)
	if err == nil {
		if err = checkText(o.WAL, text.Bytes()); err != nil {
			err = fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
	return got, err
}
