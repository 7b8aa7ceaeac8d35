package retain

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"walkeep/common/notes"
	"walkeep/common/recovery"
	"walkeep/common/wal"
)

// A Sum is a number of objects and their bytes.
type Sum struct {
	Objects int   `json:"objects"`
	Bytes   int64 `json:"bytes"`
}

func (s *Sum) add(bytes int64) {
	s.Objects++
	s.Bytes += bytes
}

// A Report lists what a cleanup has kept and removed.
type Report struct {
	DryRun bool         `json:"dry_run"`
	Keep   []KeptBackup `json:"keep"`
	// KeepAllWAL is the reason for removing no WAL; empty if there is none.
	KeepAllWAL string `json:"keep_all_wal,omitempty"`
	// Blocked reports whether something is kept because of a fault that has to be repaired.
	Blocked bool `json:"blocked"`
	// Clock is why this host's clock was not believed; empty if it was.
	Clock      string          `json:"clock,omitempty"`
	Lines      []Line          `json:"timelines"`
	Holders    []Holder        `json:"holders"`
	Backups    []RemovedBackup `json:"removed_backups"`
	Unfinished []RemovedBackup `json:"removed_unfinished_backups"`
	Leases     []notes.Lease   `json:"removed_leases"`
	Streamed   Sum             `json:"removed_streamed"`
	Notes      Sum             `json:"removed_notes"`
	Total      Sum             `json:"removed"`
	// What this cleanup has marked. Marks are all marks that are there now.
	MarkedBackups    []RemovedBackup `json:"marked_backups"`
	MarkedUnfinished []RemovedBackup `json:"marked_unfinished_backups"`
	MarkedStreamed   Sum             `json:"marked_streamed"`
	Marked           Sum             `json:"marked"`
	Marks            []notes.Removal `json:"marks"`
	Refused          []Refused       `json:"refused"` // what the store did not let this cleanup remove
	Stale            int             `json:"aborted_writes"`
	// Dropped are marked timelines that were removed, KeptTimelines says why others were not.
	Dropped       []Dropped `json:"dropped_timelines"`
	KeptTimelines []string  `json:"kept_timelines"`

	Faults []notes.Fault `json:"-"`
}

// A KeptBackup is a backup that stays.
type KeptBackup struct {
	ID  string `json:"id"`
	Why string `json:"why"`
}

// A Refused is an object that the store did not let a cleanup remove. Others that would have been removed after it may be left,
// too.
type Refused struct {
	Object string `json:"object"`
	Reason string `json:"error"`
	// LockedUntil is the end of the object's retention in the store; nil if it has none, or that is not known.
	LockedUntil *time.Time `json:"locked_until,omitempty"`
}

func (r Refused) String() string {
	if r.LockedUntil != nil {
		return fmt.Sprintf("%s, which is locked until %s: %s", r.Object, r.LockedUntil.Format(time.RFC3339), r.Reason)
	}
	return r.Object + ": " + r.Reason
}

// A RemovedBackup is a backup that was removed or marked.
type RemovedBackup struct {
	ID  string `json:"id"`
	Why string `json:"why"`
	Sum
}

// A Line reports what stays and what was removed of a timeline's WAL.
type Line struct {
	Timeline wal.Timeline `json:"timeline"`
	Kept     uint64       `json:"kept_segments"`
	Oldest   string       `json:"oldest,omitempty"`  // the oldest segment that stays
	HeldBy   string       `json:"held_by,omitempty"` // the backup, lease or standby that needs it
	Removed  Sum          `json:"removed"`
	Marked   Sum          `json:"marked"`
}

// A Holder is a standby or a lease that holds more WAL than the backups do.
type Holder struct {
	Kind     string `json:"kind"` // standby, lease
	ID       string `json:"id"`
	Text     string `json:"text"`
	Segments uint64 `json:"segments"` // that stay only for it, or for others like it
}

