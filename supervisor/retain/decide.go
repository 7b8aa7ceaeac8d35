package retain

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/notes"
	"walkeep/common/recovery"
	"walkeep/common/wal"
)

// A Policy has the rules for keeping backups. A rule of 0 is not applied.
type Policy struct {
	Backups int // keep this many of the newest
	Days    int // keep those that are needed to recover to any time in the last so many days
}

func (p Policy) none() bool { return p.Backups <= 0 && p.Days <= 0 }

// A Decision lists what is kept and what is removed.
type Decision struct {
	Keep       []Judged // in the order of archive.CompareBackups
	Remove     []Judged // in the same order
	Unfinished []string // directories of backups that were never finished and have no lease
	// KeepAllWAL and KeepAllBackups are the reasons for removing none of them; empty if there is no such reason.
	KeepAllWAL, KeepAllBackups string
	// Blocked reports whether one of the two reasons is a fault.
	Blocked bool

	holds map[wal.Timeline][]hold
	known map[wal.Timeline]uint64 // the greatest number of an existing segment
}

// Judged is a backup and why it is kept or removed.
type Judged struct {
	*backup.Manifest
	Why string
}

// Decide applies the policy to an inventory. It treats every lease as live, and does no I/O.
func Decide(inv *recovery.Inventory, p Policy, now time.Time) *Decision {
	d := new(Decision)
	d.findBlocks(inv)
	j := judge{inv: inv, why: make(map[string][]string)}
	j.classify()
	j.byPolicy(p, now)
	j.byLeases()
	for _, b := range inv.Backups {
		if why := j.verdict(b, p, d.KeepAllBackups); len(why) > 0 {
			d.Keep = append(d.Keep, Judged{b, strings.Join(why, "; ")})
		} else {
			d.Remove = append(d.Remove, Judged{b, j.reason(b)})
		}
	}
	if d.KeepAllBackups == "" {
		for _, dir := range inv.Unfinished {
			if !slices.ContainsFunc(inv.Leases, func(l notes.Lease) bool { return holdsBackup(l, dir) }) {
				d.Unfinished = append(d.Unfinished, dir)
			}
		}
	}
	d.hold(inv, &j)
	return d
}

// spare keeps all WAL and all finished backups, for this reason.
func (d *Decision) spare(why string) {
	for _, b := range d.Remove {
		d.Keep = append(d.Keep, Judged{b.Manifest, why})
	}
	d.Remove = nil
	if d.KeepAllWAL == "" || !d.Blocked {
		d.KeepAllWAL = why
	}
}

// holdsBackup reports whether a lease protects the backup with this directory. A restore that has not chosen its
// backup yet may be reading any.
func holdsBackup(l notes.Lease, dir string) bool {
	return l.Backup != "" && backup.Dir(l.Backup) == dir || l.Backup == "" && l.Kind != "backup"
}

// findBlocks finds faults that may hide a need for WAL or backups.
func (d *Decision) findBlocks(inv *recovery.Inventory) {
	for _, f := range inv.Faults {
		dir, _, _ := strings.Cut(f.Object, "/")
		switch {
		case dir == "leases":
			d.KeepAllBackups = "a lease cannot be read: " + f.Error()
			d.KeepAllWAL = d.KeepAllBackups
		case d.KeepAllWAL != "":
		case dir == "standbys":
			d.KeepAllWAL = "the note of a standby cannot be read: " + f.Error()
		case dir == "backups" && !errors.Is(f.Err, archive.ErrForeign):
			d.KeepAllWAL = "a backup's manifest cannot be read: " + f.Error()
		}
	}
	if l := inv.Line(inv.Followed()); l != nil && l.HistoryErr != nil {
		d.KeepAllBackups = fmt.Sprintf("where timeline %d comes from is not known: %v", l.Timeline, l.HistoryErr)
		d.KeepAllWAL = d.KeepAllBackups
	}
	d.Blocked = d.KeepAllWAL != ""
}

// A judge knows which backups can be restored, and why backups are kept.
type judge struct {
	inv      *recovery.Inventory
	sound    []*backup.Manifest // can be restored, in the inventory's order
	way      []*backup.Manifest // can be restored along the path to the newest timeline, in the order of their ends
	doubtful map[string]bool    // whether they can be restored is unknown
	why      map[string][]string
}

// classify determines for each backup whether it can be restored. The timeline on which it was taken may lack the
// last segment, which a later timeline has.
func (j *judge) classify() {
	j.doubtful = make(map[string]bool)
	newest := j.inv.Followed()
	for _, b := range j.inv.Backups {
		if d := j.inv.Records[b.ID].Drill; d != nil && !d.OK {
			continue // it does not count until a drill of it succeeds
		}
		if j.unreadRecord(b) {
			j.doubtful[b.ID] = true
			continue
		}
		_, err := j.inv.Reach(b, newest)
		if err == nil {
			j.way = append(j.way, b)
			j.sound = append(j.sound, b)
			continue
		}
		doubtful := unknown(err)
		_, err = j.inv.Reach(b, b.Timeline)
		for i := len(j.inv.Lines) - 1; err != nil && i >= 0; i-- {
			doubtful = doubtful || unknown(err)
			if l := &j.inv.Lines[i]; leads(l.History, b.Timeline) {
				_, err = j.inv.Reach(b, l.Timeline)
			}
		}
		if err == nil {
			j.sound = append(j.sound, b)
		} else if doubtful || unknown(err) {
			j.doubtful[b.ID] = true
		}
	}
}

