package recovery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"

	"walkeep/common/archive"
	"walkeep/common/notes"
	"walkeep/common/storage"
	"walkeep/common/wal"
)

// ErrLeft says that a segment lies behind the position at which its timeline was left for the timeline that the server
// is on the way to.
var ErrLeft = errors.New("lies behind the point where its timeline was left")

// A Follower is a server that replays what the archive holds.
type Follower struct {
	// Along is the timeline along which it recovers; 0: the newest that comes from where it is.
	Along wal.Timeline
	// At is a position, of timeline On, to which it has come for certain; behind that it cannot go back.
	At wal.LSN
	On wal.Timeline
}

// OnWay reports whether a server should get a segment. The error is [ErrLeft] if the server is on the way to a timeline
// that left the segment's timeline before the segment's end.
//
// PostgreSQL asks for the segment under the newer timeline's name first. If that is not there yet, it asks for the
// older one's, and would then replay an abandoned branch: what a recovery has undone, or what a primary wrote after it
// was replaced.
func OnWay(ctx context.Context, of *archive.Archive, n wal.Name, f Follower) error {
	a := reader{of}
	if n.Kind != wal.KindSegment || f.Along == n.Timeline {
		return nil
	}
	id, err := a.Identity(ctx)
	if errors.Is(err, archive.ErrUnbound) {
		return nil // only foreign files are here
	}
	if err != nil {
		return err
	}
	number, err := n.Number(id.SegmentSize)
	if err != nil {
		return nil // no segment of this archive can have the name
	}
	inv, err := a.lineage(ctx, id)
	if err != nil {
		return err
	}
	goal, left, err := inv.goal(n.Timeline, number, f)
	if err != nil {
		return fmt.Errorf("%s: %w", n, err)
	}
	if goal != 0 && number >= uint64(left)/uint64(id.SegmentSize) {
		return fmt.Errorf("%s %w: timeline %d, to which the server is to get, comes from timeline %d at %s", n, ErrLeft, goal, n.Timeline, left)
	}
	return nil
}

// goal finds the timeline for which a server that asks for a segment of tli is to leave tli, and where; 0 if it is to stay.
func (inv *Inventory) goal(tli wal.Timeline, number uint64, f Follower) (wal.Timeline, wal.LSN, error) {
	leaves := func(l *Line) (wal.LSN, bool) {
		if l == nil {
			return 0, false
		}
		i := slices.IndexFunc(l.History.Entries, func(e wal.HistoryEntry) bool { return e.Timeline == tli })
		if i < 0 {
			return 0, false
		}
		return l.History.Entries[i].End, true
	}
	if f.Along != 0 {
		at, ok := leaves(inv.Line(f.Along))
		if !ok {
			return 0, 0, nil
		}
		return f.Along, at, nil
	}
	if p := inv.Production(); p.Said {
		if at, ok := leaves(inv.Line(p.Timeline)); ok {
			return p.Timeline, at, nil
		} else if p.Timeline == tli {
			return 0, 0, nil
		}
	}
	for i := range slices.Backward(inv.Lines) {
		l := &inv.Lines[i]
		if l.Timeline <= tli {
			break
		}
		if l.HistoryErr != nil {
			// It may have left tli anywhere before its own first segment ends.
			if len(l.Segments) > 0 && l.Segments[0].First > number {
				continue
			}
			return 0, 0, fmt.Errorf("whether it is on the way to timeline %d is not known: %w", l.Timeline, l.HistoryErr)
		}
		if at, ok := leaves(l); ok && !f.beyond(l.History) {
			return l.Timeline, at, nil
		}
	}
	return 0, 0, nil
}

// beyond reports whether a server can no longer reach a timeline, because it has passed the position at which that one
// leaves its own.
func (f Follower) beyond(h wal.History) bool {
	if f.On == h.Timeline || f.At == 0 {
		return false
	}
	i := slices.IndexFunc(h.Entries, func(e wal.HistoryEntry) bool { return e.Timeline == f.On })
	return i < 0 || f.At > h.Entries[i].End
}

// lineage reads an inventory of timelines, their histories, and what the production server said. It lists the segments
// only of a timeline whose history cannot be read, and only the first of them: by then the timeline had begun.
func (a reader) lineage(ctx context.Context, id archive.Identity) (*Inventory, error) {
	inv := &Inventory{Identity: id, a: a}
	err := a.takeServer(ctx, inv)
	if err == nil {
		err = inv.cannotRead(notes.ServerName)
	}
	if err != nil {
		return nil, err
	}
	entries, err := a.List(ctx, archive.WALDir)
	if err != nil {
		return nil, err
	}
	streamed, err := a.List(ctx, archive.PartialDir)
	if err != nil {
		return nil, err
	}
	for _, e := range slices.Concat(entries, streamed) {
		base := path.Base(e.Name)
		if tli, err := wal.ParseTimeline(base[:min(8, len(base))]); err == nil && inv.Line(tli) == nil {
			l := Line{Timeline: tli}
			if err := a.takeLineage(ctx, inv, &l); err != nil {
				return nil, err
			}
			if l.HistoryErr != nil {
				if l.Segments, err = a.firstOf(ctx, tli, id.SegmentSize, streamed); err != nil {
					return nil, err
				}
				if len(l.Segments) == 0 && errors.Is(l.HistoryErr, archive.ErrNotStored) {
					continue // an empty directory, say
				}
			}
			inv.Lines = append(inv.Lines, l)
			slices.SortFunc(inv.Lines, func(a, b Line) int { return cmp.Compare(a.Timeline, b.Timeline) })
		}
	}
	return inv, nil
}

// takeLineage reads a timeline's history: the archived one, or else the streamed one that is not archived yet.
func (a reader) takeLineage(ctx context.Context, inv *Inventory, l *Line) error {
	if err := a.takeHistory(ctx, inv, l); err != nil || !errors.Is(l.HistoryErr, archive.ErrNotStored) {
		return err
	}
	switch h, err := a.StreamedHistory(ctx, l.Timeline); {
	case err == nil:
		l.History, l.HistoryErr = h, nil
	case !errors.Is(err, storage.ErrNotExist) && !errors.Is(err, archive.ErrDamaged):
		return err
	}
	return nil
}

// firstOf finds the first segment of a timeline that is archived or streamed in whole or in part.
func (a reader) firstOf(ctx context.Context, tli wal.Timeline, size wal.SegmentSize, streamed []storage.Entry) ([]Span, error) {
	dirs, err := a.LogDirs(ctx, tli)
	if err != nil {
		return nil, err
	}
	files := streamed
	for _, d := range dirs {
		there, err := a.List(ctx, d.Name)
		if err != nil {
			return nil, err
		}
		files = append(there, files...)
		if len(files) > len(streamed) {
			break // listings are in the order of names
		}
	}
	var found []Span
	for _, f := range files {
		base := path.Base(f.Name)
		n, err := wal.ParseName(base[:min(24, len(base))])
		if err != nil || n.Timeline != tli {
			continue
		}
		if number, err := n.Number(size); err == nil && (len(found) == 0 || number < found[0].First) {
			found = []Span{{number, number}}
		}
	}
	return found, nil
}
