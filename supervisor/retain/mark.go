package retain

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/notes"
	"walkeep/common/recovery"
	"walkeep/common/storage"
	"walkeep/common/wal"
)

// By is who marks objects for removal.
type By struct {
	Repository    string // its name in the configuration
	Host, User    string
	Machine, Boot string        // the host, and the run of its kernel
	Uptime        time.Duration // how long it has run; 0 if that is not known
}

// unlikely is how long after its end a mark is usually found at the latest. A clock that says more than that may be wrong.
const unlikely = 7 * 24 * time.Hour

// stamp notes by which clocks a mark's time begins.
func (b By) stamp(m *notes.Removal) { m.Machine, m.Boot, m.Uptime = b.Machine, b.Boot, b.Uptime }

// elapsed returns how long ago, by the host's uptime, a mark was stamped; false if that is not known.
func (b By) elapsed(m *notes.Removal) (time.Duration, bool) {
	known := b.Machine != "" && b.Machine == m.Machine && b.Host == m.Host && b.Boot == m.Boot && m.Uptime > 0 && b.Uptime >= m.Uptime
	return b.Uptime - m.Uptime, known
}

// ripen determines whether a mark is due. It changes the mark where a clock was wrong, and returns why a mark is not
// due that is so by this host's clock.
//
// A clock alone is not believed: nothing is removed because it has jumped. On the host that has marked, as long as that was not
// started again, its uptime must agree. Otherwise a mark that is long past its end is first doubted, and due for a later cleanup.
func (b By) ripen(m *notes.Removal, now time.Time, grace time.Duration) (due bool, why string) {
	if grace <= 0 {
		return true, ""
	}
	since := m.Marked
	if m.Doubted != nil {
		since = *m.Doubted
	}
	if since.After(now) {
		why = fmt.Sprintf("it is from the future by this host's clock (%s), so that its time begins again", since.UTC().Format(time.RFC3339))
		m.Marked, m.Doubted, since = now, nil, now
		b.stamp(m)
	}
	m.Until = since.Add(grace).UTC()
	if now.Before(m.Until) {
		return false, why
	}
	if ran, known := b.elapsed(m); known {
		if ran < grace-grace/50 { // clocks are set by small steps, and schedules are not exact
			return false, fmt.Sprintf("this host has run for only %s since: its clock was changed", ran.Round(time.Second))
		}
		return true, ""
	}
	if m.Doubted == nil && now.Sub(m.Until) > unlikely {
		m.Doubted = &now
		b.stamp(m)
		m.Until = now.Add(grace).UTC()
		return false, "it is so old that this host's clock may be wrong, so that its time begins again"
	}
	return true, ""
}

// Marks are what a cleanup knows of marks.
type marks struct {
	all     []notes.Removal // as they were read, or changed since
	changed map[string]bool // those to be written again, by their ids
	due     map[string]bool // those that are due, by their ids
	begun   bool
	backups map[string]bool // that are to be marked, or were
	wal     segments        // below wal/, that are to be marked, or were
	stream  segments        // in partial/, the same
}

// readMarks takes the marks of an inventory, and determines which are due.
func (c *cleaner) readMarks(inv *recovery.Inventory) {
	c.marks = marks{
		all: slices.Clone(inv.Removals), changed: make(map[string]bool), due: make(map[string]bool),
		backups: make(map[string]bool), wal: make(segments), stream: make(segments),
	}
	for i := range c.marks.all {
		m := &c.marks.all[i]
		until := m.Until
		due, why := c.By.ripen(m, c.clock, c.Grace)
		if due {
			c.marks.due[m.ID] = true
		} else if why != "" {
			c.report.clock(fmt.Sprintf("mark %s of %s is not carried out: %s", m.ID, m.Marked.UTC().Format(time.RFC3339), why))
		}
		if !m.Until.Equal(until) && !due {
			c.marks.changed[m.ID] = true
		}
	}
}

