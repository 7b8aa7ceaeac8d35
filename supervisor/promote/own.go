package promote

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"walkeep/common/archive"
	"walkeep/common/pgdata"
	"walkeep/common/recovery"
	"walkeep/common/wal"
)

// storeOwn archives the WAL that the standby has received and the archive lacks. If the old primary is lost, only the standby
// has that WAL, and the server does not archive it. Run calls storeOwn before it opens the server, because an open server
// recycles WAL of the old timeline.
func (p *promoter) storeOwn(ctx context.Context) error {
	err := p.archiveOwn(ctx)
	switch {
	case err == nil || ctx.Err() != nil && !p.Force:
		return err
	case errors.Is(err, errNotHere):
		p.Warn("run it on the standby's host, as the server's user, or take a base backup when the server is open",
			fmt.Sprintf("what only the standby has received is not archived: %v", err))
		return nil
	case p.Force:
		p.Warn("take a base backup when the server is open",
			fmt.Sprintf("what only the standby has received is not archived: %v", err))
		return nil
	}
	return fmt.Errorf("%w: %w", ErrNotStored, err)
}

// errNotHere reports that the standby's pg_wal cannot be read from this host.
var errNotHere = errors.New("its pg_wal cannot be read from here")

// archiveOwn archives the histories and the complete segments on the standby's way that the archive lacks, and keeps the
// part of the last segment as a stream would.
func (p *promoter) archiveOwn(ctx context.Context) error {
	if p.PGData == "" {
		return fmt.Errorf("%w: its data directory is not known", errNotHere)
	}
	names, err := os.ReadDir(filepath.Join(p.PGData, "pg_wal"))
	if err != nil {
		return fmt.Errorf("%w: %w", errNotHere, err)
	}
	if system, err := pgdata.SystemID(p.PGData); err != nil || system != p.info.SystemID {
		return fmt.Errorf("%w: %s is not its data directory", errNotHere, p.PGData)
	}
	s, err := p.replayed(ctx)
	end := max(s.Replayed, s.Received) // the server replays the rest when it opens
	if err != nil || end == 0 {
		return err
	}
	along, err := p.c.RecoversAlong(ctx)
	if err != nil {
		return err
	}
	tli := max(s.Timeline, along)
	if tli == 0 {
		return nil
	}
	way, err := p.ownHistory(ctx, tli)
	if errors.Is(err, errNoHistory) && s.Timeline != 0 && s.Timeline < tli {
		// A server that opens makes the first segment of its new timeline before the history, and may have been killed between.
		way, err = p.ownHistory(ctx, s.Timeline)
	}
	if err != nil {
		return err
	}
	size := uint64(p.info.SegmentSize)
	first, last := p.oldest(), uint64(end)/size // the last is not complete, if it is there
	stored := 0
	for _, e := range names {
		n, err := wal.ParseName(e.Name())
		if err != nil || n.Kind != wal.KindSegment {
			continue
		}
		number, err := n.Number(p.info.SegmentSize)
		if err != nil || number < first || number > last || n.Timeline != timelineOf(way, number, size) {
			continue
		}
		if there, err := p.a.HasName(ctx, n); err != nil {
			return err
		} else if there {
			continue
		}
		path := filepath.Join(p.PGData, "pg_wal", e.Name())
		if number == last && p.WholeOnly {
			continue // the server archives it, when it has opened and another segment is full
		}
		if number == last {
			if err := p.Spool.KeepPart(n, path, end, p.info.SegmentSize); err != nil {
				return err
			}
			continue
		}
		if err := p.Spool.Store(ctx, path); err != nil {
			return fmt.Errorf("archive %s: %w", path, err)
		}
		stored++
	}
	if stored > 0 {
		p.Step(fmt.Sprintf("%d segments that only the standby had are archived", stored))
		if p.inv, err = recovery.ReadInventory(ctx, p.a); err != nil {
			return err
		}
	}
	return nil
}

// ownHistory returns the history of the standby's timeline. It archives that history and those of the timelines on the way,
// if the standby has them.
func (p *promoter) ownHistory(ctx context.Context, tli wal.Timeline) (wal.History, error) {
	if tli == 1 {
		return wal.History{Timeline: tli}, nil
	}
	way, err := p.storeHistory(ctx, tli)
	if err != nil {
		return way, err
	}
	for _, e := range way.Entries {
		if e.Timeline == 1 {
			continue
		}
		if _, err := p.storeHistory(ctx, e.Timeline); err != nil && !errors.Is(err, errNoHistory) {
			return way, err
		}
	}
	return way, nil
}

// errNoHistory reports that neither the archive nor the standby has a timeline's history.
var errNoHistory = errors.New("the standby does not have the history")

func (p *promoter) storeHistory(ctx context.Context, tli wal.Timeline) (wal.History, error) {
	h, err := p.a.History(ctx, tli)
	if !errors.Is(err, archive.ErrNotStored) {
		return h, err
	}
	path := filepath.Join(p.PGData, "pg_wal", wal.Name{Kind: wal.KindHistory, Timeline: tli}.String())
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return h, fmt.Errorf("%w: %w", errNoHistory, err)
	}
	if err != nil {
		return h, err
	}
	if h, err = wal.ParseHistory(tli, text); err != nil {
		return h, fmt.Errorf("%s: %w", path, err)
	}
	return h, p.Spool.Store(ctx, path)
}

// timelineOf returns the timeline to which a segment on the way belongs. If a timeline begins within the segment, that is the
// later one.
func timelineOf(way wal.History, number, size uint64) wal.Timeline {
	for _, e := range way.Entries {
		if wal.LSN((number+1)*size) <= e.End {
			return e.Timeline
		}
	}
	return way.Timeline
}

// oldest returns the number of the oldest segment that the archive has or that one of its backups needs. Older ones
// need not be stored.
func (p *promoter) oldest() uint64 {
	var oldest uint64
	known := false
	lower := func(number uint64) {
		if !known || number < oldest {
			oldest, known = number, true
		}
	}
	for _, l := range p.inv.Lines {
		if len(l.Segments) > 0 {
			lower(l.Segments[0].First)
		}
	}
	for _, b := range p.inv.Backups {
		lower(uint64(b.Start) / uint64(p.info.SegmentSize))
	}
	return oldest
}
