package archive

import (
	"context"
	"fmt"
	"io"
	"iter"

	"walkeep/common/codec"
	"walkeep/common/sealed"
	"walkeep/common/storage"
	"walkeep/common/wal"
)

// An Object is a stored object that holds a WAL file, or is named after one.
type Object struct {
	storage.Entry
	WAL       wal.Name
	Encrypted bool
	Bad       error // why nothing can be read from it, as its listing says; nil if it may hold the file
}

// ParseObject reads a line of a listing: which WAL file an object holds, or is named after. It returns false for everything
// else that lies there.
func ParseObject(e storage.Entry) (Object, bool) {
	n, s, ok := parseObject(e)
	return Object{e, n, s.encrypted, s.bad}, ok
}

// Completes reports whether an object of this name can only be there after its segment was complete. A part of a segment, or
// a label, shows that WAL went on to there; and the label of a backup is written when the segment in which the backup began is
// full.
func Completes(n wal.Name) bool { return n.Kind == wal.KindSegment || n.Kind == wal.KindBackup }

// Objects lists the objects of segments, partial segments and backup label files, in the order of their timelines and
// numbers. Whatever else lies among them is not listed, and neither are histories.
func (a *Archive) Objects(ctx context.Context) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		dirs, err := a.LogDirs(ctx, 0)
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
				if n, s, ok := parseObject(f); ok && !s.stray() && !yield(Object{f, n, s.encrypted, s.bad}, nil) {
					return
				}
			}
		}
	}
}

// Histories lists the objects of timelines' histories.
func (a *Archive) Histories(ctx context.Context) ([]Object, error) {
	entries, err := storage.ListAll(ctx, a.b, WALDir)
	if err != nil {
		return nil, err
	}
	var found []Object
	for _, e := range entries {
		if n, s, ok := parseObject(e); ok && !s.stray() && n.Kind == wal.KindHistory {
			found = append(found, Object{e, n, s.encrypted, s.bad})
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

// CheckStored reads every stored byte of an encrypted object and compares it with what the object says of itself, without a private
// key. [sealed.ErrNoKey] means that a foreign program made it, so that nothing says what it must be.
func (a *Archive) CheckStored(ctx context.Context, id Identity, o Object) (Fetched, error) {
	_, s, _ := parseObject(o.Entry)
	return a.checkStored(ctx, id, o.WAL, s)
}

// CheckFile is CheckStored for the object that holds a file; [ErrNotStored] if there is none.
func (a *Archive) CheckFile(ctx context.Context, n wal.Name, id Identity) (Fetched, error) {
	found, err := a.find(ctx, n)
	if err != nil {
		return Fetched{}, err
	}
	if len(found) == 0 {
		return Fetched{}, fmt.Errorf("%s is %w", n, ErrNotStored)
	}
	one, err := a.choose(ctx, n, found)
	if err != nil {
		return Fetched{}, err
	}
	return a.checkStored(ctx, id, n, one)
}

func (a *Archive) checkStored(ctx context.Context, id Identity, n wal.Name, s stored) (Fetched, error) {
	got := Fetched{Object: s.Name}
	f, err := a.openStored(ctx, s)
	if err != nil {
		return got, err
	}
	defer f.Close()
	if f.sealed == nil || f.sealed.Facts == nil {
		return got, sealed.ErrNoKey
	}
	facts := f.sealed.Facts
	switch err := checkFacts(facts, n); {
	case err != nil:
		return got, err
	case id.SystemID != 0 && facts.SystemID != uint64(id.SystemID):
		return got, fmt.Errorf("%w: its system identifier is %d, not %s", ErrForeign, facts.SystemID, id.SystemID)
	}
	got.Size, got.DamageLSN = int64(facts.PlainSize), wal.LSN(facts.DamageLSN)
	return got, f.sealed.Verify(ctx)
}
