package recovery

import (
	"context"
	"errors"
	"slices"
	"walkeep/common/archive"
	"walkeep/common/codec"
	"walkeep/common/notes"
	"walkeep/common/wal"
)

// A Damaged is a segment that was archived although its records are broken, or one that verify --deep has found damaged.
type Damaged struct {
	Segment wal.Name
	LSN     wal.LSN // where replay ends
	Reason  string
	Found   bool // by verify --deep, not when it was archived
	Left    bool // LSN is where the server left the timeline for another: nothing comes behind it
	Stored  bool // the stored object is damaged, and LSN is where the segment begins
}

// takeDamages reads the trailers of the segments to which notes of damage lead.
func (a reader) takeDamages(ctx context.Context, inv *Inventory) error {
	noted, faults, err := a.Notes().Damages(ctx)
	if err != nil {
		return err
	}
	inv.Faults = append(inv.Faults, faults...)
	for _, note := range noted {
		t, err := a.Trailer(ctx, note.Segment)
		switch {
		case errors.Is(err, archive.ErrNotStored) || err == nil && t.WALCheck != codec.Damaged:
			// It was not stored, or removed, or another one was stored.
		case err != nil:
			inv.fault(notes.DamageName(note.Segment), err)
		default:
			d := Damaged{Segment: note.Segment, LSN: wal.LSN(t.DamageLSN), Reason: note.Reason}
			d.Left = inv.leftAt(note.Segment, d.LSN)
			inv.Damages = append(inv.Damages, d)
		}
	}
	return nil
}

// leftAt reports whether a timeline was left for another at a position, in its last segment. A server that did not archive when
// it was promoted archives that segment later, as if it were complete.
func (inv *Inventory) leftAt(n wal.Name, at wal.LSN) bool {
	own := inv.Line(n.Timeline)
	number, err := n.Number(inv.SegmentSize)
	if err != nil || own == nil || len(own.Segments) == 0 || own.Segments[len(own.Segments)-1].Last != number {
		return false
	}
	return slices.ContainsFunc(inv.Lines, func(l Line) bool {
		return slices.ContainsFunc(l.History.Entries, func(e wal.HistoryEntry) bool { return e.Timeline == n.Timeline && e.End == at })
	})
}
