package recovery

import (
	"slices"

	"walkeep/common/wal"
)

// Follow tells up to where there is WAL for a server that replays what is archived and has come to a timeline: along the
// newest timeline that comes from there, or along this one alone. The end is that of the last complete segment, wherever
// there are holes before it. False: there is nothing of the timeline.
func (inv *Inventory) Follow(tli wal.Timeline, newest bool) (along wal.Timeline, end wal.LSN, ok bool) {
	for _, l := range slices.Backward(inv.Lines) {
		w, err := inv.way(l.Timeline)
		if err != nil || l.Timeline != tli && !newest || !slices.ContainsFunc(w.steps, func(s step) bool { return s.tli == tli }) {
			continue
		}
		end := w.begin()
		if n := len(l.Segments); n > 0 {
			end = max(end, wal.LSN((l.Segments[n-1].Last+1)*w.size))
		}
		return l.Timeline, end, true
	}
	return 0, 0, false
}
