package retain

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"walkeep/common/archive"
	"walkeep/common/cli"
	"walkeep/common/notes"
	"walkeep/common/recovery"
	"walkeep/common/storage"
	"walkeep/common/wal"
)

// Errors of Drop, to be found with errors.Is.
var (
	// ErrNeeded reports that somebody needs the timeline. It is final until the named user of the timeline is gone.
	ErrNeeded = cli.NewError("is needed",
		"nothing was removed; if the production server has not reported its timeline, name it with --conninfo; {list} and {status} show timelines, backups, standbys and streams")
	// ErrNoTimeline reports that the archive has no object of the timeline. It is final.
	ErrNoTimeline = cli.NewError("the archive has nothing of this timeline",
		"{list} shows the timelines")
)

// A Dropped reports what was removed of a timeline.
type Dropped struct {
	DryRun   bool         `json:"dry_run"`
	Timeline wal.Timeline `json:"timeline"`
	Removed  Sum          `json:"removed"`
	// Until is when a cleanup removes the timeline, which is only marked; missing if it was removed at once.
	Until *time.Time `json:"marked_until,omitempty"`
	// HistoryStays is the timeline that makes the history stay: PostgreSQL finds the newest timeline by
	// counting up to the first number without a history, so that it would miss this higher one. 0: the history was
	// removed, too.
	HistoryStays wal.Timeline `json:"history_stays_for,omitempty"`
	// Next is the newest timeline that is left, if the archive has only its history; else 0.
	Next wal.Timeline `json:"next,omitempty"`
}

// streamAge is the age of a stream's last note up to which the stream counts as running.
const streamAge = time.Minute

// Drop removes a timeline from which no other comes: first its archived objects in ascending order, then the streamed
// files, and the history last. Until all segments are gone, the later ones prove that the earlier ones existed, so
// that no server on the timeline mistakes a missing segment for the timeline's end. The next Drop completes an
// interrupted one. Dropped lists what was removed, also before an error.
func Drop(ctx context.Context, a *archive.Archive, tli wal.Timeline, o Options) (*Dropped, error) {
	if o.Live == nil {
		o.Live = notes.Lease.Live
	}
	if o.Removed == nil {
		o.Removed = func(string, int64) {}
	}
	c := cleaner{Options: o, a: a, clock: o.Now, report: newReport(o.DryRun)}
	d := &Dropped{DryRun: o.DryRun, Timeline: tli}
	inv, err := recovery.ReadInventory(ctx, a)
	if err != nil {
		return d, err
	}
	if err = c.takeOthers(ctx, inv); err == nil {
		err = c.mayDrop(inv, tli)
	}
	switch {
	case err != nil:
	case o.Grace > 0:
		err = c.markTimeline(ctx, inv, d)
	default:
		err = c.drop(ctx, inv, d)
	}
	d.Removed = c.report.Total
	if n := len(c.report.Refused); err == nil && n > 0 {
		err = fmt.Errorf("%w: %d refused, the first is %s", ErrRefused, n, c.report.Refused[0])
	}
	return d, err
}

// markTimeline marks a timeline for removal, unless that is done.
func (c *cleaner) markTimeline(ctx context.Context, inv *recovery.Inventory, d *Dropped) error {
	for _, m := range inv.Removals {
		if slices.Contains(m.Timelines, d.Timeline) {
			d.Until = &m.Until
			return nil
		}
	}
	m := c.newMark()
	m.Timelines = []wal.Timeline{d.Timeline}
	d.Until = &m.Until
	if c.DryRun {
		return nil
	}
	_, err := c.a.Notes().NoteRemoval(ctx, m)
	return err
}

// dropMarked removes the timelines that are due, unless somebody needs them by now. It returns the inventory of what is left.
func (c *cleaner) dropMarked(ctx context.Context, inv *recovery.Inventory) (*recovery.Inventory, error) {
	if err := c.confirm(ctx); err != nil {
		return inv, err
	}
	some := false
	for _, m := range c.marks.all {
		if !c.marks.due[m.ID] {
			continue
		}
		for _, tli := range m.Timelines {
			err := c.mayDrop(inv, tli)
			if errors.Is(err, ErrNeeded) {
				c.report.KeptTimelines = append(c.report.KeptTimelines, err.Error())
				continue
			}
			d := &Dropped{DryRun: c.DryRun, Timeline: tli}
			before := len(c.report.Refused)
			if err == nil {
				err = c.drop(ctx, inv, d)
				some = true
			}
			if err != nil && !errors.Is(err, ErrNoTimeline) {
				return inv, err
			}
			c.report.Dropped = append(c.report.Dropped, *d)
			c.dropped[tli] = len(c.report.Refused) == before
		}
	}
	if !some {
		return inv, nil
	}
	if c.DryRun {
		left := *inv
		left.Lines = slices.DeleteFunc(slices.Clone(inv.Lines), func(l recovery.Line) bool { return c.dropped[l.Timeline] })
		return &left, nil
	}
	refusedBefore := len(c.report.Refused)
	left, err := recovery.ReadInventory(ctx, c.a)
	if err != nil {
		return inv, err
	}
	if err := c.dropLeases(ctx, left); err != nil {
		return inv, err
	}
	c.report.Refused = c.report.Refused[:refusedBefore] // of the same leases
	return left, c.takeOthers(ctx, left)
}

