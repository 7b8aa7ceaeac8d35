package recovery

import (
	"context"
	"errors"
	"fmt"
	"io"

	"walkeep/common/archive"
	"walkeep/common/wal"
)

// Errors of Fetch, to be found with errors.Is.
var (
	// ErrAbsent says that the file is proven not to be there, and that nothing shows that it ever was.
	ErrAbsent = errors.New("not in the archive")
	// ErrGap says that the file is missing although it must once have existed.
	ErrGap = errors.New("missing from the archive, which holds what came after it")
)

// Fetch delivers a file to a server that recovers; see [archive.Archive.Deliver]. If no object of the file is there,
// the error is [ErrAbsent] if that is proven and nothing shows that the file ever existed, [ErrGap] if it must have
// existed, and any other error if neither can be determined.
func Fetch(ctx context.Context, of *archive.Archive, n wal.Name, cluster wal.SystemID, w io.WriterAt) (got archive.Fetched, err error) {
	err = Try(ctx, of, n, func() error {
		got, err = of.Deliver(ctx, n, cluster, w)
		return err
	})
	return got, err
}

// Try calls deliver, which reads a file from an archive. If its error is [archive.ErrNotStored], Try determines what that means, and
// calls deliver again, because the file may have come meanwhile. Errors are those of Fetch.
func Try(ctx context.Context, of *archive.Archive, n wal.Name, deliver func() error) error {
	err := deliver()
	if !errors.Is(err, archive.ErrNotStored) {
		return err
	}
	id, bad := of.Identity(ctx)
	if bad != nil {
		return bad
	}
	missing := reader{of}.missing(ctx, n, id)
	if err = deliver(); errors.Is(err, archive.ErrNotStored) {
		err = missing
	}
	return err
}

// missing returns what it means that the archive holds no object of a file: [ErrAbsent] if nothing shows that the file
// ever existed, [ErrGap] if something does. PostgreSQL asks for files that do not exist all the time. At the first one
// that is reported as absent it ends recovery, or uses a timeline's number.
func (a reader) missing(ctx context.Context, n wal.Name, id archive.Identity) error {
	if err := a.CheckWAL(ctx); err != nil {
		return err
	}
	var why string
	if n.Kind == wal.KindHistory || n.Kind == wal.KindSegment {
		inv := &Inventory{Identity: id, a: a}
		err := a.takeEvidence(ctx, inv)
		if err != nil {
			return err
		}
		if err := a.checkEmpty(ctx, inv); err != nil {
			return err
		}
		if n.Kind == wal.KindHistory {
			why, err = a.timelineUsed(ctx, n.Timeline, inv)
		} else {
			why, err = a.segmentSkipped(ctx, n, inv)
		}
		if err != nil {
			return err
		}
	}
	if why != "" {
		return fmt.Errorf("%s is %w: %s", n, ErrGap, why)
	}
	return fmt.Errorf("%s is %w", n, ErrAbsent)
}

// checkEmpty fails if wal/ is empty although there are backups, which always have WAL: most likely a file system is not
// mounted there.
func (a reader) checkEmpty(ctx context.Context, inv *Inventory) error {
	if len(inv.Backups) == 0 {
		return nil
	}
	entries, err := a.List(ctx, archive.WALDir)
	if err == nil && len(entries) == 0 {
		err = fmt.Errorf("%w: it is empty, although there are backups", archive.ErrNoWAL)
	}
	return err
}

// timelineUsed returns the reason why a timeline must have been used, although its history is not there; "" if there is
// none.
func (a reader) timelineUsed(ctx context.Context, tli wal.Timeline, inv *Inventory) (string, error) {
	if tli == 1 {
		return "", nil // the first timeline has no history, and PostgreSQL asks for it when it leaves that timeline
	}
	dirs, err := a.LogDirs(ctx, tli)
	if err != nil {
		return "", err
	}
	for _, d := range dirs {
		// A directory alone says nothing: a Push that failed may have made it.
		files, err := a.List(ctx, d.Name)
		if err != nil {
			return "", err
		}
		if len(files) > 0 {
			return fmt.Sprintf("%s holds files of this timeline", d.Name), nil
		}
	}
	for _, e := range inv.evidence() {
		if e.Timeline == tli && !e.Shipped {
			return e.Why, nil
		}
	}
	child, _, err := a.leftBy(ctx, tli, 0)
	if err != nil || child == 0 {
		return "", err
	}
	return fmt.Sprintf("timeline %d comes from it", child), nil
}

