package retain

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/cli"
	"walkeep/common/notes"
	"walkeep/common/recovery"
	"walkeep/common/storage"
	"walkeep/common/wal"
)

// Options describe how to clean up an archive.
type Options struct {
	Policy Policy
	Now    time.Time
	DryRun bool   // remove nothing, and report what would be removed
	Forget string // a standby whose note is removed first; may be empty
	// ForgetStream is the slot of a stream whose note is removed; may be empty.
	ForgetStream string
	// Live reports whether the holder of a lease lives; nil: notes.Lease.Live.
	Live func(notes.Lease) bool
	// Removed is called for each object that is removed; may be nil.
	Removed func(object string, bytes int64)
}

// ErrNoStandby reports that the archive has no note of the standby to be forgotten.
var ErrNoStandby = cli.NewError("there is no note of this standby",
	"{status} lists the known standbys")

// ErrNoStream reports that the archive has no note of the stream to be forgotten.
var ErrNoStream = cli.NewError("there is no note of such a stream",
	"{status} lists the known streams")

// Clean removes what the archive does not need. The report lists what was removed, also before an error. A cleanup
// may run while WAL is archived, and while backups, restores and drills run: it respects their leases.
func Clean(ctx context.Context, a *archive.Archive, o Options) (*Report, error) {
	if o.Live == nil {
		o.Live = notes.Lease.Live
	}
	if o.Removed == nil {
		o.Removed = func(string, int64) {}
	}
	c := cleaner{Options: o, a: a, gone: make(map[string]bool), report: newReport(o.DryRun)}
	return &c.report, c.run(ctx)
}

type cleaner struct {
	Options
	a      *archive.Archive
	gone   map[string]bool // backups that were removed, by id
	dirs   []string        // in which something was removed
	report Report
}

func (c *cleaner) run(ctx context.Context) error {
	inv, err := recovery.ReadInventory(ctx, c.a)
	if err != nil {
		return err
	}
	if err := c.dropLeases(ctx, inv); err != nil {
		return err
	}
	c.report.Faults = inv.Faults
	if err := c.forget(ctx, inv); err != nil {
		return err
	}
	c.setClock(ctx, inv)
	d := Decide(inv, c.Policy, c.Now)
	c.report.decided(d)
	for _, b := range d.Remove {
		if err := c.removeBackup(ctx, b); err != nil {
			return err
		}
	}
	for _, dir := range d.Unfinished {
		if err := c.removeUnfinished(ctx, dir); err != nil {
			return err
		}
	}
	return c.cleanWAL(ctx, inv, d)
}

// idle is how far this host's clock may be ahead of the newest time in the archive before days are counted from that
// time.
const idle = 24 * time.Hour

// setClock counts days back from the newest time in the archive if this host's clock is far ahead of it. That is the
// time of the last transaction in the WAL, or of the last backup. If the WAL has no time, the database may only be
// idle.
func (c *cleaner) setClock(ctx context.Context, inv *recovery.Inventory) {
	if c.Policy.Days <= 0 {
		return
	}
	var newest time.Time
	take := func(t time.Time) {
		if t.After(newest) {
			newest = t
		}
	}
	for _, b := range inv.Backups {
		take(b.Ended)
	}
	limit := idle + time.Duration(c.Policy.Days+30)*24*time.Hour
	all := inv.Windows()
	for _, w := range all[max(0, len(all)-4):] { // segments are read for each
		if at, err := inv.LastCommit(ctx, w); err == nil && !at.IsZero() {
			limit = idle
			take(at)
		}
	}
	if newest.IsZero() || c.Now.Sub(newest) <= limit {
		return
	}
	c.report.Clock = fmt.Sprintf("this host's clock is at %s, and the newest time in the archive is %s: the days are counted back from the latter", c.Now.UTC().Format(time.RFC3339), newest.UTC().Format(time.RFC3339))
	c.Now = newest
}

// dropLeases removes dead leases from the archive and from the inventory.
func (c *cleaner) dropLeases(ctx context.Context, inv *recovery.Inventory) error {
	for _, l := range inv.Leases {
		if c.Live(l) || slices.ContainsFunc(c.report.Leases, func(d notes.Lease) bool { return d.ID == l.ID }) {
			continue
		}
		if err := c.remove(ctx, &c.report.Notes, storage.Entry{Name: notes.LeaseName(l.ID)}); err != nil {
			return err
		}
		c.report.Leases = append(c.report.Leases, l)
	}
	inv.Leases = slices.DeleteFunc(inv.Leases, func(l notes.Lease) bool { return !c.Live(l) })
	return nil
}

