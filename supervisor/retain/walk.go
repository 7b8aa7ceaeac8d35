package retain

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/notes"
	"walkeep/common/recovery"
	"walkeep/common/storage"
	"walkeep/common/wal"
)

// A walk goes through the WAL of an archive, oldest first, and then through its streamed parts and its notes.
type walk struct {
	*cleaner
	inv       *recovery.Inventory
	now, plan *Decision // what is needed now, and once the marked backups are gone
	rules     *Decision // what the rules keep, without leases; nil where that does not matter or is not known
	left      segments  // those of which something is left below wal/
	unruled   segments  // those of them that the rules do not keep
	stuck     map[wal.Timeline]bool
}

// byRules decides what the rules keep, for the marks that there are. It returns which backups leave their marks.
func (w *walk) byRules(began *recovery.Inventory) (keep func(id string) bool) {
	keep = func(id string) bool { return w.cleared[id] }
	if len(w.marks.all) == 0 {
		return keep
	}
	d := w.cleaner.rules(began, nil, w.Policy)
	if d.KeepAllBackups != "" {
		return keep
	}
	marked := make(map[string]bool)
	for _, b := range d.Remove {
		marked[b.ID] = true
	}
	gone := maps.Clone(marked)
	for _, dir := range d.Unfinished {
		marked[path.Base(dir)] = true
	}
	if rules := w.cleaner.rules(w.inv, gone, Policy{}); rules.KeepAllWAL == "" && w.plan.KeepAllWAL == "" {
		w.rules = rules
	}
	return func(id string) bool { return w.cleared[id] || !marked[id] && !w.gone[id] }
}

// removeWAL removes or marks WAL. Behind an object that the store does not give up it leaves the timeline as it is, so that no
// holes come into what is left.
func (w *walk) removeWAL(ctx context.Context) error {
	size := w.inv.SegmentSize
	marked, due := w.segments(size, walOf)
	var batch []archive.Object // of one timeline
	for o, err := range w.a.Objects(ctx) {
		if err != nil {
			return err
		}
		tli := o.WAL.Timeline
		number, err := o.WAL.Number(size)
		if err != nil {
			continue
		}
		if len(batch) == batchSize || len(batch) > 0 && batch[0].WAL.Timeline != tli {
			if err := w.removeBatch(ctx, batch); err != nil {
				return err
			}
			batch = batch[:0]
		}
		if !w.plan.Needs(o.WAL, size) {
			if w.Grace > 0 && !due.has(tli, number) {
				w.marks.wal.add(tli, number, number)
				if !marked.has(tli, number) {
					w.mark(&w.report.line(tli).Marked, o.Entry)
				}
			} else if !w.now.Needs(o.WAL, size) {
				batch = append(batch, o)
				continue
			}
		}
		w.leave(o)
	}
	return w.removeBatch(ctx, batch)
}

// leave records that an object below wal/ is left.
func (w *walk) leave(o archive.Object) {
	number, err := o.WAL.Number(w.inv.SegmentSize)
	if err != nil {
		return
	}
	w.left.add(o.WAL.Timeline, number, number)
	if w.rules != nil && !w.rules.Needs(o.WAL, w.inv.SegmentSize) {
		w.unruled.add(o.WAL.Timeline, number, number)
	}
}

// batchSize is how many objects are removed with one call, which a store may do with one request.
const batchSize = 500

// locked reports whether the store may hold an object locked. A store that removes many objects with one request removes those
// behind a locked one as well. Locks end in the order in which the objects were stored.
func (c *cleaner) locked(ctx context.Context, name string) bool {
	b, ok := storage.As[storage.Locker](c.a.Backend())
	if !ok {
		return false
	}
	until, err := b.LockedUntil(ctx, name)
	return err != nil || until.After(time.Now())
}

// removeBatch removes objects of one timeline, in their order, unless the store has kept an earlier one of that timeline.
func (w *walk) removeBatch(ctx context.Context, batch []archive.Object) error {
	if len(batch) == 0 {
		return nil
	}
	tli := batch[0].WAL.Timeline
	names := make([]string, len(batch))
	for i, o := range batch {
		names[i] = o.Name
	}
	together := w.DryRun
	if !w.DryRun && !w.stuck[tli] && !w.locked(ctx, names[len(names)-1]) {
		err := w.a.Backend().Remove(ctx, names...)
		together = err == nil || errors.Is(err, storage.ErrNotExist)
	}
	for _, o := range batch {
		switch {
		case w.stuck[tli]:
			w.leave(o)
			continue
		case !together: // one after the other, to find which of them stays
			err := w.a.Backend().Remove(ctx, o.Name)
			if errors.Is(err, storage.ErrDenied) {
				w.refuse(ctx, o.Name, err)
				w.stuck[tli] = true
				w.leave(o)
				continue
			}
			if err != nil && !errors.Is(err, storage.ErrNotExist) { // the first call may have removed it
				return fmt.Errorf("remove %s: %w", o.Name, err)
			}
		}
		w.count(&w.report.line(tli).Removed, o.Entry)
	}
	return ctx.Err()
}