// confirm records that the due marks are carried out, and reads all marks again: what was taken back is not removed.
func (c *cleaner) confirm(ctx context.Context) error {
	if len(c.marks.all) == 0 {
		return nil
	}
	if !c.DryRun && !c.marks.begun {
		for id := range c.marks.due {
			if err := c.a.Notes().BeginRemoval(ctx, id); err != nil {
				return fmt.Errorf("begin removal %s: %w", id, err)
			}
		}
		c.marks.begun = true
	}
	now, _, err := c.a.Notes().Removals(ctx)
	if err != nil {
		return err
	}
	c.marks.all = slices.DeleteFunc(c.marks.all, func(m notes.Removal) bool {
		return !slices.ContainsFunc(now, func(n notes.Removal) bool { return n.ID == m.ID })
	})
	return nil
}

// confirmBackup reports whether a backup may be removed now, after it has read the marks again if it may.
func (c *cleaner) confirmBackup(ctx context.Context, id string) (bool, error) {
	if !c.dueBackup(id) {
		return false, nil
	}
	err := c.confirm(ctx)
	return c.dueBackup(id), err
}

// dueBackup reports whether a backup may be removed now.
func (c *cleaner) dueBackup(id string) bool {
	return c.Grace <= 0 || slices.ContainsFunc(c.marks.all, func(m notes.Removal) bool { return c.marks.due[m.ID] && slices.Contains(m.Backups, id) })
}

// segments returns the segments of all marks, and those of them that may be removed now.
func (c *cleaner) segments(size wal.SegmentSize, of func(notes.Removal) []notes.Range) (marked, due segments) {
	marked, due = make(segments), make(segments)
	for _, m := range c.marks.all {
		marked.take(of(m), size)
		if c.marks.due[m.ID] {
			due.take(of(m), size)
		}
	}
	return marked, due
}

func walOf(m notes.Removal) []notes.Range    { return m.WAL }
func streamOf(m notes.Removal) []notes.Range { return m.Streamed }

// markBackup marks a backup, or what there is of it, unless that is done.
func (c *cleaner) markBackup(ctx context.Context, to *[]RemovedBackup, id, why string) error {
	c.marks.backups[id] = true
	if slices.ContainsFunc(c.marks.all, func(m notes.Removal) bool { return slices.Contains(m.Backups, id) }) {
		return nil
	}
	objects, err := c.a.BackupObjects(ctx, id)
	if err != nil {
		return err
	}
	r := RemovedBackup{ID: id, Why: why}
	for i, e := range objects {
		if i > 0 || e.Size > 0 { // the manifest is listed even if it is not there
			c.mark(&r.Sum, e)
		}
	}
	*to = append(*to, r)
	return nil
}

// mark counts an object that is marked now.
func (c *cleaner) mark(sum *Sum, e storage.Entry) {
	sum.add(e.Size)
	c.report.Marked.add(e.Size)
	c.Marked(e.Name, e.Size)
}

// rules decides without leases, which protect what is marked only for as long as they are held.
func (c *cleaner) rules(inv *recovery.Inventory, gone map[string]bool, p Policy) *Decision {
	without := *inv
	without.Leases = nil
	without.Backups = slices.DeleteFunc(slices.Clone(inv.Backups), func(b *backup.Manifest) bool { return gone[b.ID] })
	return Decide(&without, p, c.Now)
}