// forget removes the notes of the stream and the standby to be forgotten.
func (c *cleaner) forget(ctx context.Context, inv *recovery.Inventory) error {
	if c.ForgetStream != "" {
		if !slices.ContainsFunc(inv.Streams, func(s notes.Stream) bool { return s.Slot == c.ForgetStream }) {
			return fmt.Errorf("%w: %q", ErrNoStream, c.ForgetStream)
		}
		if err := c.remove(ctx, &c.report.Notes, storage.Entry{Name: notes.StreamName(c.ForgetStream)}); err != nil {
			return err
		}
	}
	if c.Forget == "" {
		return nil
	}
	is := func(s notes.Standby) bool { return s.ID == c.Forget }
	if !slices.ContainsFunc(inv.Standbys, is) {
		return fmt.Errorf("%w: %q", ErrNoStandby, c.Forget)
	}
	inv.Standbys = slices.DeleteFunc(inv.Standbys, is)
	return c.remove(ctx, &c.report.Notes, storage.Entry{Name: notes.StandbyName(c.Forget)})
}

// remove removes one object, and counts it. It succeeds if the object is already gone.
func (c *cleaner) remove(ctx context.Context, sum *Sum, e storage.Entry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !c.DryRun {
		err := c.a.Backend().Remove(ctx, e.Name)
		if errors.Is(err, storage.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("remove %s: %w", e.Name, err)
		}
	}
	if dir := path.Dir(e.Name) + "/"; !slices.Contains(c.dirs[max(0, len(c.dirs)-1):], dir) {
		c.dirs = append(c.dirs, dir)
	}
	sum.add(e.Size)
	c.report.Total.add(e.Size)
	c.Removed(e.Name, e.Size)
	return nil
}

// leased returns the live lease that protects a backup's directory; nil if there is none.
func (c *cleaner) leased(ctx context.Context, dir string) (*notes.Lease, error) {
	leases, faults, err := c.a.Notes().Leases(ctx)
	if err == nil && len(faults) > 0 {
		err = faults[0]
	}
	if err != nil {
		return nil, err
	}
	for _, l := range leases {
		if holdsBackup(l, dir) && c.Live(l) {
			return &l, nil
		}
	}
	return nil, nil
}

// removeBackup removes a backup. A reader that takes a lease and then finds the manifest can read the whole backup:
// either removeBackup sees the lease, or it removed the manifest before the reader looked for it.
func (c *cleaner) removeBackup(ctx context.Context, b Judged) error {
	dir := backup.Dir(b.ID)
	l, err := c.leased(ctx, dir)
	if err != nil {
		return err
	}
	if l != nil {
		c.report.left(b, *l)
		return nil
	}
	objects, err := c.a.BackupObjects(ctx, b.ID)
	if err != nil {
		return err
	}
	r := RemovedBackup{ID: b.ID, Why: b.Why}
	if err := c.remove(ctx, &r.Sum, objects[0]); err != nil {
		return err
	}
	c.gone[b.ID] = true
	if l, err = c.leased(ctx, dir); err != nil {
		return err
	}
	if l != nil {
		c.report.left(b, *l)
		return nil
	}
	err = c.removeRest(ctx, &r.Sum, objects[1:])
	c.report.Backups = append(c.report.Backups, r)
	return err
}

// removeRest removes a backup's volumes and index.
func (c *cleaner) removeRest(ctx context.Context, sum *Sum, objects []storage.Entry) error {
	for _, e := range objects {
		if err := c.remove(ctx, sum, e); err != nil {
			return err
		}
	}
	return c.prune(ctx)
}

