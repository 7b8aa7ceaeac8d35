package retain

import (
	"cmp"
	"fmt"
	"slices"

	"walkeep/common/recovery"
	"walkeep/common/wal"
)

// A hold is a needed range of a timeline's segments, by their numbers.
type hold struct {
	first, last uint64
	by          holder
}

// end is the last number of a range without an end.
const end = ^uint64(0)

// A holder is the backup, lease or standby that needs WAL, or another reason to keep it.
type holder struct {
	kind string // backup, lease, standby, history or newest
	id   string
	text string
}

// A need is a position of a timeline: all WAL from there on is needed, along all timelines that come from there.
type need struct {
	tli wal.Timeline
	lsn wal.LSN
	by  holder
}

// hold records which WAL is needed, and why.
func (d *Decision) hold(inv *recovery.Inventory, j *judge) {
	d.holds = make(map[wal.Timeline][]hold)
	d.known = make(map[wal.Timeline]uint64)
	for _, l := range inv.Lines {
		if last, ok := knownUpTo(l, inv.SegmentSize); ok {
			d.known[l.Timeline] = last
		}
	}
	if len(j.sound) == 0 && d.KeepAllWAL == "" {
		d.KeepAllWAL = "no backup can be restored"
	}
	var needs []need
	for _, b := range d.Keep {
		needs = append(needs, need{b.Timeline, b.Start, holder{"backup", b.ID, "backup " + b.ID}})
	}
	for _, l := range inv.Leases {
		if l.Timeline == 0 && d.KeepAllWAL == "" {
			d.KeepAllWAL = fmt.Sprintf("lease %s of a %s on %s needs all WAL", l.ID, l.Kind, l.Host)
		} else if l.Timeline != 0 {
			needs = append(needs, need{l.Timeline, l.LSN, holder{"lease", l.ID, fmt.Sprintf("lease %s of a %s on %s", l.ID, l.Kind, l.Host)}})
		}
	}
	for _, s := range inv.Standbys {
		n, err := wal.ParseName(s.Restartpoint)
		var at wal.LSN
		if err == nil {
			at, err = n.Start(inv.SegmentSize)
		}
		if err != nil {
			if d.KeepAllWAL == "" {
				d.KeepAllWAL = fmt.Sprintf("the position of standby %s cannot be determined: %v", s.ID, err)
			}
			continue
		}
		needs = append(needs, need{n.Timeline, at, holder{"standby", s.ID, fmt.Sprintf("standby %s (%s on %s)", s.ID, s.Data, s.Host)}})
	}
	for _, n := range needs {
		d.holdFrom(inv, n)
	}
	d.holdUnread(inv)
	if len(j.way) == 0 {
		d.holdNewest(inv)
	}
	for _, holds := range d.holds {
		sortHolds(holds)
	}
}

func sortHolds(h []hold) {
	slices.SortStableFunc(h, func(a, b hold) int { return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(b.last, a.last)) })
}

func (d *Decision) add(tli wal.Timeline, first, last uint64, by holder) {
	if first <= last {
		d.holds[tli] = append(d.holds[tli], hold{first, last, by})
	}
}

// holdFrom adds the segments of one need.
func (d *Decision) holdFrom(inv *recovery.Inventory, n need) {
	size := uint64(inv.SegmentSize)
	first := uint64(n.lsn) / size
	d.add(n.tli, first, end, n.by)
	if l := inv.Line(n.tli); l != nil {
		d.holdWay(l.History, 0, first, size, n.by) // of a segment before the timeline began
	}
	for i := range inv.Lines {
		l := &inv.Lines[i]
		from := slices.IndexFunc(l.History.Entries, func(e wal.HistoryEntry) bool { return e.Timeline == n.tli && e.End >= n.lsn })
		if from < 0 {
			continue
		}
		d.holdWay(l.History, from+1, first, size, n.by)
		d.add(l.Timeline, uint64(l.History.Begin())/size, end, n.by)
	}
}

// holdWay adds the segments that replay reads under the names of a history's timelines, from an index on, and no
// earlier than the first number.
func (d *Decision) holdWay(h wal.History, from int, first, size uint64, by holder) {
	for i := from; i < len(h.Entries); i++ {
		var begin uint64
		if i > 0 {
			begin = uint64(h.Entries[i-1].End) / size
		}
		if left := uint64(h.Entries[i].End) / size; left > 0 {
			d.add(h.Entries[i].Timeline, max(begin, first), left-1, by)
		}
	}
}

// holdUnread adds the WAL of timelines whose history cannot be read.
func (d *Decision) holdUnread(inv *recovery.Inventory) {
	for _, l := range inv.Lines {
		if l.HistoryErr != nil {
			d.add(l.Timeline, 0, end, holder{kind: "history", text: fmt.Sprintf("%s.history, which cannot be read", l.Timeline)})
		}
	}
}

// holdNewest adds the newest timeline and those that lead to it, for an archive in which no backup leads there.
func (d *Decision) holdNewest(inv *recovery.Inventory) {
	l := inv.Line(inv.Followed())
	if l == nil {
		return
	}
	by := holder{kind: "newest", text: fmt.Sprintf("timeline %d, to which no backup leads", l.Timeline)}
	for _, e := range l.History.Entries {
		d.add(e.Timeline, 0, end, by)
	}
	d.add(l.Timeline, 0, end, by)
}

// Needs reports whether a WAL file is needed, or did not exist when this was decided.
func (d *Decision) Needs(n wal.Name, size wal.SegmentSize) bool {
	if d.KeepAllWAL != "" || n.Kind == wal.KindHistory {
		return true
	}
	number, err := n.Number(size)
	known, ok := d.known[n.Timeline]
	return err != nil || !ok || number > known || heldBy(d.holds[n.Timeline], number) != nil
}

// knownUpTo returns the greatest number of a timeline's segments and partial segments; false if there is none.
func knownUpTo(l recovery.Line, size wal.SegmentSize) (uint64, bool) {
	var last uint64
	for _, n := range l.Partials {
		number, _ := n.Number(size)
		last = max(last, number)
	}
	if n := len(l.Segments); n > 0 {
		last = max(last, l.Segments[n-1].Last)
	}
	return last, len(l.Partials) > 0 || len(l.Segments) > 0
}

// heldBy returns a range with a segment; nil if there is none.
func heldBy(holds []hold, number uint64) *hold {
	for i := range holds {
		if holds[i].first <= number && number <= holds[i].last {
			return &holds[i]
		}
	}
	return nil
}

// count returns the number of needed segments in spans.
func count(spans []recovery.Span, holds []hold) uint64 {
	var n uint64
	for _, s := range spans {
		at := s.First
		for _, h := range holds { // in the order of their beginnings
			from, to := max(at, h.first), min(s.Last, h.last)
			if from <= to {
				n += to - from + 1
				at = to + 1
			}
		}
	}
	return n
}