// newReport returns a report without nil lists, which would be null in JSON.
func newReport(dryRun bool) Report {
	return Report{
		DryRun: dryRun, Keep: []KeptBackup{}, Lines: []Line{}, Holders: []Holder{},
		Backups: []RemovedBackup{}, Unfinished: []RemovedBackup{}, Leases: []notes.Lease{},
		MarkedBackups: []RemovedBackup{}, MarkedUnfinished: []RemovedBackup{}, Marks: []notes.Removal{}, Refused: []Refused{},
		Dropped: []Dropped{}, KeptTimelines: []string{},
	}
}

// clock adds a reason for not going by this host's clock.
func (r *Report) clock(why string) {
	if r.Clock != "" {
		r.Clock += "; "
	}
	r.Clock += why
}

func (r *Report) decided(d *Decision) {
	r.Blocked = d.Blocked
	for _, b := range d.Keep {
		r.Keep = append(r.Keep, KeptBackup{b.ID, b.Why})
	}
}

// left records that a backup stays because a new lease names it.
func (r *Report) left(b Judged, l notes.Lease) {
	r.Keep = append(r.Keep, KeptBackup{b.ID, "lease " + l.ID + " of a " + l.Kind + " on " + l.Host + ", until it is given back"})
}

// needed records which WAL stays, and for whom.
func (r *Report) needed(inv *recovery.Inventory, d *Decision) {
	r.KeepAllWAL, r.Blocked = d.KeepAllWAL, r.Blocked || d.Blocked
	more := make(map[holder]uint64)
	for _, l := range inv.Lines {
		line := Line{Timeline: l.Timeline}
		if d.KeepAllWAL != "" {
			line.Kept = count(l.Segments, []hold{{0, end, holder{}}})
			line.HeldBy = d.KeepAllWAL
			if len(l.Segments) > 0 {
				line.Oldest = segmentName(l.Timeline, l.Segments[0].First, inv.SegmentSize)
			}
		} else {
			d.neededOf(inv, l, &line, more)
		}
		r.Lines = append(r.Lines, line)
	}
	for h, n := range more {
		if n == 0 {
			continue
		}
		r.Holders = append(r.Holders, Holder{h.kind, h.id, h.text, n})
	}
	slices.SortFunc(r.Holders, func(a, b Holder) int {
		return cmp.Or(-cmp.Compare(a.Segments, b.Segments), cmp.Compare(a.Text, b.Text))
	})
}

// neededOf records what stays of one timeline, and adds to more what stays for standbys and leases alone.
func (d *Decision) neededOf(inv *recovery.Inventory, l recovery.Line, line *Line, more map[holder]uint64) {
	holds := d.holds[l.Timeline]
	line.Kept = count(l.Segments, holds)
	var lasting []hold
	for _, h := range holds {
		if h.by.kind != "standby" && h.by.kind != "lease" {
			lasting = append(lasting, h)
		}
	}
	base := count(l.Segments, lasting)
	own := make(map[holder][]hold)
	for _, h := range holds {
		if h.by.kind == "standby" || h.by.kind == "lease" {
			own[h.by] = append(own[h.by], h)
		}
	}
	for by, h := range own {
		with := slices.Concat(lasting, h)
		sortHolds(with)
		more[by] += count(l.Segments, with) - base
	}
	for _, s := range l.Segments {
		for _, h := range holds {
			if from := max(s.First, h.first); from <= min(s.Last, h.last) {
				line.Oldest, line.HeldBy = segmentName(l.Timeline, from, inv.SegmentSize), h.by.text
				return
			}
		}
	}
}

func segmentName(tli wal.Timeline, number uint64, size wal.SegmentSize) string {
	return wal.SegmentAt(tli, wal.LSN(number*uint64(size)), size).String()
}

// line returns the line of a timeline.
func (r *Report) line(tli wal.Timeline) *Line {
	for i := range r.Lines {
		if r.Lines[i].Timeline == tli {
			return &r.Lines[i]
		}
	}
	r.Lines = append(r.Lines, Line{Timeline: tli})
	return &r.Lines[len(r.Lines)-1]
}
