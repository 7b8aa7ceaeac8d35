package recovery

import (
	"context"
	"errors"
	"slices"
	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/notes"
	"walkeep/common/storage"
	"walkeep/common/wal"
)

// A Part is the streamed beginning of an incomplete segment.
type Part struct {
	wal.Result
	Source string // the object in partial/
	Length int64  // its bytes that count
}

// StreamedOn finds what was streamed of the segment with a number on the way to a timeline: of the timelines that have a
// part in that segment, what goes farthest, and nothing of a timeline behind the point where it was left. Errors are those
// of Streamed for the timeline itself, if no other one helps.
func (inv *Inventory) StreamedOn(ctx context.Context, tli wal.Timeline, number uint64) (Part, error) {
	size := uint64(inv.SegmentSize)
	steps := []step{{tli: tli, end: ^wal.LSN(0)}}
	if w, err := inv.way(tli); err == nil { // else nothing of it is archived yet
		steps = w.steps
	}
	var best Part
	var failed error
	for i, s := range slices.Backward(steps) {
		if s.end <= wal.LSN(number*size) || uint64(s.begin) >= (number+1)*size {
			continue
		}
		n := wal.SegmentAt(s.tli, wal.LSN(number*size), inv.SegmentSize)
		found, length, err := inv.a.StreamedTo(ctx, n, s.end)
		switch {
		case err == nil && found.End > best.End:
			best = Part{found, archive.StreamedObject(n), length}
		case err != nil && i == len(steps)-1:
			failed = err
		case err != nil && !errors.Is(err, storage.ErrNotExist) && errors.Is(failed, storage.ErrNotExist):
			failed = err
		}
	}
	if best.Source != "" {
		return best, nil
	}
	return best, failed
}

// Lacks reports whether it still matters that a stream has skipped WAL: segments of it are missing in the archive, and no
// backup that can be restored begins behind it.
func (inv *Inventory) Lacks(s notes.Skip) bool {
	behind := func(b *backup.Manifest) bool {
		if b.Start < s.To {
			return false
		}
		_, err := inv.Restorable(b)
		return err == nil
	}
	w, err := inv.way(s.Timeline)
	if err != nil {
		return !slices.ContainsFunc(inv.Backups, behind)
	}
	first, size := uint64(s.From)/uint64(inv.SegmentSize), uint64(inv.SegmentSize)
	return wal.LSN(w.contiguous(first)*size) < s.To && !slices.ContainsFunc(inv.Backups, behind)
}
