package recovery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
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
	Along wal.Timeline `json:"along,omitempty"`
	// At is a position, of timeline On, to which it has come for certain; behind that it cannot go back.
	At wal.LSN      `json:"at,omitempty"`
	On wal.Timeline `json:"on,omitempty"`
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
	way, err := a.way(ctx, id, n.Timeline, number, f, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", n, err)
	}
	return way.Check(n, number)
}

// A Way is how far a server should get the WAL of a timeline.
type Way struct {
	Below uint64       // segments with a lower number lie on the way
	Goal  wal.Timeline // to which the server is to get; 0 if nothing is known that it should leave the timeline for
	Left  wal.LSN      // where the goal left the timeline
}

// ReadWay determines how far a server that has come to the segment n should get the WAL of its timeline. A later call can give a
// shorter way, when another timeline has come. n must be a segment's name. own are histories that the archive need not have.
func ReadWay(ctx context.Context, of *archive.Archive, n wal.Name, f Follower, own ...wal.History) (Way, error) {
	a := reader{of}
	id, err := a.Identity(ctx)
	if err != nil {
		return Way{}, err
	}
	number, err := n.Number(id.SegmentSize)
	if err != nil {
		return Way{}, err
	}
	way, err := a.way(ctx, id, n.Timeline, number, f, own)
	if err != nil {
		return way, fmt.Errorf("%s: %w", n, err)
	}
	return way, nil
}

// Check returns [ErrLeft] if the segment n, with this number, does not lie on the way.
func (w Way) Check(n wal.Name, number uint64) error {
	if number < w.Below {
		return nil
	}
	return fmt.Errorf("%s %w: timeline %d, to which the server is to get, comes from timeline %d at %s", n, ErrLeft, w.Goal, n.Timeline, w.Left)
}

// way determines the way of a server on a timeline, at the segment with this number.
func (a reader) way(ctx context.Context, id archive.Identity, tli wal.Timeline, number uint64, f Follower, own []wal.History) (Way, error) {
	way := Way{Below: math.MaxUint64}
	if f.Along == tli {
		return way, nil
	}
	inv, err := a.lineage(ctx, id)
	if err != nil {
		return way, err
	}
	for _, h := range own {
		if l := inv.Line(h.Timeline); l == nil || errors.Is(l.HistoryErr, archive.ErrNotStored) {
			inv.Lines = slices.DeleteFunc(inv.Lines, func(l Line) bool { return l.Timeline == h.Timeline })
			inv.Lines = append(inv.Lines, Line{Timeline: h.Timeline, History: h})
		}
	}
	slices.SortFunc(inv.Lines, func(a, b Line) int { return cmp.Compare(a.Timeline, b.Timeline) })
	if way.Goal, way.Left, err = inv.goal(tli, number, f); err != nil {
		return way, err
	}
	if way.Goal != 0 {
		way.Below = uint64(way.Left) / uint64(id.SegmentSize)
	}
	for _, l := range inv.Lines { // one whose history cannot be read may have left it before its own first segment
		if l.Timeline > tli && l.HistoryErr != nil && len(l.Segments) > 0 && f.Along == 0 {
			way.Below = min(way.Below, max(l.Segments[0].First, number+1))
		}
	}
	return way, nil
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
