package retain

import (
	"cmp"
	"slices"

	"walkeep/common/notes"
	"walkeep/common/recovery"
	"walkeep/common/wal"
)

// segments are numbers of segments, by timeline, in spans that ascend and do not touch.
type segments map[wal.Timeline][]recovery.Span

func (s segments) add(tli wal.Timeline, first, last uint64) {
	spans := s[tli]
	n := len(spans)
	switch {
	case n == 0 || first > spans[n-1].Last+1:
		s[tli] = append(spans, recovery.Span{First: first, Last: last})
	case first >= spans[n-1].First:
		spans[n-1].Last = max(spans[n-1].Last, last)
	default:
		spans = append(spans, recovery.Span{First: first, Last: last})
		slices.SortFunc(spans, func(a, b recovery.Span) int { return cmp.Compare(a.First, b.First) })
		s[tli] = nil
		for _, one := range spans {
			s.add(tli, one.First, one.Last)
		}
	}
}

func (s segments) has(tli wal.Timeline, number uint64) bool {
	at, found := slices.BinarySearchFunc(s[tli], number, func(one recovery.Span, n uint64) int { return cmp.Compare(one.First, n) })
	return found || at > 0 && number <= s[tli][at-1].Last
}

// and returns what both have.
func (s segments) and(other segments) segments {
	both := make(segments)
	for tli, spans := range s {
		theirs := other[tli]
		for len(spans) > 0 && len(theirs) > 0 {
			if first, last := max(spans[0].First, theirs[0].First), min(spans[0].Last, theirs[0].Last); first <= last {
				both.add(tli, first, last)
			}
			if spans[0].Last < theirs[0].Last {
				spans = spans[1:]
			} else {
				theirs = theirs[1:]
			}
		}
	}
	return both
}

// without returns what other does not have.
func (s segments) without(other segments) segments {
	left := make(segments)
	for tli, spans := range s {
		for _, one := range spans {
			at := one.First
			for _, o := range other[tli] {
				if o.Last < at || o.First > one.Last {
					continue
				}
				if o.First > at {
					left.add(tli, at, o.First-1)
				}
				at = o.Last + 1
			}
			if at <= one.Last {
				left.add(tli, at, one.Last)
			}
		}
	}
	return left
}

// ranges returns them as a note has them.
func (s segments) ranges(size wal.SegmentSize) []notes.Range {
	var all []notes.Range
	for tli, spans := range s {
		for _, one := range spans {
			all = append(all, notes.Range{First: segmentName(tli, one.First, size), Last: segmentName(tli, one.Last, size)})
		}
	}
	slices.SortFunc(all, func(a, b notes.Range) int { return cmp.Compare(a.First, b.First) })
	return all
}

// take adds the ranges of a note. Those that cannot be of segments of this size are left out: nothing is marked by them.
func (s segments) take(ranges []notes.Range, size wal.SegmentSize) {
	for _, r := range ranges {
		first, last, err := r.Names()
		if err != nil {
			continue
		}
		from, err := first.Number(size)
		if err != nil {
			continue
		}
		if to, err := last.Number(size); err == nil {
			s.add(first.Timeline, from, to)
		}
	}
}
