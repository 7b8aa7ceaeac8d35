package recovery

import (
	"errors"
	"fmt"

	"walkeep/common/backup"
	"walkeep/common/wal"
)

// A Reach is how far one backup can be recovered along the way to one timeline.
type Reach struct {
	Backup   *backup.Manifest
	Timeline wal.Timeline // to which recovery goes
	// From is where the restored cluster becomes consistent, To the end of the last segment that can be replayed. Where
	// records end in that segment, its trailer knows.
	From, To wal.LSN
	Last     wal.Name // the segment that ends at To
	// Gap is what is missing, or broken, at To although WAL went on behind it; nil if To is the end of the timeline's WAL.
	Gap *Gap
}

// A Gap is a hole in the WAL, or a segment that is damaged or whose records were broken before it was archived, at which
// replay ends just so.
type Gap struct {
	First, Last wal.Name // the segments that are missing
	Begin, End  wal.LSN  // the same as positions
	Damage      *Damaged // nil for a hole
	Why         string   // what shows that they were there; empty for later segments of the way
}

func (g *Gap) String() string {
	switch {
	case g.Damage != nil && g.Damage.Stored:
		return fmt.Sprintf("%s is damaged in the archive", g.First)
	case g.Damage != nil:
		return fmt.Sprintf("%s was archived with broken WAL records at %s", g.First, g.Begin)
	}
	text := fmt.Sprintf("%s is missing", g.First)
	if g.First != g.Last {
		text = fmt.Sprintf("%s to %s are missing", g.First, g.Last)
	}
	if g.Why != "" {
		text += ": " + g.Why
	}
	return text
}

// Errors of Reach, to be found with errors.Is.
var (
	// ErrNotOnLine says that a timeline does not descend from the backup: it was left before the backup ended, or it is
	// on another branch.
	ErrNotOnLine = errors.New("is not on the way to that timeline")
	// ErrIncomplete says that WAL is missing that the backup needs to become consistent.
	ErrIncomplete = errors.New("cannot be restored: WAL that it needs is missing")
)

// Reach returns how far a backup can be recovered along the way to the given timeline. It is the one judgement of what
// can be recovered, and goes by the archive's listing, in which objects are taken for what their names say, and by what
// verify and drill have found.
func (inv *Inventory) Reach(b *backup.Manifest, tli wal.Timeline) (Reach, error) {
	r := Reach{Backup: b, Timeline: tli, From: b.Stop}
	if err := inv.Unsound(b.ID); err != nil {
		return r, err
	}
	if tli == b.Timeline && inv.Line(tli) == nil {
		return r, fmt.Errorf("backup %s %w: there is nothing of timeline %d in the archive", b.ID, ErrIncomplete, tli)
	}
	way, err := inv.way(tli)
	if err != nil {
		return r, err
	}
	if !way.holds(b) {
		return r, fmt.Errorf("backup %s, of timeline %d up to %s, %w (%d)", b.ID, b.Timeline, b.Stop, ErrNotOnLine, tli)
	}
	first := uint64(b.Start) / uint64(inv.SegmentSize)
	end := way.contiguous(first)
	r.To = wal.LSN(end * uint64(inv.SegmentSize))
	r.Gap = way.gap(end)
	if broken := inv.brokenOn(way, first, end); broken != nil {
		r.To, r.Gap, end = broken.Begin, broken, (uint64(broken.Begin)+uint64(inv.SegmentSize)-1)/uint64(inv.SegmentSize)
	}
	if r.To < b.Stop {
		missing := r.Gap
		if missing == nil {
			missing = way.gapOf(end, uint64(b.Stop-1)/uint64(inv.SegmentSize))
		}
		return r, fmt.Errorf("backup %s %w: %s", b.ID, ErrIncomplete, missing)
	}
	r.Last = way.name(end - 1)
	return r, nil
}

// brokenOn finds the first segment with broken records on a way, from one number to before another.
func (inv *Inventory) brokenOn(w way, first, end uint64) *Gap {
	var found *Gap
	for i := range inv.Damages {
		d := &inv.Damages[i]
		number, err := d.Segment.Number(inv.SegmentSize) // the record at LSN may have begun in the segment before
		if err == nil && first <= number && number < end && w.name(number) == d.Segment && (found == nil || d.LSN < found.Begin) {
			found = &Gap{First: d.Segment, Last: d.Segment, Begin: d.LSN, End: d.LSN, Damage: d}
		}
	}
	return found
}

