package restore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"walkeep/common/pgdata"
	"walkeep/common/wal"
)

// Before is what the server of a data directory had come to before it was restored over.
type Before struct {
	Timeline wal.Timeline `json:"timeline"`
	// LSN is the last position of its WAL that is known: that of its control file, or the end of the last record that was
	// kept.
	LSN     wal.LSN        `json:"lsn"`
	State   pgdata.DBState `json:"state"`
	History string         `json:"history,omitempty"` // content of the timeline's history file
}

// A Fork is where the timeline that a server was on and the one that it is restored to part.
type Fork struct {
	Timeline wal.Timeline // the last that they have in common
	LSN      wal.LSN      // all before it is the same
}

// Diverged tells whether the server had WAL of its own behind the fork.
func (r *Result) Diverged() bool {
	return r.Before != nil && r.Fork != nil && r.Before.LSN > r.Fork.LSN
}

// lookBack finds out what the directory's server had come to. left is the note of an interrupted restore, which has taken
// the control file away.
func (r *restorer) lookBack(left *note) {
	if left != nil {
		r.done.Before, r.keptBefore = left.Before, left.KeptBefore
	} else {
		if r.keptBefore = r.keptNow(); len(r.keptBefore) > maxKeptBefore {
			r.keptBefore = nil
		}
		c, err := pgdata.ReadControl(r.Dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			r.done.BeforeErr = err
		}
		if err == nil {
			b := &Before{State: c.State}
			b.LSN, b.Timeline = c.End()
			file := wal.Name{Kind: wal.KindHistory, Timeline: b.Timeline}.String()
			if history, err := os.ReadFile(filepath.Join(r.Dir, "pg_wal", file)); err == nil && len(history) < maxHistory {
				b.History = string(history)
			}
			r.done.Before = b
		}
	}
	if r.done.Before != nil {
		r.done.Fork = r.fork(*r.done.Before)
	}
}

// maxHistory bounds what of a history goes into the note of a restore, in bytes; beyond that nobody was promoted that often.
const maxHistory = 256 << 10

// maxKeptBefore bounds the names of files that go there as well. Where more were kept, they are reported once again.
const maxKeptBefore = 10_000

// fork finds where the server's timeline and the one that is gone to part; nil if that is not known, or if one is the
// other.
func (r *restorer) fork(b Before) *Fork {
	line := r.inv.Line(r.Plan.Timeline)
	if line == nil || line.HistoryErr != nil {
		return nil
	}
	own := wal.History{Timeline: b.Timeline}
	if b.Timeline > 1 {
		var err error
		if own, err = wal.ParseHistory(b.Timeline, []byte(b.History)); err != nil {
			there := r.inv.Line(b.Timeline)
			if there == nil || there.HistoryErr != nil {
				return nil
			}
			own = there.History
		}
	}
	ours, theirs := steps(own), steps(line.History)
	var f *Fork
	for i := 0; i < min(len(ours), len(theirs)) && ours[i].Timeline == theirs[i].Timeline; i++ {
		f = &Fork{ours[i].Timeline, min(ours[i].End, theirs[i].End)}
		if ours[i].End != theirs[i].End {
			break
		}
	}
	if f == nil || f.LSN == open {
		return nil
	}
	return f
}

// open is where the last timeline of a history ends.
const open = ^wal.LSN(0)

func steps(h wal.History) []wal.HistoryEntry {
	return append(append([]wal.HistoryEntry(nil), h.Entries...), wal.HistoryEntry{Timeline: h.Timeline, End: open})
}

// shared tells whether a segment lies before the fork, so that it is the same for both.
func (r *restorer) shared(n wal.Name) bool {
	end, err := n.Next(r.inv.SegmentSize).Start(r.inv.SegmentSize)
	if err != nil || n.Kind != wal.KindSegment || r.done.Fork == nil || end > r.done.Fork.LSN {
		return false
	}
	line := r.inv.Line(r.Plan.Timeline) // fork has read its history
	for _, e := range line.History.Entries {
		if e.Timeline == n.Timeline {
			return end <= e.End
		}
	}
	return false
}

// keptNow lists what is in the directory of WAL that was kept.
func (r *restorer) keptNow() []string {
	entries, err := os.ReadDir(filepath.Join(r.Dir, "pg_wal", keptName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil // it will fail where it matters
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
