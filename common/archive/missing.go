package archive

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

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
	entries, err := a.b.List(ctx, "wal/")
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		name := path.Base(e.Name)
		if e.IsDir() {
			if strings.HasPrefix(name, tli.String()) {
				return fmt.Sprintf("%s holds files of this timeline", e.Name), nil
			}
			continue
		}
		later, err := wal.ParseTimeline(strings.SplitN(name, ".", 2)[0])
		if err != nil || later <= tli {
			continue
		}
		h, err := a.History(ctx, later)
		if err != nil {
			return "", err
		}
		for _, ancestor := range h.Entries {
			if ancestor.Timeline == tli {
				return fmt.Sprintf("timeline %d comes from it", later), nil
			}
		}
	}
	return "", nil
}

// segmentSkipped tells what shows that a segment must have existed: a later file of its timeline, unless the timeline
// only begins after the segment.
func (a *Archive) segmentSkipped(ctx context.Context, n wal.Name, id Identity) (string, error) {
	later, err := a.laterFile(ctx, n)
	if err != nil || later == "" {
		return "", err
	}
	why := fmt.Sprintf("%s is there", later)
	if n.Timeline == 1 {
		return why, nil // the first timeline has no history: it begins with the cluster
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

// laterFile finds an object of the same timeline that lies after a segment; "" if there is none.
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
			base := path.Base(f.Name)
			if len(base) < len(n.String()) {
				continue
			}
			// Whatever follows the 24 digits, a segment, a part of it or a label, shows that WAL went on to there.
			other, err := wal.ParseName(base[:len(n.String())])
			if err == nil && other.Timeline == n.Timeline && wal.Compare(n, other) < 0 {
				return f.Name, nil
			}
		}
	}
	return "", nil
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
	var text memory
	if _, err := a.deliver(ctx, n, Identity{}, found[0], &text); err != nil {
		return wal.History{}, fmt.Errorf("%s: %w", found[0].Name, err)
	}
	h, err := wal.ParseHistory(tli, text)
	if err != nil {
		return h, fmt.Errorf("%s: %w: %w", found[0].Name, ErrDamaged, err)
	}
	return h, nil
}

// memory takes a small file.
type memory []byte

func (m *memory) WriteAt(p []byte, at int64) (int, error) {
	end := int(at) + len(p)
	if end > maxSmall {
		return 0, fmt.Errorf("more than %d bytes", maxSmall)
	}
	if end > len(*m) {
		*m = append(*m, make([]byte, end-len(*m))...)
	}
	return copy((*m)[at:], p), nil
}
