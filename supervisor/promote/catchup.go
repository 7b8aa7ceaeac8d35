package promote

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"walkeep/common/archive"
	"walkeep/common/codec"
	"walkeep/common/recovery"
	"walkeep/common/wal"
	"walkeep/supervisor/pgserver"
)

// nudge is how often Run makes the standby look for WAL at once, before its wal_retrieve_retry_interval has passed.
const nudge = 250 * time.Millisecond

// still is the time without replay after which there is nothing more to replay.
const still = 2 * nudge

// storeComplete archives the segments that were streamed to their ends.
func (p *promoter) storeComplete(ctx context.Context) error {
	err := p.Spool.StoreComplete(ctx, nil)
	if err != nil && p.Force {
		p.Warn("", fmt.Sprintf("a streamed segment could not be archived, and the standby does not get it: %v", err))
		return nil
	}
	return err
}

// catchUp waits until the standby has replayed what the archive holds and what it has received.
func (p *promoter) catchUp(ctx context.Context, goal wal.Timeline) error {
	s, err := p.replayed(ctx)
	if err != nil {
		return err
	}
	to, hole, err := p.archived(ctx, goal, s)
	if err != nil {
		return err
	}
	if hole != "" {
		err := fmt.Errorf("%w: %s is missing from the archive, which holds later WAL", ErrBehind, hole)
		if !p.Force {
			return err
		}
		p.Warn("", err.Error())
	}
	if err := p.delayed(ctx, s, to); err != nil {
		return err
	}
	if to > s.Replayed {
		p.Step(fmt.Sprintf("waiting until the standby has replayed from %s to %s, the end of the archive", s.Replayed, to))
	}
	if err := p.replay(ctx, s, max(to, s.Replayed)); err != nil {
		return err
	}
	return p.settle(ctx, s)
}