// unreadRecord reports whether there is a note of what verify and drill found of a backup, and it cannot be read.
func (j *judge) unreadRecord(b *backup.Manifest) bool {
	return slices.ContainsFunc(j.inv.Faults, func(f notes.Fault) bool { return f.Object == notes.VerifiedName(b.ID) })
}

// unknown reports whether an error of Reach leaves open whether the backup can be restored.
func unknown(err error) bool {
	return !errors.Is(err, recovery.ErrIncomplete) && !errors.Is(err, recovery.ErrNotOnLine) && !errors.Is(err, recovery.ErrUnsound)
}

func leads(h wal.History, tli wal.Timeline) bool {
	return slices.ContainsFunc(h.Entries, func(e wal.HistoryEntry) bool { return e.Timeline == tli })
}

func (j *judge) keep(b *backup.Manifest, format string, args ...any) {
	j.why[b.ID] = append(j.why[b.ID], fmt.Sprintf(format, args...))
}

func (j *judge) byPolicy(p Policy, now time.Time) {
	if p.none() {
		for _, b := range j.inv.Backups {
			j.keep(b, "there is no rule for backups")
		}
		return
	}
	if n := p.Backups; n > 0 {
		for _, b := range j.way[max(0, len(j.way)-n):] {
			j.keep(b, "one of the newest %d on the way to timeline %d", n, j.inv.Followed())
		}
		for _, b := range j.sound[max(0, len(j.sound)-n):] {
			j.keep(b, "one of the newest %d", n)
		}
	}
	if p.Days > 0 {
		since := now.AddDate(0, 0, -p.Days)
		for _, b := range j.sound {
			if b.Ended.After(since) {
				j.keep(b, "it ended in the last %d days", p.Days)
			}
		}
		for _, b := range slices.Backward(j.way) {
			if !b.Ended.After(since) {
				j.keep(b, "recovery to a time in the last %d days may begin with it", p.Days)
				break
			}
		}
	}
	if last := len(j.way) - 1; last >= 0 {
		j.keepOne(j.way, fmt.Sprintf("the last one on the way to timeline %d", j.inv.Followed()))
	} else {
		j.keepOne(j.sound, "the last one that can be restored")
	}
}

// keepOne keeps the newest of these backups if none of them is kept.
func (j *judge) keepOne(of []*backup.Manifest, why string) {
	kept := slices.ContainsFunc(of, func(b *backup.Manifest) bool { return len(j.why[b.ID]) > 0 })
	if !kept && len(of) > 0 {
		j.keep(of[len(of)-1], "%s", why)
	}
}

func (j *judge) byLeases() {
	for _, l := range j.inv.Leases {
		for _, b := range j.inv.Backups {
			if holdsBackup(l, backup.Dir(b.ID)) {
				j.keep(b, "lease %s of a %s on %s", l.ID, l.Kind, l.Host)
			}
		}
	}
}

// verdict returns the reasons for keeping a backup; none if it is removed.
func (j *judge) verdict(b *backup.Manifest, p Policy, keepAll string) []string {
	why := j.why[b.ID]
	switch {
	case len(why) > 0 || j.isSound(b):
	case j.doubtful[b.ID]:
		why = append(why, "walkeep cannot determine whether it can be restored")
	case !j.newerKept(b):
		why = append(why, j.unsound(b)+", but no newer one that can is kept")
	}
	if len(why) == 0 && keepAll != "" {
		why = append(why, keepAll)
	}
	return why
}

func (j *judge) isSound(b *backup.Manifest) bool {
	return slices.ContainsFunc(j.sound, func(s *backup.Manifest) bool { return s.ID == b.ID })
}

// newerKept reports whether a newer backup that can be restored is kept.
func (j *judge) newerKept(b *backup.Manifest) bool {
	return slices.ContainsFunc(j.sound, func(s *backup.Manifest) bool {
		return len(j.why[s.ID]) > 0 && recovery.CompareBackups(s, b) > 0
	})
}

// reason returns why a backup is removed.
func (j *judge) reason(b *backup.Manifest) string {
	if j.isSound(b) {
		return "no rule keeps it"
	}
	return j.unsound(b) + ", and a newer one that can is kept"
}

// unsound returns why a backup does not count.
func (j *judge) unsound(b *backup.Manifest) string {
	why := "it cannot be restored"
	if flaw := j.inv.Flaws[b.ID]; flaw != nil {
		why += fmt.Sprintf(" (%v)", flaw)
	} else if d := j.inv.Records[b.ID].Drill; d != nil && !d.OK {
		why = "it could not be recovered in its last drill (" + d.Error + ")"
	}
	return why
}