// outlived reports whether a note is about a segment of which nothing is left, or about a backup that is gone.
func (w *walk) outlived(note string) bool {
	of := strings.TrimSuffix(path.Base(note), ".json")
	if backup.CheckID(of) == nil {
		gone := w.inv.Backup(of) == nil && w.now.KeepAllBackups == "" && !slices.ContainsFunc(w.inv.Faults, func(f notes.Fault) bool { return strings.HasPrefix(f.Object, backup.Dir(of)) })
		return gone && notes.VerifiedName(of) == note
	}
	n, err := wal.ParseName(of)
	if err != nil || notes.DamageName(n) != note && notes.VerifiedName(n.String()) != note || w.now.Needs(n, w.inv.SegmentSize) {
		return false
	}
	number, err := n.Number(w.inv.SegmentSize)
	return err == nil && !w.left.has(n.Timeline, number)
}

// cleanNotes removes the notes of segments and backups that are gone, and notes that were released.
func (w *walk) cleanNotes(ctx context.Context) error {
	for _, dir := range []string{notes.DamagedDir, notes.VerifiedDir} {
		kept, err := w.a.List(ctx, dir)
		if err != nil {
			return err
		}
		kept = slices.DeleteFunc(kept, func(e storage.Entry) bool { return !w.outlived(e.Name) })
		if err := w.removeNotes(ctx, kept); err != nil {
			return err
		}
	}
	released, err := w.a.Notes().Released(ctx)
	if err != nil {
		return err
	}
	return w.removeNotes(ctx, released)
}

// removeNotes removes notes, until the store refuses one.
func (c *cleaner) removeNotes(ctx context.Context, all []storage.Entry) error {
	for _, e := range all {
		if err := c.remove(ctx, &c.report.Notes, e); err != nil {
			return refused(err)
		}
	}
	return nil
}

// removeStreamed removes or marks streamed files of segments that nobody needs, and in a repository the pieces of segments that are
// stored. It returns what is left and is not kept by the rules.
func (w *walk) removeStreamed(ctx context.Context) (unruled segments, err error) {
	size := w.inv.SegmentSize
	unruled = make(segments)
	marked, due := w.segments(size, streamOf)
	for _, e := range w.inv.Streamed {
		// The streamed file of a needed segment stays, even if the archive has the segment: the stream compares the two.
		// Pieces are compared before the segment is stored.
		n, ok := streamedSegment(e)
		if !ok {
			continue
		}
		number, err := n.Number(size)
		stored := e.IsDir() && w.inv.Has(n)
		if err != nil || !stored && w.plan.Needs(n, size) {
			continue
		}
		of := []storage.Entry{e}
		if e.IsDir() {
			if of, err = w.a.List(ctx, e.Name); err != nil {
				return nil, err
			}
			slices.Reverse(of) // what an interrupted cleanup leaves is a chain from 0 on
		}
		remove := (w.Grace <= 0 || due.has(n.Timeline, number)) && (stored || !w.now.Needs(n, size))
		for _, one := range of {
			if w.Grace > 0 && !due.has(n.Timeline, number) {
				w.marks.stream.add(n.Timeline, number, number)
				if !marked.has(n.Timeline, number) {
					w.mark(&w.report.MarkedStreamed, one)
				}
			} else if !remove {
				break // it is needed until a marked backup is gone
			} else if err := w.remove(ctx, &w.report.Streamed, one); errors.Is(err, errRefused) {
				remove = false
			} else if err != nil {
				return nil, err
			}
		}
		if !remove && (stored || w.rules != nil && !w.rules.Needs(n, size)) {
			unruled.add(n.Timeline, number, number)
		}
	}
	return unruled, nil
}

// streamedSegment returns the segment of a file or directory in partial/. The name of a file that was put aside begins with its
// segment's name.
func streamedSegment(e storage.Entry) (wal.Name, bool) {
	base, _, _ := strings.Cut(path.Base(e.Name), ".")
	n, err := wal.ParseName(base)
	return n, err == nil && n.Kind == wal.KindSegment
}
