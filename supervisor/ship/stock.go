package ship

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"slices"
	"time"

	"walkeep/common/archive"
	"walkeep/common/storage"
	"walkeep/common/wal"
)

// A listing is what a directory of the spool's WAL held. It is never changed; another one takes its place.
type listing struct {
	dir      string // wal/, which holds the histories, or that of a timeline and log number
	timeline wal.Timeline
	objects  []object // in the order in which they are shipped
	changed  time.Time
	fresh    time.Time // until when it is listed again although the directory's time is the same
}

// An object is one of the spool's.
type object struct {
	name   string
	size   int64
	wal    wal.Name
	number uint64
	bad    error // why it cannot be read
}

// settle is how long a directory is listed again after its time has changed: a file that is created within the same tick of
// the file system's clock does not change it again.
const settle = time.Second

// scan lists the spool's WAL, those directories that have changed. It reports whether anything is new.
func (s *shipper) scan(ctx context.Context) (changed bool, err error) {
	at := time.Now()
	before, _ := s.current()
	entries, err := s.Spool.Archive.List(ctx, archive.WALDir)
	if err != nil {
		return false, err
	}
	known := make(map[string]*listing, len(before))
	for _, l := range before {
		known[l.dir] = l
	}
	histories := s.listed(archive.WALDir, entries)
	if was := known[archive.WALDir]; was != nil && same(was.objects, histories.objects) {
		histories = was
	} else {
		changed = true
	}
	stock := []*listing{histories}
	for _, e := range entries {
		if !e.IsDir() || len(filepath.Base(e.Name)) != 16 {
			continue
		}
		l, err := s.scanLog(ctx, e.Name, known[e.Name], at)
		if err != nil {
			return false, err
		}
		changed = changed || l != known[e.Name]
		stock = append(stock, l)
	}
	changed = changed || len(stock) != len(before)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stock, s.at = stock, at
	return changed, nil
}

// scanLog lists a directory of segments. It returns the listing that is known if that is still so.
func (s *shipper) scanLog(ctx context.Context, dir string, known *listing, at time.Time) (*listing, error) {
	info, err := os.Stat(filepath.Join(s.Spool.Dir, filepath.FromSlash(dir)))
	if os.IsNotExist(err) { // it was pruned meanwhile
		return &listing{dir: dir}, nil
	}
	if err != nil {
		return nil, err
	}
	if known != nil && known.changed.Equal(info.ModTime()) && at.After(known.fresh) {
		return known, nil
	}
	entries, err := s.Spool.Archive.List(ctx, dir)
	if err != nil {
		return nil, err
	}
	l := s.listed(dir, entries)
	l.changed, l.fresh = info.ModTime(), at.Add(settle)
	if known != nil && known.changed.Equal(l.changed) {
		l.fresh = known.fresh
		if same(known.objects, l.objects) {
			return known, nil
		}
	}
	return l, nil
}

// listed makes a listing. Whatever is no WAL file is left out.
func (s *shipper) listed(dir string, entries []storage.Entry) *listing {
	l := &listing{dir: dir}
	for _, e := range entries {
		o, ok := archive.ParseObject(e)
		if !ok || o.IsDir() {
			continue
		}
		l.timeline = o.WAL.Timeline
		l.objects = append(l.objects, object{name: o.Name, size: o.Size, wal: o.WAL, number: s.number(o.WAL), bad: o.Bad})
	}
	// A label shows that its segment was complete, so that it comes after that.
	slices.SortStableFunc(l.objects, func(a, b object) int {
		return cmp.Or(cmp.Compare(a.number, b.number), cmp.Compare(rank(a.wal), rank(b.wal)))
	})
	return l
}

func rank(n wal.Name) int {
	if n.Kind == wal.KindSegment {
		return 0
	}
	return 1
}

func same(a, b []object) bool {
	return slices.EqualFunc(a, b, func(a, b object) bool {
		return a.name == b.name && a.size == b.size && (a.bad == nil) == (b.bad == nil)
	})
}
