package recovery

import (
	"context"
	"fmt"
	"path"

	"walkeep/common/wal"
)

// An Evidence shows that a timeline was used, and how far its WAL has gone, wherever that WAL is now.
type Evidence struct {
	Timeline wal.Timeline
	Next     uint64 // every segment with a lower number was complete
	Why      string
	Streamed bool // it is the name of a streamed part alone
	// Shipped says that it is a mark of ship, which stays for a while after a timeline was dropped and its number is free again.
	Shipped bool
}

// evidence returns what shows, beside the listing of wal/, how far timelines have gone: streamed parts, notes of
// streams, notes of what was shipped, and backups. These must be listed before wal/ is: otherwise a file that moves from
// partial/ to wal/ in between would seem lost.
func (inv *Inventory) evidence() []Evidence {
	var found []Evidence
	add := func(tli wal.Timeline, next uint64, format string, args ...any) {
		found = append(found, Evidence{Timeline: tli, Next: next, Why: fmt.Sprintf(format, args...)})
	}
	size := uint64(inv.SegmentSize)
	for _, b := range inv.Backups {
		add(b.Timeline, uint64(max(b.Start, b.Stop-1))/size+1, "there was WAL up to %s, where backup %s ended", b.Stop, b.ID)
	}
	for _, s := range inv.Streams {
		if s.Timeline != 0 {
			add(s.Timeline, uint64(s.Flushed)/size, "stream %s has reported its WAL as durable up to %s", s.Slot, s.Flushed)
		}
	}
	for _, s := range inv.Streams {
		for _, skip := range s.Skipped {
			add(skip.Timeline, uint64(skip.To)/size, "stream %s could not have it, because the server had removed it", s.Slot)
		}
	}
	for _, s := range inv.Shippings { // a repository that was put back from an older copy holds less than it did
		for _, m := range s.Marks {
			add(m.Timeline, uint64(m.LSN)/size, "repository %s has held its WAL up to %s", s.Repository, m.LSN)
			found[len(found)-1].Shipped = true
		}
	}
	for _, e := range inv.Streamed {
		base := path.Base(e.Name)
		n, err := wal.ParseName(base[:min(24, len(base))])
		switch number, bad := n.Number(inv.SegmentSize); {
		case err == nil && n.Kind == wal.KindSegment && bad == nil && base == n.String() && !e.IsDir():
			add(n.Timeline, number+1, "it lies in %s, and is not stored", e.Name)
		case err == nil && n.Kind == wal.KindSegment && bad == nil:
			add(n.Timeline, number, "%s is there", e.Name)
			found[len(found)-1].Streamed = true
		default:
			if n, err := wal.ParseName(base); err == nil && n.Kind == wal.KindHistory {
				add(n.Timeline, 0, "it lies in %s, and is not stored", e.Name)
			}
		}
	}
	return found
}

// takeEvidence reads what [Inventory.evidence] needs.
func (a reader) takeEvidence(ctx context.Context, inv *Inventory) error {
	for _, take := range []func(context.Context, *Inventory) error{a.takeBackups, a.takeStreams, a.takeShippings, a.takeStreamed} {
		if err := take(ctx, inv); err != nil {
			return err
		}
	}
	return nil
}

// waiting returns the segments of a timeline that were streamed to their ends and that a stream is about to store,
// whether or not it still hears its server. They count as stored.
func (inv *Inventory) waiting(tli wal.Timeline) map[uint64]bool {
	found := make(map[uint64]bool)
	for _, s := range inv.Streams {
		if s.Ended || s.Unstored != "" {
			continue
		}
		for _, e := range inv.Streamed {
			n, err := wal.ParseName(path.Base(e.Name))
			if err != nil || n.Kind != wal.KindSegment || n.Timeline != tli || e.Size != int64(inv.SegmentSize) || e.Err != nil {
				continue
			}
			if number, err := n.Number(inv.SegmentSize); err == nil {
				found[number] = true
			}
		}
	}
	return found
}

// NothingWaits makes segments that were streamed and are not stored count as missing. It is called after an attempt to
// store them has failed.
func (inv *Inventory) NothingWaits() {
	for i := range inv.Lines {
		inv.Lines[i].Waiting = nil
	}
}
