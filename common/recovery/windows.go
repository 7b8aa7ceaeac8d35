package recovery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/codec"
	"walkeep/common/sealed"
	"walkeep/common/wal"
)

// A Window is what can be recovered along the way to one timeline without meeting a hole: any point from From on, up to
// the last record before To.
type Window struct {
	Timeline wal.Timeline // to which recovery goes
	Begin    wal.LSN      // where that timeline begins
	// From is where the oldest of the backups is consistent, and FromTime the server's clock after it was taken. A time
	// before FromTime needs an older backup.
	From     wal.LSN
	FromTime time.Time
	To       wal.LSN  // end of the last segment; see [Archive.EndOfRecords]
	Last     wal.Name // that segment
	Backups  []*backup.Manifest
	Gap      *Gap // what ends the window although WAL went on behind it; nil if To is the end of the timeline's WAL
}

// Short reports whether the window ends before its timeline begins, so that nothing of the timeline itself can be
// recovered.
func (w Window) Short() bool { return w.To < w.Begin }

func (w Window) String() string {
	return fmt.Sprintf("timeline %d from %s (%s) to %s", w.Timeline, w.From, wal.FormatTime(w.FromTime), w.To)
}

// Windows returns what can be recovered, by timeline and then by position. A backup is in the window of each timeline that
// comes from it, and in none if it cannot be restored; see [Inventory.Restorable].
func (inv *Inventory) Windows() []Window {
	var all []Window
	for _, l := range inv.Lines {
		all = append(all, inv.windowsOf(l.Timeline)...)
	}
	return all
}

func (inv *Inventory) windowsOf(tli wal.Timeline) []Window {
	w, err := inv.way(tli)
	if err != nil {
		return nil
	}
	var found []Window
	for _, b := range inv.onWay(w) {
		r, err := inv.Reach(b, tli)
		if err != nil {
			continue
		}
		last := len(found) - 1
		if last < 0 || found[last].To != r.To {
			found = append(found, Window{
				Timeline: tli, Begin: w.begin(), From: r.From, FromTime: b.Ended, To: r.To, Last: r.Last, Gap: r.Gap,
			})
			last++
		}
		found[last].Backups = append(found[last].Backups, b)
	}
	return found
}

// onWay lists the backups on a way by where they end.
func (inv *Inventory) onWay(w way) []*backup.Manifest {
	var found []*backup.Manifest
	for _, b := range inv.Backups {
		if w.holds(b) {
			found = append(found, b)
		}
	}
	slices.SortStableFunc(found, func(a, b *backup.Manifest) int { return cmp.Compare(a.Stop, b.Stop) })
	return found
}

// begin is where the timeline to which the way leads begins.
func (w way) begin() wal.LSN { return w.steps[len(w.steps)-1].begin }

// Restorable gives the Reach of a backup along its own timeline, or along the first later one without which it cannot
// become consistent: where the timeline was left soon after the backup, the segment is the later one's. The error is
// that of the backup's own timeline.
func (inv *Inventory) Restorable(b *backup.Manifest) (Reach, error) {
	own, err := inv.Reach(b, b.Timeline)
	if err == nil {
		return own, nil
	}
	for _, l := range inv.Lines {
		if l.Timeline > b.Timeline {
			if r, err := inv.Reach(b, l.Timeline); err == nil {
				return r, nil
			}
		}
	}
	return own, err
}

// EndOfRecords returns the end of the last complete record of a window, from the trailer of the last segment. If that
// segment holds only a part of a long record, it is the one before it, and so on. For a segment whose trailer does not
// record the end, such as a foreign file, it returns the segment's end.
func (inv *Inventory) EndOfRecords(ctx context.Context, w Window) (wal.LSN, error) {
	if w.Gap != nil && w.Gap.Damage != nil && !w.Gap.Damage.Stored {
		return w.To, nil
	}
	way, err := inv.way(w.Timeline)
	if err != nil {
		return 0, err
	}
	for to := w.To; to > w.From; to -= wal.LSN(way.size) {
		n := way.name(uint64(to-1) / way.size)
		t, err := inv.a.Trailer(ctx, n)
		if errors.Is(err, archive.ErrDamaged) {
			return 0, fmt.Errorf("%s: %w", n, err)
		}
		if err != nil {
			return 0, err
		}
		switch {
		case t.WALCheck != codec.Intact || t.End == 0:
			return to, nil
		case t.End > t.Start:
			return wal.LSN(t.End), nil
		}
	}
	return w.From, nil
}

// recent is in how many segments LastCommit looks.
const recent = 4

// LastCommit is the time at which the last transaction of a window ended, UTC; zero if none did in its last segments, or if they
// are encrypted and there is no private key. They are read.
func (inv *Inventory) LastCommit(ctx context.Context, w Window) (time.Time, error) {
	var last time.Time
	way, err := inv.way(w.Timeline)
	if err != nil {
		return last, err
	}
	end := (uint64(w.To) + way.size - 1) / way.size
	first := max(uint64(w.From)/way.size, end-min(recent, end))
	for number := end; number > first && last.IsZero(); number-- {
		err := inv.a.scan(ctx, way, number-1, min(number+1, end), w.To, func(e wal.Event) {
			if e.Kind != wal.RestorePoint && e.Time.After(last) {
				last = e.Time
			}
		}, func(uint64, wal.Result) bool { return true })
		if errors.Is(err, sealed.ErrNoKey) {
			return last, nil
		}
		if err != nil {
			return last, err
		}
	}
	return last, nil
}
