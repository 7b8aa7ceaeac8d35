package retain

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
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
	DryRun bool // remove nothing, and report what would be marked and removed
	// Grace is how long objects are marked before they are removed; 0: they are removed at once.
	Grace time.Duration
	By    By // who marks
	// Shipped is set for a spool from which everything leaves for repositories: WAL and finished backups stay for shipping, and
	// only what killed commands have left is removed.
	Shipped bool
	// Others are notes in other places, such as this host's spool, whose leases and standbys count as well.
	Others []notes.Notes
	Forget string // a standby whose note is removed first; may be empty
	// ForgetStream is the slot of a stream whose note is removed; may be empty.
	ForgetStream string
	// Live reports whether the holder of a lease lives; nil: notes.Lease.Live.
	Live func(notes.Lease) bool
	// Removed is called for each object that is removed, and Marked for each that is marked; they may be nil.
	Removed, Marked func(object string, bytes int64)
}

// ErrNoStandby reports that the archive has no note of the standby to be forgotten.
var ErrNoStandby = cli.NewError("there is no note of this standby",
	"{status} lists the known standbys")

// ErrNoStream reports that the archive has no note of the stream to be forgotten.
var ErrNoStream = cli.NewError("there is no note of such a stream",
	"{status} lists the known streams")

// ErrRefused reports that the store does not let this caller remove objects. It is final until the store allows it.
var ErrRefused = cli.NewError("the store does not let cleanup remove objects",
	"cleanup needs a credential that may delete objects (of S3: s3:DeleteObject, s3:ListBucketMultipartUploads and s3:AbortMultipartUpload; of a directory or SFTP: write permission for its directories); objects under object lock can be removed when their retention has ended")

// errRefused is the error of remove for one object that the report lists as refused.
var errRefused = errors.New("refused")

// refused passes over the refusal of a removal, after which a cleanup continues with other objects.
func refused(err error) error {
	if errors.Is(err, errRefused) {
		return nil
	}
	return err
}

// staleWrites is the age from which on unfinished uploads are removed.
const staleWrites = 24 * time.Hour

// Clean removes what the archive does not need, or marks it first if there is a Grace. The report lists what was removed, also before an error. A cleanup
// may run while WAL is archived, and while backups, restores and drills run: it respects their leases. Where the store
// refuses a removal, the cleanup continues with what can be removed without it, and the error is [ErrRefused].
func Clean(ctx context.Context, a *archive.Archive, o Options) (*Report, error) {
	if o.Live == nil {
		o.Live = notes.Lease.Live
	}
	if o.Removed == nil {
		o.Removed = func(string, int64) {}
	}
	if o.Marked == nil {
		o.Marked = func(string, int64) {}
	}
	c := cleaner{Options: o, a: a, clock: o.Now, gone: make(map[string]bool), cleared: make(map[string]bool), dropped: make(map[wal.Timeline]bool), report: newReport(o.DryRun)}
	err := c.run(ctx)
	if n := len(c.report.Refused); err == nil && n > 0 {
		err = fmt.Errorf("%w: %d refused, the first is %s", ErrRefused, n, c.report.Refused[0])
	}
	return &c.report, err
}

type cleaner struct {
	Options
	a       *archive.Archive
	clock   time.Time             // this host's
	gone    map[string]bool       // backups whose manifest was removed, by id
	cleared map[string]bool       // backups of which nothing is left, by id
	dropped map[wal.Timeline]bool // marked timelines of which nothing is left
	marks   marks
	dirs    []string // in which something was removed
	report  Report
}

func (c *cleaner) run(ctx context.Context) error {
	inv, err := recovery.ReadInventory(ctx, c.a)
	if err != nil {
		return err
	}
	if err := c.dropLeases(ctx, inv); err != nil {
		return err
	}
	if err := c.takeOthers(ctx, inv); err != nil {
		return err
	}
	c.report.Faults = inv.Faults
	if err := c.forget(ctx, inv); err != nil {
		return err
	}
	c.setClock(ctx, inv)
	c.readMarks(inv)
	if inv, err = c.dropMarked(ctx, inv); err != nil {
		return err
	}
	d := Decide(inv, c.Policy, c.Now)
	if c.Shipped {
		d.spare("WAL and backups leave the spool when all repositories hold them")
	}
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
	if err := c.cleanWAL(ctx, inv, d); err != nil {
		return err
	}
	return c.sweep(ctx)
}

