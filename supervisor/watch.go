package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"walkeep/common/archive"
	"walkeep/common/config"
	"walkeep/supervisor/service"
)

const (
	// lookInterval is how often the archive is looked at; seldom enough that it takes no more than a tenth of the time.
	lookInterval = time.Minute
	// repairInterval is the least time between two backups for the sake of broken WAL: where all of it is broken, backups
	// alone do not help.
	repairInterval = time.Hour
)

// watch looks at the archive from time to time, and has a backup taken where WAL is broken behind the newest one.
func (r *runner) watch(c config.Config) service.Part {
	// With other settings it begins anew.
	return service.Part{Name: "watch", Settings: fmt.Sprint(c), Run: func(ctx context.Context, log *slog.Logger) error {
		e := &env{Config: c}
		a, _, err := e.open()
		if err != nil {
			return explain(ctx, err)
		}
		for {
			began := time.Now()
			inv, err := a.Inventory(ctx)
			switch {
			case errors.Is(err, archive.ErrUnbound):
				log.Debug("the archive is empty")
			case err != nil:
				return explain(ctx, err)
			default:
				r.repair(ctx, inv)
			}
			select {
			case <-time.After(max(lookInterval, 10*time.Since(began))):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}}
}

// repair has a backup taken if there was none since a segment was archived with broken records: nothing behind it can be
// recovered until there is one. For one segment that is asked for once; the loop tries again if it fails.
func (r *runner) repair(ctx context.Context, inv *archive.Inventory) {
	d, ok := brokenSince(inv)
	if !ok || d.Segment == r.repaired || !r.repairedAt.IsZero() && time.Since(r.repairedAt) < repairInterval {
		return
	}
	r.repaired, r.repairedAt = d.Segment, time.Now()
	r.loop.Start(ctx, "backup", fmt.Sprintf("%s was archived with broken records, at %s", d.Segment, d.LSN))
}

// brokenSince finds the last segment with broken records that was archived since the newest backup began.
func brokenSince(inv *archive.Inventory) (last archive.Damaged, found bool) {
	if len(inv.Backups) == 0 {
		return last, false
	}
	newest := inv.Backups[len(inv.Backups)-1]
	after := func(d archive.Damaged) bool {
		return d.Segment.Timeline > newest.Timeline || d.Segment.Timeline == newest.Timeline && d.LSN >= newest.Start
	}
	for _, d := range inv.Damages {
		if after(d) && (!found || d.Segment.Timeline > last.Segment.Timeline || d.Segment.Timeline == last.Segment.Timeline && d.LSN > last.LSN) {
			last, found = d, true
		}
	}
	return last, found
}
