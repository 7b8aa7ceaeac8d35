package recovery

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"walkeep/common/archive"
	"walkeep/common/notes"
	"walkeep/common/wal"
)

func (a reader) takeServer(ctx context.Context, inv *Inventory) error {
	s, err := a.Notes().Server(ctx)
	switch {
	case errors.Is(err, archive.ErrDamaged), errors.Is(err, notes.ErrUnread):
		inv.fault(notes.ServerName, err)
	case err != nil:
		return err
	case s != nil && s.SystemID != inv.SystemID:
		inv.fault(notes.ServerName, fmt.Errorf("%w: its system identifier is %s, that of the archive %s", archive.ErrForeign, s.SystemID, inv.SystemID))
	default:
		inv.Server = s
	}
	return nil
}

// Production is the timeline that the production server is on, as far as the archive can tell.
type Production struct {
	Timeline wal.Timeline // 0: there is none
	// Said is so where the server has said it, and nothing came since that might be its own next timeline. Otherwise it is
	// the timeline with the highest number, which a promotion or a recovery has made last: of the server, or of a copy.
	Said bool
}

// Production returns the timeline of the production server. The newest by number need not be: a copy that was
// restored for a look, or a standby that was promoted for a test, has a timeline of its own in the same archive.
func (inv *Inventory) Production() Production {
	s := inv.Server
	if s == nil {
		return Production{Timeline: inv.Newest()}
	}
	for _, l := range slices.Backward(inv.Lines) {
		if l.Timeline > s.Newest && l.Timeline > s.Timeline && (l.HistoryErr != nil || inv.mayFollow(s, l.History)) {
			return Production{Timeline: l.Timeline}
		}
	}
	return Production{s.Timeline, true}
}

// Succeeded reports whether a standby was promoted in the place of a server that is open for writing on a timeline, and where
// it left that timeline; 0 where that is not archived.
func (inv *Inventory) Succeeded(tli wal.Timeline) (left wal.LSN, yes bool) {
	s := inv.Server
	if s == nil || !s.Promoted || s.Timeline <= tli {
		return 0, false
	}
	l := inv.Line(s.Timeline)
	if l == nil || l.HistoryErr != nil {
		return 0, true
	}
	for _, e := range l.History.Entries {
		if e.Timeline == tli {
			return e.End, true
		}
	}
	return 0, false
}

// Followed is the timeline that counts: the production server's or, while nothing of that is archived, the newest.
func (inv *Inventory) Followed() wal.Timeline {
	if tli := inv.Production().Timeline; inv.Line(tli) != nil {
		return tli
	}
	return inv.Newest()
}

// mayFollow reports whether a timeline that appeared after the server was asked may be the server's own: it descends
// from the server's timeline or, after a recovery to an earlier point, from one on the way there. A timeline that
// descends from another one that was already there is a copy of a copy.
func (inv *Inventory) mayFollow(s *notes.Server, h wal.History) bool {
	var from wal.Timeline
	for _, e := range h.Entries {
		if e.Timeline <= s.Newest || e.Timeline == s.Timeline {
			from = e.Timeline
		}
	}
	own := inv.Line(s.Timeline)
	return from == s.Timeline || from == 0 || own == nil || leads(own.History, from)
}

func leads(h wal.History, tli wal.Timeline) bool {
	return slices.ContainsFunc(h.Entries, func(e wal.HistoryEntry) bool { return e.Timeline == tli })
}

// A Branch is a timeline with WAL that is not on the way to another one.
type Branch struct {
	Timeline wal.Timeline
	Left     wal.LSN // where the two ways part
	End      wal.LSN // of its last segment
	// Copy is so for one that does not lead to the other: that of a copy, or of another server. One that leads there was
	// abandoned where it was left.
	Copy bool
}

func (b Branch) String() string {
	return fmt.Sprintf("timeline %d, which parts from it at %s and ends at %s", b.Timeline, b.Left, b.End)
}

// Branches lists the timelines that hold WAL beside the way to a timeline, ascending.
func (inv *Inventory) Branches(tli wal.Timeline) []Branch {
	to, err := inv.way(tli)
	if err != nil {
		return nil
	}
	var found []Branch
	for _, l := range inv.Lines {
		n := len(l.Segments)
		w, err := inv.way(l.Timeline)
		if err != nil || n == 0 || l.Timeline == tli {
			continue
		}
		b := Branch{Timeline: l.Timeline, Left: parting(w, to), End: wal.LSN((l.Segments[n-1].Last + 1) * w.size)}
		b.Copy = !slices.ContainsFunc(to.steps, func(s step) bool { return s.tli == l.Timeline })
		// The segment in which the ways part is often complete on both.
		if b.End > b.Left {
			found = append(found, b)
		}
	}
	return found
}

// parting is where two ways part; 0 if they have nothing in common.
func parting(a, b way) wal.LSN {
	var at wal.LSN
	for i := range min(len(a.steps), len(b.steps)) {
		if a.steps[i].tli != b.steps[i].tli {
			break
		}
		if at = min(a.steps[i].end, b.steps[i].end); a.steps[i].end != b.steps[i].end {
			break
		}
	}
	return at
}