// leftBy finds a later timeline that descends from tli, according to its history, and left tli behind the given
// position. It returns that timeline and the position where tli was left; 0 if there is none.
func (a reader) leftBy(ctx context.Context, tli wal.Timeline, beyond wal.LSN) (wal.Timeline, wal.LSN, error) {
	entries, err := a.List(ctx, archive.WALDir)
	if err != nil {
		return 0, 0, err
	}
	histories, err := a.StreamedHistories(ctx)
	if err != nil {
		return 0, 0, err
	}
	for _, e := range entries {
		o, ok := archive.ParseObject(e)
		if !ok || o.WAL.Kind != wal.KindHistory || o.WAL.Timeline <= tli {
			continue
		}
		h, err := a.History(ctx, o.WAL.Timeline)
		if err != nil {
			return 0, 0, err
		}
		histories = append(histories, h)
	}
	for _, h := range histories {
		for _, ancestor := range h.Entries {
			if ancestor.Timeline == tli && ancestor.End > beyond {
				return h.Timeline, ancestor.End, nil
			}
		}
	}
	return 0, 0, nil
}

// segmentSkipped returns the reason why a segment must have existed: a later file of its timeline, or a later timeline
// that left this one after the segment. It returns "" if there is none, or if the timeline only begins after the
// segment.
func (a reader) segmentSkipped(ctx context.Context, n wal.Name, inv *Inventory) (string, error) {
	why, err := a.wentOn(ctx, n, inv)
	if err != nil || why == "" || n.Timeline == 1 {
		return why, err // the first timeline has no history: it begins with the cluster
	}
	h, err := a.History(ctx, n.Timeline)
	if errors.Is(err, archive.ErrNotStored) {
		return fmt.Sprintf("%s, and %s.history, which would say where the timeline begins, is not", why, n.Timeline), nil
	}
	if err != nil {
		return "", err
	}
	first := wal.SegmentAt(n.Timeline, h.Begin(), inv.SegmentSize)
	if wal.Compare(n, first) < 0 {
		return "", nil
	}
	return why, nil
}

// wentOn returns the reason why a timeline must have reached the end of a segment, or more; "" if there is none.
func (a reader) wentOn(ctx context.Context, n wal.Name, inv *Inventory) (string, error) {
	later, err := a.laterFile(ctx, n)
	if err != nil {
		return "", err
	}
	if later != "" {
		return fmt.Sprintf("%s is there", later), nil
	}
	// Where a timeline is left in the middle of a segment, that segment continues under the new timeline's name.
	start, err := n.Start(inv.SegmentSize)
	if err != nil {
		return "", nil // no segment of this archive can have the name
	}
	for _, e := range inv.evidence() {
		if e.Timeline == n.Timeline && e.Next > uint64(start)/uint64(inv.SegmentSize) {
			return e.Why, nil
		}
	}
	last := start + wal.LSN(inv.SegmentSize) - 1
	child, end, err := a.leftBy(ctx, n.Timeline, last)
	if err != nil || child == 0 {
		return "", err
	}
	return fmt.Sprintf("timeline %d comes from it at %s", child, end), nil
}

// laterFile finds an object that shows that a segment's timeline continued after it; "" if there is none.
func (a reader) laterFile(ctx context.Context, n wal.Name) (string, error) {
	dirs, err := a.LogDirs(ctx, n.Timeline)
	if err != nil {
		return "", err
	}
	for _, d := range dirs {
		if d.Name < archive.Directory(n) {
			continue
		}
		files, err := a.List(ctx, d.Name)
		if err != nil {
			return "", err
		}
		for _, f := range files {
			o, ok := archive.ParseObject(f)
			if other := o.WAL; ok && other.Timeline == n.Timeline && (wal.Compare(n, other.Segment()) < 0 || n == other.Segment() && archive.Completes(other)) {
				return f.Name, nil
			}
		}
	}
	return "", nil
}
