package ship

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"walkeep/common/archive"
	"walkeep/common/notes"
	"walkeep/common/storage"
	"walkeep/common/wal"
)

// look lists a directory of the repository, once.
func (q *queue) look(ctx context.Context, l *listing) error {
	sizes, holders, err := q.listing(ctx, l.dir)
	if err != nil {
		return err
	}
	for _, o := range l.objects {
		size, ok := sizes[o.name]
		other := holders[o.wal]
		switch {
		case ok && size == o.size && q.marked(o):
			q.holding(o, listed)
		case ok:
			err = q.meet(ctx, o, o.name)
		case other != "" && o.wal.Kind != wal.KindPartial:
			err = q.meet(ctx, o, other)
		}
		if err != nil {
			return err
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.shelves[l.dir].asked = true
	return nil
}

// listing lists a directory of the repository. It returns the sizes of the objects, and by the name of each file an object that
// holds it, under whatever ending.
func (q *queue) listing(ctx context.Context, dir string) (sizes map[string]int64, holders map[wal.Name]string, err error) {
	var there []storage.Entry
	err = q.call(ctx, 0, func(ctx context.Context, a *archive.Archive) (err error) {
		var found []storage.Entry
		if found, err = a.List(ctx, dir); err == nil {
			there = found
		}
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("list %s: %w", dir, err)
	}
	sizes, holders = make(map[string]int64, len(there)), make(map[wal.Name]string)
	for _, e := range there {
		if o, ok := archive.ParseObject(e); ok && o.Bad == nil {
			sizes[o.Name] = o.Size
			holders[o.WAL] = o.Name
		}
	}
	return sizes, holders, nil
}

// marked reports whether an earlier process has shipped an object. Of partial segments it is not known which of several the
// repository lists.
func (q *queue) marked(o object) bool {
	return o.wal.Kind != wal.KindHistory && o.wal.Kind != wal.KindPartial && q.s.position(o.number+1) <= q.before.Mark(o.wal.Timeline)
}

// meet compares an object with the one that the repository holds.
func (q *queue) meet(ctx context.Context, o object, name string) error {
	err := q.call(ctx, o.size, func(ctx context.Context, a *archive.Archive) error {
		return a.Compare(ctx, q.s.Spool.Archive, o.name, name)
	})
	switch {
	case err == nil:
		q.found(o)
	case errors.Is(err, archive.ErrConflict) && o.wal.Kind == wal.KindPartial:
		return nil // it will be stored beside that one
	case final(err):
		q.stop(o.name, err)
	case errors.Is(err, archive.ErrNotStored): // one of the two has gone
	default:
		return err
	}
	return nil
}

// final reports whether an error of an object will not pass with time.
func final(err error) bool {
	return errors.Is(err, archive.ErrConflict) || errors.Is(err, archive.ErrDamaged)
}

// mark returns how far the repository holds a timeline.
func (q *queue) mark(tli wal.Timeline) wal.LSN {
	return notes.Shipping{Marks: q.marks}.Mark(tli)
}

// unproven returns an object that is to be compared before it may leave the spool.
func (q *queue) unproven() *object {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.prove) == 0 {
		return nil
	}
	o := q.prove[0]
	q.prove = q.prove[1:]
	return &o
}

// compare proves an object that an earlier process has shipped.
func (q *queue) compare(ctx context.Context, o object) error {
	err := q.call(ctx, o.size, func(ctx context.Context, a *archive.Archive) error {
		return a.Compare(ctx, q.s.Spool.Archive, o.name, o.name)
	})
	switch {
	case err == nil:
		q.holding(o, proven)
	case errors.Is(err, archive.ErrNotStored) && ctx.Err() == nil: // it is not there any more
		q.drop(o)
	case final(err):
		q.drop(o)
		q.stop(o.name, err)
	default:
		return err
	}
	return nil
}

// proveAll proves all that an earlier process has shipped and that may leave the spool.
func (q *queue) proveAll(ctx context.Context) {
	if q.opened() == nil {
		return
	}
	q.s.tidy(ctx)
	for o := q.unproven(); o != nil && ctx.Err() == nil; o = q.unproven() {
		if q.compare(ctx, *o) != nil {
			return
		}
	}
	for dir := q.unconfirmed(); dir != "" && ctx.Err() == nil; dir = q.unconfirmed() {
		if q.confirm(ctx, dir) != nil {
			return
		}
	}
}

// unconfirmed returns a directory of which objects may leave the spool when the repository is seen to have them still.
func (q *queue) unconfirmed() (dir string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for dir, sh := range q.shelves {
		if sh.confirm {
			return dir
		}
	}
	return ""
}

// confirm lists a directory of the repository, so that what it held and does not hold as it was is shipped again.
func (q *queue) confirm(ctx context.Context, dir string) error {
	at := time.Now()
	sizes, holders, err := q.listing(ctx, dir)
	if err != nil {
		return err
	}
	stock, _ := q.s.current()
	q.mu.Lock()
	defer q.mu.Unlock()
	sh := q.shelves[dir]
	if sh == nil {
		return nil
	}
	for _, l := range stock {
		for _, o := range l.objects {
			size, ok := sizes[o.name]
			if sh.have[o.name] == 0 || ok && size == o.size || !ok && holders[o.wal] != "" {
				continue
			}
			q.s.Log.Error("an object that was shipped is not in the repository as it was, and is shipped again", "repository", q.Name, "object", o.name)
			delete(sh.have, o.name)
			sh.all = nil
		}
	}
	sh.confirmed, sh.confirm = at, false
	return nil
}

// holding records that the repository holds an object.
func (q *queue) holding(o object, s state) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if sh := q.shelves[path.Dir(o.name)+"/"]; sh != nil {
		if sh.have[o.name] == 0 {
			q.s.progress(o.size)
			if s == listed {
				q.done.Found++
			}
		}
		sh.have[o.name] = s
	}
	delete(q.stuck, o.name)
}

// found records that the repository held an object before it was shipped.
func (q *queue) found(o object) {
	q.holding(o, proven)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.done.Found++
}

// drop forgets an object, so that it is shipped again.
func (q *queue) drop(o object) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if sh := q.shelves[path.Dir(o.name)+"/"]; sh != nil {
		delete(sh.have, o.name)
		sh.all = nil
	}
}

// stop records that an object cannot be shipped.
func (q *queue) stop(name string, err error) {
	q.mu.Lock()
	_, again := q.stuck[name]
	q.stuck[name] = stuck{err, time.Now().Add(stuckPause)}
	q.mu.Unlock()
	if !again {
		q.s.Log.Error("an object cannot be shipped, and stays in the spool", "repository", q.Name, "object", name, "error", err.Error())
	}
}
