package restore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"walkeep/common/pgdata"
	"walkeep/common/wal"
)

// Before describes the position of a data directory's server before the restore over it.
type Before struct {
	Timeline wal.Timeline `json:"timeline"`
	// LSN is the last known position of its WAL: that of its control file, or the end of the last record that was
	// kept.
	LSN     wal.LSN        `json:"lsn"`
	State   pgdata.DBState `json:"state"`
	History string         `json:"history,omitempty"` // content of the timeline's history file
}

// A Fork is the position at which the previous timeline of a server and the restored one part.
type Fork struct {
	Timeline wal.Timeline // the last common timeline
	LSN      wal.LSN      // the WAL before it is the same
}

// Diverged reports whether the server had WAL of its own behind the fork.
func (r *Result) Diverged() bool {
	return r.Before != nil && r.Fork != nil && r.Before.LSN > r.Fork.LSN
}

// lookBack determines the position of the directory's server. left is the note of an interrupted restore, which has
// removed the control file.
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

// maxHistory limits the history in a restore's note, in bytes. No cluster is promoted so often that its history is
// longer.
const maxHistory = 256 << 10

// maxKeptBefore limits the number of file names in the note. If more were kept, they are reported again.
const maxKeptBefore = 10_000

// fork finds where the server's timeline and the restored one part; nil if that is unknown, or if one leads to the
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

// open is the end of the last timeline of a history.
const open = ^wal.LSN(0)

func steps(h wal.History) []wal.HistoryEntry {
	return append(append([]wal.HistoryEntry(nil), h.Entries...), wal.HistoryEntry{Timeline: h.Timeline, End: open})
}

// shared reports whether a segment lies before the fork, so that it is the same for both.
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

// keptNow lists the files in the directory of kept WAL.
func (r *restorer) keptNow() []string {
	entries, err := os.ReadDir(filepath.Join(r.Dir, "pg_wal", keptName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil // a later step reports the error if it matters
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