// A way is how recovery gets to a timeline: along the timelines that lead to it, oldest first, and itself.
type way struct {
	steps []step
	size  uint64 // of segments, bytes
}

type step struct {
	line       *Line // nil if the archive has nothing of the timeline
	tli        wal.Timeline
	begin, end wal.LSN // where recovery comes to this timeline and leaves it; the end of the last one is open
	// first and last are the numbers of the segments that are replayed under this timeline's name. The one in which a
	// timeline was left is the next one's, so there may be none.
	first, last uint64
}

// way finds the way to a timeline.
func (inv *Inventory) way(tli wal.Timeline) (way, error) {
	w := way{size: uint64(inv.SegmentSize)}
	l := inv.Line(tli)
	if l == nil {
		return w, fmt.Errorf("there is nothing of timeline %d in the archive", tli)
	}
	if l.HistoryErr != nil {
		return w, fmt.Errorf("where timeline %d comes from is not known: %w", tli, l.HistoryErr)
	}
	var begin wal.LSN
	for _, e := range l.History.Entries {
		s := step{line: inv.Line(e.Timeline), tli: e.Timeline, begin: begin, end: e.End, first: uint64(begin) / w.size}
		s.last = uint64(e.End)/w.size - 1 // wraps around for a timeline that was left in segment 0, which there is not
		w.steps = append(w.steps, s)
		begin = e.End
	}
	w.steps = append(w.steps, step{l, tli, begin, ^wal.LSN(0), uint64(begin) / w.size, ^uint64(0)})
	return w, nil
}

// holds reports whether a backup lies on the way.
func (w way) holds(b *backup.Manifest) bool {
	for _, s := range w.steps {
		if s.tli == b.Timeline {
			return s.begin <= b.Start && b.Stop <= s.end
		}
	}
	return false
}

// at is the step on which the segment with this number is replayed.
func (w way) at(number uint64) step {
	for i := len(w.steps) - 1; i > 0; i-- {
		if w.steps[i].first <= number {
			return w.steps[i]
		}
	}
	return w.steps[0]
}

func (w way) name(number uint64) wal.Name {
	return wal.SegmentAt(w.at(number).tli, wal.LSN(number*w.size), wal.SegmentSize(w.size))
}

// contiguous is the number after the last segment that is there without a hole, from first on.
func (w way) contiguous(first uint64) uint64 {
	for {
		s := w.at(first)
		if s.line == nil {
			return first
		}
		span, ok := s.line.span(first)
		if !ok {
			return first
		}
		first = min(span.Last, s.last) + 1
	}
}

// gap is the hole at the segment with this number, which is not there; nil if nothing shows that it ever was: no later
// segment on the way, no later timeline that comes from there, and no other evidence.
func (w way) gap(number uint64) *Gap {
	for _, s := range w.steps {
		if s.first > s.last || s.last < number {
			continue
		}
		from := max(s.first, number)
		if s.first > number {
			// Recovery comes to this timeline after the hole, so there was WAL up to here.
			return w.gapOf(number, s.first-1)
		}
		if s.line == nil {
			continue
		}
		for _, span := range s.line.Segments {
			if span.Last >= from && max(span.First, from) <= s.last {
				return w.gapOf(number, max(span.First, from)-1)
			}
		}
		for s.line.Waiting[from] {
			from++
		}
		if e := s.line.next(); from < e.Next && from <= s.last {
			g := w.gapOf(number, min(e.Next-1, s.last))
			g.Why = e.Why
			return g
		}
	}
	return nil
}

func (w way) gapOf(first, last uint64) *Gap {
	return &Gap{First: w.name(first), Last: w.name(last), Begin: wal.LSN(first * w.size), End: wal.LSN((last + 1) * w.size)}
}

// Contiguous is the number after the last segment that is there without a hole on the way to a timeline, from one number
// on, and what is missing there although later WAL is archived.
func (inv *Inventory) Contiguous(tli wal.Timeline, from uint64) (uint64, *Gap, error) {
	w, err := inv.way(tli)
	if err != nil {
		return from, nil, err
	}
	next := w.contiguous(from)
	return next, w.gap(next), nil
}

// NameOn is the name of the segment with a number on the way to a timeline.
func (inv *Inventory) NameOn(tli wal.Timeline, number uint64) (wal.Name, error) {
	w, err := inv.way(tli)
	return w.name(number), err
}
