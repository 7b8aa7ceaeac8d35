package verify

import (
	"errors"
	"fmt"

	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/recovery"
	"walkeep/common/wal"
)

// gaps returns the missing WAL: between segments of a timeline, and on any path from a backup.
func gaps(inv *recovery.Inventory) []Problem {
	var found []Problem
	seen := make(map[string]bool)
	bare := *inv
	bare.Flaws = nil // a backup whose objects are damaged is reported for that
	inv = &bare
	add := func(object, text string) {
		if p := (Problem{Severity: Missing, Object: object, Text: text}); !seen[object+text] {
			seen[object+text] = true
			found = append(found, p)
		}
	}
	for _, m := range inv.Backups {
		whole, lacking := false, ""
		for _, l := range inv.Lines {
			r, err := inv.Reach(m, l.Timeline)
			switch {
			case errors.Is(err, recovery.ErrIncomplete):
				lacking = err.Error()
			case err == nil:
				whole = true
				if r.Gap != nil && r.Gap.Damage == nil {
					add(r.Gap.First.String(), gapText(r.Gap.First, r.Gap.Last))
				}
			}
		}
		if !whole && lacking == "" && inv.Line(m.Timeline) == nil {
			_, err := inv.Reach(m, m.Timeline)
			lacking = err.Error()
		}
		if !whole && lacking != "" {
			add(backup.Dir(m.ID), lacking)
		}
	}
	for _, l := range inv.Lines {
		for i := 1; i < len(l.Segments); i++ {
			first := segment(inv, l.Timeline, l.Segments[i-1].Last+1)
			add(first.String(), gapText(first, segment(inv, l.Timeline, l.Segments[i].First-1)))
		}
	}
	return found
}

func segment(inv *recovery.Inventory, tli wal.Timeline, number uint64) wal.Name {
	return wal.SegmentAt(tli, wal.LSN(number*uint64(inv.SegmentSize)), inv.SegmentSize)
}

func gapText(first, last wal.Name) string {
	if first == last {
		return "missing, although there is later WAL"
	}
	return fmt.Sprintf("missing up to %s, although there is later WAL", last)
}

// sameLine reports whether a timeline's own history and that of a later one, which left it at the given position,
// agree on where it begins. If it was left before it began, the later history has cut its entry short.
func sameLine(own, later wal.HistoryEntry, left wal.LSN) bool {
	return own.Timeline == later.Timeline && (own.End == later.End || later.End == left && left < own.End)
}

// checkHistories compares the histories with each other: a timeline's history must agree with those of its ancestors.
func checkHistories(inv *recovery.Inventory, report func(Problem)) {
	for _, l := range inv.Lines {
		for i, e := range l.History.Entries {
			parent := inv.Line(e.Timeline)
			if parent == nil || parent.HistoryErr != nil {
				continue
			}
			text := ""
			switch own := parent.History.Entries; {
			case len(own) != i:
				text = fmt.Sprintf("it lists %d timelines before timeline %d, whose own history lists %d", i, e.Timeline, len(own))
			case i > 0 && !sameLine(own[i-1], l.History.Entries[i-1], e.End):
				text = fmt.Sprintf("by it timeline %d begins at %s of timeline %d, and by that one's own history at %s of %d", e.Timeline,
					l.History.Entries[i-1].End, l.History.Entries[i-1].Timeline, own[i-1].End, own[i-1].Timeline)
			}
			if text != "" {
				report(Problem{Severity: Damage, Object: archive.Location(wal.Name{Kind: wal.KindHistory, Timeline: l.Timeline}), Text: text})
			}
		}
	}
}
