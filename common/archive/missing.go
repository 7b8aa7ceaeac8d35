package archive

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"

	"walkeep/common/wal"
)

// missing says what it means that the archive holds no object of a file: [ErrAbsent] if nothing shows that it ever
// existed, [ErrGap] if something does. PostgreSQL asks for files that do not exist all the time, and ends recovery, or
// takes a timeline's number, at the first that is said to be absent.
func (a *Archive) missing(ctx context.Context, n wal.Name, id Identity) error {
	var why string
	var err error
	switch n.Kind {
	case wal.KindHistory:
		why, err = a.timelineUsed(ctx, n.Timeline)
	case wal.KindSegment:
		why, err = a.segmentSkipped(ctx, n, id)
	}
	if err != nil {
		return err
	}
	if why != "" {
		return fmt.Errorf("%s is %w: %s", n, ErrGap, why)
	}
	return fmt.Errorf("%s is %w", n, ErrAbsent)
}

// timelineUsed tells what shows that a timeline has been used, although its history is not there; "" if nothing does.
func (a *Archive) timelineUsed(ctx context.Context, tli wal.Timeline) (string, error) {
	if tli == 1 {
		return "", nil // the first timeline has no history, and PostgreSQL asks for it when it leaves that timeline
	}
	dirs, err := a.b.List(ctx, "wal/"+tli.String())
	if err != nil {
		return "", err
	}
	for _, d := range dirs {
		if !d.IsDir() {
			continue
		}
		// A directory alone says nothing: a Push that failed may have made it.
		files, err := a.b.List(ctx, d.Name)
		if err != nil {
			return "", err
		}
		if len(files) > 0 {
			return fmt.Sprintf("%s holds files of this timeline", d.Name), nil
		}
	}
	child, _, err := a.leftBy(ctx, tli, 0)
	if err != nil || child == 0 {
		return "", err
	}
	return fmt.Sprintf("timeline %d comes from it", child), nil
}

// leftBy finds a later timeline whose history says that it comes from tli, which was left beyond the given position;
// 0 if there is none. It also gives where that was.
func (a *Archive) leftBy(ctx context.Context, tli wal.Timeline, beyond wal.LSN) (wal.Timeline, wal.LSN, error) {
	entries, err := a.b.List(ctx, "wal/")
	if err != nil {
		return 0, 0, err
	}
	for _, e := range entries {
		later, err := wal.ParseTimeline(strings.SplitN(path.Base(e.Name), ".", 2)[0])
		if err != nil || e.IsDir() || later <= tli {
			continue
		}
		h, err := a.History(ctx, later)
		if err != nil {
			return 0, 0, err
		}
		for _, ancestor := range h.Entries {
			if ancestor.Timeline == tli && ancestor.End > beyond {
				return later, ancestor.End, nil
			}
		}
	}
	return 0, 0, nil
}

// segmentSkipped tells what shows that a segment must have existed: a later file of its timeline, or a later timeline
// that comes from it and left it after the segment; unless the timeline only begins after the segment.
func (a *Archive) segmentSkipped(ctx context.Context, n wal.Name, id Identity) (string, error) {
	why, err := a.wentOn(ctx, n, id)
	if err != nil || why == "" || n.Timeline == 1 {
		return why, err // the first timeline has no history: it begins with the cluster
	}
	h, err := a.History(ctx, n.Timeline)
	if errors.Is(err, ErrAbsent) || errors.Is(err, ErrGap) {
		return fmt.Sprintf("%s, and %s.history, which would say where the timeline begins, is not", why, n.Timeline), nil
	}
	if err != nil {
		return "", err
	}
	first := wal.SegmentAt(n.Timeline, h.Begin(), id.SegmentSize)
	if wal.Compare(n, first) < 0 {
		return "", nil
	}
	return why, nil
}

// wentOn tells what shows that a timeline went on to the end of a segment or beyond; "" if nothing does.
func (a *Archive) wentOn(ctx context.Context, n wal.Name, id Identity) (string, error) {
	later, err := a.laterFile(ctx, n)
	if err != nil {
		return "", err
	}
	if later != "" {
		return fmt.Sprintf("%s is there", later), nil
	}
	// Where a timeline is left in the middle of a segment, that one goes on under the new timeline's name.
	start, err := n.Start(id.SegmentSize)
	if err != nil {
		return "", nil // no segment of this archive can have the name
	}
	last := start + wal.LSN(id.SegmentSize) - 1
	child, end, err := a.leftBy(ctx, n.Timeline, last)
	if err != nil || child == 0 {
		return "", err
	}
	return fmt.Sprintf("timeline %d comes from it at %s", child, end), nil
}

// laterFile finds an object that shows that a segment's timeline went on after it; "" if there is none.
func (a *Archive) laterFile(ctx context.Context, n wal.Name) (string, error) {
	dirs, err := a.b.List(ctx, "wal/"+n.Timeline.String())
	if err != nil {
		return "", err
	}
	for _, d := range dirs {
		if !d.IsDir() || d.Name < directory(n) {
			continue
		}
		files, err := a.b.List(ctx, d.Name)
		if err != nil {
			return "", err
		}
		for _, f := range files {
			if comesAfter(path.Base(f.Name), n) {
				return f.Name, nil
			}
		}
	}
	return "", nil
}

// comesAfter tells whether an object could only be there after a segment was complete. Whatever follows the 24 digits,
// a segment, a part of it or a label, WAL went on to there; and the label of a backup is written when the segment in
// which the backup began is full.
func comesAfter(object string, n wal.Name) bool {
	digits := len(n.String())
	if len(object) < digits {
		return false
	}
	other, err := wal.ParseName(object[:digits])
	if err != nil || other.Timeline != n.Timeline {
		return false
	}
	if other == n {
		const label = ".00000028.backup"
		own, err := wal.ParseName(object[:min(len(object), digits+len(label))])
		return err == nil && own.Kind == wal.KindBackup
	}
	return wal.Compare(n, other) < 0
}

// History reads the history of a timeline; [ErrAbsent] if it is not there.
func (a *Archive) History(ctx context.Context, tli wal.Timeline) (wal.History, error) {
	n := wal.Name{Kind: wal.KindHistory, Timeline: tli}
	found, err := a.find(ctx, n)
	if err != nil {
		return wal.History{}, err
	}
	if len(found) == 0 {
		return wal.History{}, fmt.Errorf("%s is %w", n, ErrAbsent)
	}
	if len(found) > 1 {
		if err := a.checkAgree(ctx, n, found); err != nil {
			return wal.History{}, err
		}
	}
	var text memory
	if _, err := a.deliver(ctx, n, Identity{}, found[0], &text); err != nil {
		return wal.History{}, fmt.Errorf("%s: %w", found[0].Name, err)
	}
	h, err := wal.ParseHistory(tli, text.b)
	if err != nil {
		return h, fmt.Errorf("%s: %w: %w", found[0].Name, ErrDamaged, err)
	}
	return h, nil
}

// memory takes a small file.
type memory struct {
	mu sync.Mutex
	b  []byte
}

func (m *memory) WriteAt(p []byte, at int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	end := int(at) + len(p)
	if end > maxSmall {
		return 0, fmt.Errorf("more than %d bytes", maxSmall)
	}
	if end > len(m.b) {
		m.b = append(m.b, make([]byte, end-len(m.b))...)
	}
	return copy(m.b[at:], p), nil
}