// delayed returns ErrDelayed if the standby has WAL to replay and recovery_min_apply_delay makes it wait. Run does not
// override the setting: the user who set it may not want that WAL to be replayed.
func (p *promoter) delayed(ctx context.Context, last pgserver.Replay, to wal.LSN) error {
	delay, err := p.c.RecoverySetting(ctx, p.info.Major, "recovery_min_apply_delay")
	if err != nil || strings.Trim(delay, "0 ") == "" || strings.HasPrefix(delay, "0") {
		return nil // no delay is set, or the role may not read the setting
	}
	if p.info.Major >= 12 {
		delay += " ms"
	}
	for since := time.Now(); time.Since(since) < still; {
		s, err := p.replayed(ctx)
		if err != nil {
			return err
		}
		if s.Replayed >= max(to, s.Received) {
			return nil
		}
		if s.Replayed != last.Replayed {
			since = time.Now()
		}
		last = s
		if err := sleep(ctx); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: by %s; it has replayed to %s of %s", ErrDelayed, delay, last.Replayed, max(to, last.Received))
}

// settle waits until the standby has replayed what it has received, or replays nothing more: the last record may be
// incomplete.
func (p *promoter) settle(ctx context.Context, last pgserver.Replay) error {
	since := time.Now()
	for {
		s, err := p.replayed(ctx)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if err == nil {
			if s.Replayed != last.Replayed {
				since = time.Now()
			}
			if s.Replayed >= s.Received || time.Since(since) > still {
				return nil
			}
			last = s
		}
		if sleep(ctx) != nil {
			return fmt.Errorf("%w: it has replayed to %s, and received to %s", ErrBehind, last.Replayed, last.Received)
		}
	}
}

// replay waits until the standby, whose last known state is last, has replayed up to a position.
func (p *promoter) replay(ctx context.Context, last pgserver.Replay, to wal.LSN) error {
	var nudged time.Time
	at := last.Replayed
	for {
		s, err := p.replayed(ctx)
		if ctx.Err() == nil && err != nil {
			return err
		}
		if err == nil && s.Replayed >= to {
			return nil
		}
		at = max(at, s.Replayed)
		if time.Since(nudged) > nudge && ctx.Err() == nil {
			// While the WAL receiver waits for the primary, the standby does not look into the archive. The primary is down or
			// irrelevant by now, so Run ends the receiver.
			err := p.c.EndStreaming(ctx, p.PGData)
			if err == nil {
				err = p.c.Nudge(ctx)
			}
			if err != nil && ctx.Err() == nil {
				return err
			}
			nudged = time.Now()
		}
		if sleep(ctx) != nil {
			return fmt.Errorf("%w: it has replayed to %s, and did not reach %s within %s", ErrBehind, at, to, p.Timeout)
		}
	}
}

// archived returns how far the archive has WAL without a hole for a standby that has replayed up to a position of a
// timeline: the end of the last whole record. It also returns the segment that is missing although later WAL is there.
func (p *promoter) archived(ctx context.Context, goal wal.Timeline, s pgserver.Replay) (end wal.LSN, hole string, err error) {
	inv := p.inv
	has := max(s.Replayed, s.Received) // the received WAL may end within a record, which is not replayed
	size := uint64(inv.SegmentSize)
	if inv.Line(goal) == nil {
		return s.Replayed, "", nil
	}
	next, gap, err := inv.Contiguous(goal, uint64(has)/size)
	if err != nil {
		return 0, "", err
	}
	if gap != nil {
		hole = gap.First.String()
	} else if hole, err = streamedBehind(inv, goal, next); err != nil {
		return 0, "", err
	}
	for number := next; wal.LSN(number*size) > has; number-- {
		n, err := inv.NameOn(goal, number-1)
		if err != nil {
			return 0, hole, err
		}
		t, err := p.a.Trailer(ctx, n)
		switch {
		case err != nil:
			return 0, hole, fmt.Errorf("%s: %w", n, err)
		case t.WALCheck == codec.Damaged:
			return wal.LSN(t.DamageLSN), hole, nil
		case t.WALCheck != codec.Intact || t.End == 0:
			return wal.LSN((number-1)*size) + 1, hole, nil // the trailer does not say where records end, so wait until replay has entered the segment
		case t.End > t.Start:
			return wal.LSN(t.End), hole, nil
		}
	}
	return s.Replayed, hole, nil
}

// streamedBehind returns the name of the segment with the number next if a later segment was streamed; else it returns "".
func streamedBehind(inv *recovery.Inventory, tli wal.Timeline, next uint64) (hole string, err error) {
	for _, e := range inv.Streamed {
		n, ok := archive.StreamedOf(e)
		if !ok || n.Timeline != tli {
			continue
		}
		if number, err := n.Number(inv.SegmentSize); err == nil && number > next {
			missing, err := inv.NameOn(tli, next)
			return missing.String(), err
		}
	}
	return "", nil
}

// goal returns the timeline that the standby recovers along, as recovery_target_timeline says: its own, a fixed one, or the
// newest timeline that descends from its own.
func (p *promoter) goal(ctx context.Context, s pgserver.Replay) (wal.Timeline, error) {
	along, err := p.c.RecoversAlong(ctx)
	if err != nil {
		return 0, err
	}
	tli := max(s.Timeline, along)
	setting, err := p.c.RecoverySetting(ctx, p.info.Major, "recovery_target_timeline")
	if err != nil {
		return 0, err
	}
	if n, err := strconv.ParseUint(setting, 10, 32); err == nil {
		return wal.Timeline(n), nil
	}
	if setting != "latest" {
		return tli, nil
	}
	for _, l := range slices.Backward(p.inv.Lines) {
		from := slices.IndexFunc(l.History.Entries, func(e wal.HistoryEntry) bool { return e.Timeline == tli && e.End >= s.Replayed })
		if from >= 0 {
			return l.Timeline, nil
		}
	}
	return tli, nil
}