// removeUnfinished removes the rest of an interrupted backup or an interrupted removal. A backup that has been
// finished since the inventory was read has a manifest, and one that is being taken has a lease. removeUnfinished
// checks the lease first, because a backup gives its lease back after it has written the manifest.
func (c *cleaner) removeUnfinished(ctx context.Context, dir string) error {
	l, err := c.leased(ctx, dir)
	if err != nil || l != nil {
		return err
	}
	id := path.Base(dir)
	if finished, err := c.a.Finished(ctx, id); err != nil || finished {
		return err
	}
	objects, err := c.a.BackupObjects(ctx, id)
	if err != nil {
		return err
	}
	r := RemovedBackup{ID: id, Why: "it was never finished, or its removal was interrupted"}
	err = c.removeRest(ctx, &r.Sum, objects[1:])
	if r.Objects > 0 {
		c.report.Unfinished = append(c.report.Unfinished, r)
	}
	return err
}

// prune removes the directories that have become empty.
func (c *cleaner) prune(ctx context.Context) error {
	dirs := c.dirs
	c.dirs = nil
	if c.DryRun {
		return nil
	}
	return c.a.Prune(ctx, dirs...)
}

// cleanWAL removes the WAL that is not needed. It reads leases, standbys and backups again: a command that needs
// WAL meanwhile has a lease, or has left a backup when it gave the lease back. WAL that was archived since the first
// inventory stays.
func (c *cleaner) cleanWAL(ctx context.Context, inv *recovery.Inventory, first *Decision) error {
	inv, err := inv.Reread(ctx)
	if err != nil {
		return err
	}
	if err := c.dropLeases(ctx, inv); err != nil {
		return err
	}
	inv.Standbys = slices.DeleteFunc(inv.Standbys, func(s notes.Standby) bool { return s.ID == c.Forget })
	inv.Backups = slices.DeleteFunc(inv.Backups, func(b *backup.Manifest) bool { return c.gone[b.ID] })
	d := Decide(inv, Policy{}, c.Now) // existing backups stay
	if d.KeepAllWAL == "" {
		d.KeepAllWAL = first.KeepAllWAL
	}
	c.report.needed(inv, d)
	for o, err := range c.a.Objects(ctx) {
		if err == nil && !d.Needs(o.WAL, inv.SegmentSize) {
			err = c.remove(ctx, c.report.line(o.WAL), o.Entry)
		}
		if err != nil {
			return err
		}
	}
	if err := c.cleanNotes(ctx, inv, d); err != nil {
		return err
	}
	backups, err := c.a.List(ctx, archive.BackupsDir) // a failed backup may have left its directory
	if err != nil {
		return err
	}
	for _, e := range backups {
		if e.IsDir() {
			c.dirs = append(c.dirs, e.Name)
		}
	}
	return c.prune(ctx)
}

// outlived reports whether a note is about a segment that is not needed, or about a backup that is gone.
func (c *cleaner) outlived(note string, inv *recovery.Inventory, d *Decision) bool {
	of := strings.TrimSuffix(path.Base(note), ".json")
	if backup.CheckID(of) == nil {
		gone := inv.Backup(of) == nil && d.KeepAllBackups == "" && !slices.ContainsFunc(inv.Faults, func(f notes.Fault) bool { return strings.HasPrefix(f.Object, backup.Dir(of)) })
		return gone && notes.VerifiedName(of) == note
	}
	n, err := wal.ParseName(of)
	return err == nil && (notes.DamageName(n) == note || notes.VerifiedName(n.String()) == note) && !d.Needs(n, inv.SegmentSize)
}

// cleanNotes removes the notes of segments and backups that are gone, and streamed files of segments that nobody
// needs.
func (c *cleaner) cleanNotes(ctx context.Context, inv *recovery.Inventory, d *Decision) error {
	for _, dir := range []string{notes.DamagedDir, notes.VerifiedDir} {
		kept, err := c.a.List(ctx, dir)
		if err != nil {
			return err
		}
		for _, e := range kept {
			if !c.outlived(e.Name, inv, d) {
				continue
			}
			if err := c.remove(ctx, &c.report.Notes, e); err != nil {
				return err
			}
		}
	}
	for _, e := range inv.Streamed {
		// The streamed file of a needed segment stays, even if the archive has the segment: the stream compares the two.
		// The name of a file that was put aside begins with its segment's name.
		base, _, _ := strings.Cut(path.Base(e.Name), ".")
		n, err := wal.ParseName(base)
		if err != nil || e.IsDir() || d.Needs(n, inv.SegmentSize) {
			continue
		}
		if err := c.remove(ctx, &c.report.Streamed, e); err != nil {
			return err
		}
	}
	return nil
}