// takeOthers adds the live leases and the standbys of other places to an inventory.
func (c *cleaner) takeOthers(ctx context.Context, inv *recovery.Inventory) error {
	for _, n := range c.Others {
		leases, faults, err := n.Leases(ctx)
		if err != nil {
			return err
		}
		standbys, more, err := n.Standbys(ctx)
		if err != nil {
			return err
		}
		for _, l := range leases {
			if c.Live(l) && !slices.ContainsFunc(inv.Leases, func(o notes.Lease) bool { return o.ID == l.ID }) {
				inv.Leases = append(inv.Leases, l)
			}
		}
		for _, s := range standbys {
			if s.ID != c.Forget {
				inv.Standbys = append(inv.Standbys, s) // of two notes of one standby, the earlier position counts
			}
		}
		inv.Faults = slices.Concat(inv.Faults, faults, more)
	}
	return nil
}

// sweep removes what killed writers have left.
func (c *cleaner) sweep(ctx context.Context) error {
	b, ok := storage.As[storage.Sweeper](c.a.Backend())
	if !ok || c.DryRun {
		return nil
	}
	n, err := b.AbortStale(ctx, staleWrites)
	c.report.Stale += n
	if errors.Is(err, storage.ErrDenied) {
		return refused(c.refuse(ctx, "uploads that were not completed", err))
	}
	if err != nil && ctx.Err() == nil { // they cost space, and hide nothing
		c.report.Faults = append(c.report.Faults, notes.Fault{Object: "uploads that were not completed", Err: err})
		return nil
	}
	return err
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
	c.report.clock(fmt.Sprintf("this host's clock is at %s, and the newest time in the archive is %s: the days are counted back from the latter", c.Now.UTC().Format(time.RFC3339), newest.UTC().Format(time.RFC3339)))
	c.Now = newest
}