// settle writes the marks: the old ones without what is gone, and without what the rules keep again, and a new one for what no old
// one has. unruled and unruledStream are the segments that are left and that the rules do not keep; nil if that is not known.
func (c *cleaner) settle(ctx context.Context, size wal.SegmentSize, keepBackups func(id string) bool, unruled, unruledStream segments) error {
	if err := c.confirm(ctx); err != nil {
		return err
	}
	backups, newWAL, newStream := maps.Clone(c.marks.backups), c.marks.wal, c.marks.stream
	left := c.marks.all[:0:0]
	for _, m := range c.marks.all {
		was := len(m.Backups)
		m.Backups = slices.DeleteFunc(slices.Clone(m.Backups), keepBackups)
		changed := c.marks.changed[m.ID] || len(m.Backups) != was
		if timelines := slices.DeleteFunc(slices.Clone(m.Timelines), func(tli wal.Timeline) bool { return c.dropped[tli] }); len(timelines) != len(m.Timelines) {
			m.Timelines, changed = timelines, true
		}
		for _, part := range []struct {
			of   *[]notes.Range
			left segments
			todo *segments
		}{{&m.WAL, unruled, &newWAL}, {&m.Streamed, unruledStream, &newStream}} {
			had := make(segments)
			had.take(*part.of, size)
			if part.left != nil {
				had = had.and(part.left)
			}
			if now := had.ranges(size); !slices.Equal(now, *part.of) {
				*part.of, changed = now, true
			}
			*part.todo = part.todo.without(had)
		}
		for _, id := range m.Backups {
			delete(backups, id)
		}
		if !c.DryRun {
			var err error
			switch {
			case m.Empty():
				err = c.a.Notes().EndRemoval(ctx, m.ID)
			case changed:
				_, err = c.a.Notes().NoteRemoval(ctx, m)
			}
			if err != nil {
				return err
			}
		}
		if !m.Empty() {
			left = append(left, m)
		}
	}
	m := c.newMark()
	m.Backups, m.WAL, m.Streamed = slices.Sorted(maps.Keys(backups)), newWAL.ranges(size), newStream.ranges(size)
	if !m.Empty() && c.Grace > 0 {
		if !c.DryRun {
			var err error
			if m, err = c.a.Notes().NoteRemoval(ctx, m); err != nil {
				return err
			}
		}
		left = append(left, m)
	}
	c.report.Marks = append(c.report.Marks, left...)
	return c.endStray(ctx, left)
}

// newMark returns a mark of nothing yet.
func (c *cleaner) newMark() notes.Removal {
	m := notes.Removal{Repository: c.By.Repository, Host: c.By.Host, User: c.By.User, Marked: c.clock.UTC().Truncate(time.Second)}
	m.Until = m.Marked.Add(c.Grace)
	c.By.stamp(&m)
	return m
}

// endStray removes what BeginRemoval has left of marks that were taken back.
func (c *cleaner) endStray(ctx context.Context, left []notes.Removal) error {
	if c.DryRun {
		return nil
	}
	begun, err := c.a.Notes().Begun(ctx)
	for _, id := range begun {
		if err == nil && !slices.ContainsFunc(left, func(m notes.Removal) bool { return m.ID == id }) {
			err = c.a.Notes().EndRemoval(ctx, id)
		}
	}
	return err
}

// An Undeleted is a mark that was taken back.
type Undeleted struct {
	notes.Removal
	// Begun reports whether a cleanup had begun to remove what it names.
	Begun bool `json:"begun"`
	// Lost are backups of which a cleanup has removed the manifest already.
	Lost []string `json:"lost"`
}

// Undelete takes all marks back, and returns them, also before an error. A cleanup that runs meanwhile removes nothing more of
// what it had not begun to remove. With dryRun it takes nothing back.
func Undelete(ctx context.Context, a *archive.Archive, dryRun bool) ([]Undeleted, []notes.Fault, error) {
	all, faults, err := a.Notes().Removals(ctx)
	if err != nil {
		return nil, faults, err
	}
	var done []Undeleted
	for _, m := range all {
		if !dryRun {
			if err := a.Notes().WithdrawRemoval(ctx, m.ID); err != nil {
				return done, faults, fmt.Errorf("take back mark %s: %w", m.ID, err)
			}
		}
		done = append(done, Undeleted{Removal: m, Lost: []string{}})
	}
	begun, err := a.Notes().Begun(ctx)
	if err != nil {
		return done, faults, err
	}
	for i := range done {
		u := &done[i]
		if u.Begun = slices.Contains(begun, u.ID); !u.Begun {
			continue
		}
		for _, id := range u.Backups {
			there, err := a.Finished(ctx, id)
			if err != nil {
				return done, faults, err
			}
			if !there {
				u.Lost = append(u.Lost, id)
			}
		}
	}
	return done, faults, nil
}