// mayDrop fails with [ErrNeeded] if somebody needs a timeline.
func (c *cleaner) mayDrop(inv *recovery.Inventory, tli wal.Timeline) error {
	needed := func(format string, args ...any) error {
		return fmt.Errorf("timeline %d %w: %s", tli, ErrNeeded, fmt.Sprintf(format, args...))
	}
	line := inv.Line(tli)
	if line == nil && len(streamedOf(inv, tli)) == 0 {
		return fmt.Errorf("timeline %d: %w", tli, ErrNoTimeline)
	}
	production := inv.Production()
	switch {
	case production.Timeline == tli && production.Said:
		return needed("the production server was last seen on it")
	case !production.Said:
		return needed("the production server may be on it: it was not asked since the timeline appeared")
	}
	for _, l := range inv.Lines {
		switch {
		case l.Timeline == tli:
		case l.HistoryErr != nil:
			return needed("timeline %d may come from it: its history cannot be read: %v", l.Timeline, l.HistoryErr)
		case leads(l.History, tli):
			return needed("timeline %d comes from it", l.Timeline)
		}
	}
	without := *inv
	without.Lines = slices.DeleteFunc(slices.Clone(inv.Lines), func(l recovery.Line) bool { return l.Timeline == tli })
	for _, b := range inv.Backups {
		if b.Timeline == tli {
			return needed("backup %s was taken on it", b.ID)
		}
		if _, err := inv.Restorable(b); err == nil {
			if _, err := without.Restorable(b); err != nil {
				return needed("backup %s cannot be restored without it", b.ID)
			}
		}
	}
	for _, f := range inv.Faults {
		switch dir := path.Dir(f.Object); {
		case dir == "leases", dir == "standbys", dir == "streams", path.Dir(dir) == "backups":
			return needed("its users cannot be determined: %v", f)
		}
	}
	for _, l := range inv.Leases {
		if c.Live(l) && (l.Timeline == tli || l.Timeline == 0) {
			return needed("a %s on %s is running (lease %s)", l.Kind, l.Host, l.ID)
		}
	}
	for _, s := range inv.Standbys {
		if n, err := wal.ParseName(s.Restartpoint); err != nil || n.Timeline == tli {
			return needed("standby %s (%s on %s) is on it", s.ID, s.Data, s.Host)
		}
	}
	for _, s := range inv.Streams {
		if s.Timeline == tli && !s.Ended && c.Now.Sub(s.Heard) < streamAge {
			return needed("stream %s follows it", s.Slot)
		}
	}
	return nil
}

// streamedOf lists the files of a timeline in partial/.
func streamedOf(inv *recovery.Inventory, tli wal.Timeline) []storage.Entry {
	var found []storage.Entry
	for _, e := range inv.Streamed {
		base := path.Base(e.Name)
		if of, err := wal.ParseTimeline(base[:min(8, len(base))]); err == nil && of == tli {
			found = append(found, e)
		}
	}
	return found
}

func (c *cleaner) drop(ctx context.Context, inv *recovery.Inventory, d *Dropped) error {
	var sum Sum
	for o, err := range c.a.Objects(ctx) {
		if err == nil && o.WAL.Timeline == d.Timeline {
			err = c.remove(ctx, &sum, o.Entry)
		}
		if err != nil {
			return d.of(sum, err)
		}
	}
	for _, dir := range []string{notes.DamagedDir, notes.VerifiedDir} {
		kept, err := c.a.List(ctx, dir+d.Timeline.String())
		if err != nil {
			return err
		}
		for _, e := range kept {
			if err := c.remove(ctx, &sum, e); err != nil {
				return d.of(sum, err)
			}
		}
	}
	for _, e := range streamedOf(inv, d.Timeline) {
		of := []storage.Entry{e}
		if e.IsDir() {
			var err error
			if of, err = c.a.List(ctx, e.Name); err != nil {
				return err
			}
		}
		for _, one := range of {
			if err := c.remove(ctx, &sum, one); err != nil {
				return d.of(sum, err)
			}
		}
	}
	d.Removed = sum
	if newest := inv.Newest(); newest > d.Timeline {
		d.HistoryStays = newest
		return c.prune(ctx)
	}
	histories, err := c.a.Histories(ctx)
	if err != nil {
		return err
	}
	for _, h := range histories {
		if h.WAL.Timeline == d.Timeline {
			if err := c.remove(ctx, &sum, h.Entry); err != nil {
				return d.of(sum, err)
			}
		}
	}
	d.Removed = sum
	d.Next = leftOver(inv, d.Timeline)
	return c.prune(ctx)
}

// of records what was removed before a failure. A refusal is reported elsewhere.
func (d *Dropped) of(sum Sum, err error) error {
	d.Removed = sum
	return refused(err)
}

// leftOver returns the highest timeline below the removed one, if the archive has only its history, no other timeline
// comes from it, and no server is on it; else 0.
func leftOver(inv *recovery.Inventory, gone wal.Timeline) wal.Timeline {
	var next *recovery.Line
	for i := range inv.Lines {
		if inv.Lines[i].Timeline < gone {
			next = &inv.Lines[i]
		}
	}
	if next == nil || next.Timeline == inv.Followed() || len(next.Segments)+len(next.Partials) > 0 {
		return 0
	}
	if slices.ContainsFunc(inv.Lines, func(l recovery.Line) bool { return l.Timeline != gone && leads(l.History, next.Timeline) }) {
		return 0
	}
	return next.Timeline
}