// dropLeases removes dead leases from the archive and from the inventory.
func (c *cleaner) dropLeases(ctx context.Context, inv *recovery.Inventory) error {
	for _, l := range inv.Leases {
		if c.Live(l) || slices.ContainsFunc(c.report.Leases, func(d notes.Lease) bool { return d.ID == l.ID }) {
			continue
		}
		err := c.remove(ctx, &c.report.Notes, storage.Entry{Name: notes.LeaseName(l.ID)})
		if errors.Is(err, errRefused) {
			continue // it protects nothing
		}
		if err != nil {
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
		if err := c.remove(ctx, &c.report.Notes, storage.Entry{Name: notes.StreamName(c.ForgetStream)}); refused(err) != nil {
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
	return refused(c.remove(ctx, &c.report.Notes, storage.Entry{Name: notes.StandbyName(c.Forget)}))
}

// refuse records that the store has refused to remove something, and returns errRefused.
func (c *cleaner) refuse(ctx context.Context, what string, err error) error {
	r := Refused{Object: what, Reason: err.Error()}
	if b, ok := storage.As[storage.Locker](c.a.Backend()); ok {
		if until, err := b.LockedUntil(ctx, what); err == nil && !until.IsZero() {
			until = until.UTC()
			r.LockedUntil = &until
		}
	}
	c.report.Refused = append(c.report.Refused, r)
	return errRefused
}

// remove removes one object, and counts it. It succeeds if the object is already gone. The error is errRefused if the store
// refuses.
func (c *cleaner) remove(ctx context.Context, sum *Sum, e storage.Entry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !c.DryRun {
		err := c.a.Backend().Remove(ctx, e.Name)
		if errors.Is(err, storage.ErrNotExist) {
			return nil
		}
		if errors.Is(err, storage.ErrDenied) {
			return c.refuse(ctx, e.Name, err)
		}
		if err != nil {
			return fmt.Errorf("remove %s: %w", e.Name, err)
		}
	}
	c.count(sum, e)
	return nil
}

// count counts an object that was removed.
func (c *cleaner) count(sum *Sum, e storage.Entry) {
	if dir := path.Dir(e.Name) + "/"; !slices.Contains(c.dirs[max(0, len(c.dirs)-1):], dir) {
		c.dirs = append(c.dirs, dir)
	}
	sum.add(e.Size)
	c.report.Total.add(e.Size)
	c.Removed(e.Name, e.Size)
}

// leased returns the live lease that protects a backup's directory; nil if there is none.
func (c *cleaner) leased(ctx context.Context, dir string) (*notes.Lease, error) {
	for _, n := range append([]notes.Notes{c.a.Notes()}, c.Others...) {
		leases, faults, err := n.Leases(ctx)
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
	}
	return nil, nil
}

// removeBackup removes a backup. A reader that takes a lease and then finds the manifest can read the whole backup:
// either removeBackup sees the lease, or it removed the manifest before the reader looked for it.
func (c *cleaner) removeBackup(ctx context.Context, b Judged) error {
	dir := backup.Dir(b.ID)
	if due, err := c.confirmBackup(ctx, b.ID); err != nil {
		return err
	} else if !due {
		return c.markBackup(ctx, &c.report.MarkedBackups, b.ID, b.Why)
	}
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
		return refused(err) // the backup stays whole, and so does its WAL
	}
	c.gone[b.ID] = true
	if l, err = c.leased(ctx, dir); err != nil {
		return err
	}
	if l != nil {
		c.report.left(b, *l)
		return nil
	}
	err = c.removeRest(ctx, &r.Sum, b.ID, objects[1:])
	c.report.Backups = append(c.report.Backups, r)
	return err
}

// removeRest removes a backup's volumes and index.
func (c *cleaner) removeRest(ctx context.Context, sum *Sum, id string, objects []storage.Entry) error {
	left := false
	for _, e := range objects {
		err := c.remove(ctx, sum, e)
		left = left || errors.Is(err, errRefused)
		if refused(err) != nil {
			return err
		}
	}
	c.cleared[id] = !left
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
	const why = "it was never finished, or its removal was interrupted"
	if due, err := c.confirmBackup(ctx, id); err != nil {
		return err
	} else if !due {
		return c.markBackup(ctx, &c.report.MarkedUnfinished, id, why)
	}
	if finished, err := c.a.Finished(ctx, id); err != nil || finished {
		return err
	}
	objects, err := c.a.BackupObjects(ctx, id)
	if err != nil {
		return err
	}
	r := RemovedBackup{ID: id, Why: why}
	err = c.removeRest(ctx, &r.Sum, id, objects[1:])
	if r.Objects > 0 {
		c.report.Unfinished = append(c.report.Unfinished, r)
	}
	return err
}

// prune removes the directories that have become empty.
func (c *cleaner) prune(ctx context.Context) error {
	slices.Sort(c.dirs)
	dirs := slices.Compact(c.dirs)
	slices.Reverse(dirs) // what is inside comes first
	c.dirs = nil
	if c.DryRun {
		return nil
	}
	err := c.a.Prune(ctx, dirs...)
	if errors.Is(err, storage.ErrDenied) {
		return refused(c.refuse(ctx, "empty directories", err))
	}
	return err
}

// cleanWAL removes the WAL that is not needed, or marks it. It reads leases, standbys and backups again: a command that needs
// WAL meanwhile has a lease, or has left a backup when it gave the lease back. WAL that was archived since the first
// inventory stays.
func (c *cleaner) cleanWAL(ctx context.Context, inv *recovery.Inventory, first *Decision) error {
	began := inv
	inv, err := inv.Reread(ctx)
	if err != nil {
		return err
	}
	if err := c.dropLeases(ctx, inv); err != nil {
		return err
	}
	inv.Standbys = slices.DeleteFunc(inv.Standbys, func(s notes.Standby) bool { return s.ID == c.Forget })
	if err := c.takeOthers(ctx, inv); err != nil {
		return err
	}
	inv.Backups = slices.DeleteFunc(inv.Backups, func(b *backup.Manifest) bool { return c.gone[b.ID] })
	// Existing backups stay. now is what may be removed beside them, and plan what is not needed once the marked ones are gone.
	now := Decide(inv, Policy{}, c.Now)
	plan := now
	if len(c.marks.backups) > 0 {
		after := *inv
		after.Backups = slices.DeleteFunc(slices.Clone(inv.Backups), func(b *backup.Manifest) bool { return c.marks.backups[b.ID] })
		plan = Decide(&after, Policy{}, c.Now)
	}
	for _, d := range []*Decision{now, plan} {
		if d.KeepAllWAL == "" {
			d.KeepAllWAL = first.KeepAllWAL
		}
	}
	c.report.needed(inv, plan)
	if err := c.confirm(ctx); err != nil {
		return err
	}
	w := walk{cleaner: c, inv: inv, now: now, plan: plan, left: make(segments), unruled: make(segments), stuck: make(map[wal.Timeline]bool)}
	keep := w.byRules(began)
	if err := w.removeWAL(ctx); err != nil {
		return err
	}
	unruledStream, err := w.removeStreamed(ctx)
	if err != nil {
		return err
	}
	if err := w.cleanNotes(ctx); err != nil {
		return err
	}
	unruled := w.unruled
	if w.rules == nil {
		unruled, unruledStream = nil, nil
	}
	if err := c.settle(ctx, inv.SegmentSize, keep, unruled, unruledStream); err != nil {
		return err
	}
	backups, err := c.a.List(ctx, archive.BackupsDir) // a failed backup may have left its directory
	if err != nil {
		return err
	}
	if _, ok := storage.As[storage.Pruner](c.a.Backend()); ok {
		logs, err := c.a.LogDirs(ctx, 0)
		if err != nil {
			return err
		}
		backups = append(backups, logs...) // killed writers may have left files there
	}
	for _, e := range backups {
		if e.IsDir() {
			c.dirs = append(c.dirs, e.Name)
		}
	}
	return c.prune(ctx)
}
