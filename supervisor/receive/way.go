package receive

import (
	"context"
	"slices"

	"walkeep/common/wal"
)

// A way is the path of recovery to the server's timeline: which segments lie on it, and under which timeline's name.
type way struct {
	lineage wal.History
	size    uint64 // of segments, bytes
}

// on returns the timeline under whose name the segment with this number lies on the way. A segment in which a timeline
// is left has the next timeline's name.
func (w way) on(number uint64) wal.Timeline {
	for _, e := range w.lineage.Entries {
		if number < uint64(e.End)/w.size {
			return e.Timeline
		}
	}
	return w.lineage.Timeline
}

func (w way) name(number uint64) wal.Name {
	return wal.SegmentAt(w.on(number), wal.LSN(number*w.size), wal.SegmentSize(w.size))
}

// next returns the number of the segment with which the stream continues, by what partial/ has on the way: the one after the
// last complete segment, or an incomplete one. If the archive has that segment, or partial/ has none, it is the one after the
// last in the archive; 0 if the archive has none either.
func (r *receiver) next(ctx context.Context, w way) (uint64, error) {
	entries, err := r.Spool.ListPartial()
	if err != nil {
		return 0, err
	}
	var next uint64
	for _, e := range entries {
		n, err := wal.ParseName(e.Name())
		if err != nil || n.Kind != wal.KindPartial && n.Kind != wal.KindSegment {
			continue
		}
		number, err := n.Number(r.size)
		if err != nil || w.on(number) != n.Timeline {
			continue
		}
		if n.Kind == wal.KindSegment {
			number++
		}
		next = max(next, number)
	}
	if next != 0 {
		// The archive may have later segments, but it is not known that another archiver stores all from here on. An archive
		// that cannot be read must not end the stream.
		if there, err := r.a.HasName(ctx, w.name(next)); err != nil || !there {
			return next, nil
		}
	}
	limit := ^uint64(0)
	for _, tli := range append([]wal.Timeline{w.lineage.Timeline}, ancestors(w.lineage)...) {
		if tli != w.lineage.Timeline {
			limit = w.endOf(tli)
		}
		last, ok, err := r.a.LastSegment(ctx, tli, r.size, limit)
		if err != nil {
			return 0, err
		}
		if number, err := last.Number(r.size); ok && err == nil && w.on(number) == tli {
			return max(next, number+1), nil
		}
	}
	return next, nil
}

// ancestors returns the timelines on the way to the history's own, newest first.
func ancestors(h wal.History) []wal.Timeline {
	var all []wal.Timeline
	for _, e := range slices.Backward(h.Entries) {
		all = append(all, e.Timeline)
	}
	return all
}

// endOf returns the number of the first segment on the way that lies behind a timeline.
func (w way) endOf(tli wal.Timeline) uint64 {
	for _, e := range w.lineage.Entries {
		if e.Timeline == tli {
			return uint64(e.End) / w.size
		}
	}
	return ^uint64(0)
}
