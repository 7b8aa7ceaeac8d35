package recovery

import (
	"slices"

	"walkeep/common/wal"
)

// Follow returns how far a server on timeline tli can replay from the archive: along the newest timeline that descends
// from tli if newest is set, else along tli. Holes before the end are ignored. ok is false if the archive holds nothing
// of the timeline.
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
