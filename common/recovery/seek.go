package recovery

import (
	"context"
	"slices"

	"walkeep/common/backup"
	"walkeep/common/wal"
)

// Targets that only the WAL itself proves. What stops a recovery is in recoveryStopsBefore and recoveryStopsAfter of
// PostgreSQL's src/backend/access/transam/xlogrecovery.c (xlog.c up to 14).

// lsn proves that a record begins at the position or behind it: recovery stops there, inclusive or not.
func (p *planner) lsn(ctx context.Context) (Plan, error) {
	lsn := p.target.LSN
	r, err := p.newest(func(b *backup.Manifest) bool { return b.Stop <= lsn })
	if err != nil {
		return Plan{}, err
	}
	var found bool
	var last, until wal.LSN
	if lsn < r.To {
		err = p.inv.a.scan(ctx, p.way, uint64(lsn)/p.way.size, p.numbers(r.To), r.To, func(wal.Event) {}, func(number uint64, s wal.Result) bool {
			if s.Records > 0 {
				last = s.End
			}
			// Of a version that is not known, the segment itself has to do as proof that its records are there.
			found = s.Records > 0 && s.Last >= lsn || s.Blind
			until = wal.LSN((number + 1) * p.way.size)
			return !found
		})
		if err != nil {
			return Plan{}, err
		}
	}
	if found {
		return p.plan(r, lsn, until), nil
	}
	if lsn <= r.To {
		start, end, err := p.lastRecord(ctx, r)
		if err != nil {
			return Plan{}, err
		}
		// The end that list and refusals name must be accepted. No record begins there, so that recovery stops with the last one.
		said, err := p.inv.EndOfRecords(ctx, Window{Timeline: p.target.Timeline, From: r.From, To: r.To, Gap: r.Gap})
		if err == nil && start != 0 && start < lsn && lsn <= max(said, end) {
			return p.stopBehind(r, start, end), nil
		}
	}
	switch {
	case r.Gap != nil:
		return Plan{}, p.refuse("%s", r.Gap)
	case last != 0:
		return Plan{}, p.refuse("the last record in the archive ends at %s", last)
	}
	return Plan{}, p.refuse("the WAL in the archive ends before %s", r.To)
}

// available goes to the last record of the newest backup that can be restored.
func (p *planner) available(ctx context.Context) (Plan, error) {
	var r Reach
	err := p.refuse("the archive holds no backup")
	for _, b := range slices.Backward(p.backups) {
		if r, err = p.inv.Reach(b, p.target.Timeline); err == nil {
			break
		}
		err = p.refuse("%w", err)
	}
	if err != nil {
		return Plan{}, err
	}
	start, end, err := p.lastRecord(ctx, r)
	if err != nil {
		return Plan{}, err
	}
	return p.stopBehind(r, start, end), nil
}

// stopBehind is the plan that ends with a record. PostgreSQL stops with the first one that begins at the position or
// behind it. One before the backup is consistent is no target.
func (p *planner) stopBehind(r Reach, start, end wal.LSN) Plan {
	if start < r.From {
		p.target = Target{Kind: ToImmediate, Timeline: p.target.Timeline}
		return p.plan(r, 0, r.From)
	}
	p.target = Target{Kind: ToLSN, LSN: start, Timeline: p.target.Timeline}
	return p.plan(r, end, end)
}

// lastRecord finds where the last whole record of a reach begins and ends; zeros if there is none.
func (p *planner) lastRecord(ctx context.Context, r Reach) (start, end wal.LSN, err error) {
	begin, to := uint64(r.Backup.Start)/p.way.size, p.numbers(r.To)
	for n := uint64(1); start == 0; n *= 2 {
		first := begin
		if to-begin > n {
			first = to - n
		}
		err := p.inv.a.scan(ctx, p.way, first, to, r.To, func(wal.Event) {}, func(_ uint64, s wal.Result) bool {
			if s.Records > 0 {
				start, end = s.Last, s.End
			}
			return true
		})
		if err != nil || first == begin {
			return start, end, err
		}
	}
	return start, end, nil
}

// numbers is the number of the segment after the one that holds the byte before to.
func (p *planner) numbers(to wal.LSN) uint64 { return (uint64(to) + p.way.size - 1) / p.way.size }

// event finds a transaction's end or a restore point. Each backup's WAL is searched up to where that of the newer one was.
func (p *planner) event(ctx context.Context) (Plan, error) {
	var hits []wal.Event // in all WAL that was searched
	end := ^uint64(0)    // of what was not searched yet
	var incomplete error
	for i := len(p.backups) - 1; i >= 0; i-- {
		b := p.backups[i]
		r, err := p.inv.Reach(b, p.target.Timeline)
		if err != nil {
			if incomplete == nil {
				incomplete = err
			}
			continue
		}
		first := uint64(b.Start) / p.way.size
		found, err := p.matches(ctx, first, min(end, p.numbers(r.To)), r.To)
		if err != nil {
			return Plan{}, err
		}
		hits = append(found, hits...)
		if len(hits) > 0 && hits[0].Start >= b.Stop {
			plan := p.stopAt(r, hits[0])
			for _, e := range hits[1:] {
				plan.Again = append(plan.Again, e.Start)
			}
			return plan, nil
		}
		end = first + 1 // for the record that continues there
	}
	if incomplete != nil {
		return Plan{}, p.refuse("it was not found, but %w", incomplete)
	}
	if len(hits) > 0 {
		return Plan{}, p.refuse("it is at %s, before backup %s was complete", hits[0].Start, p.backups[0].ID)
	}
	return Plan{}, p.refuse("it was not found in the WAL after backup %s", p.backups[0].ID)
}

// matches finds the records that the target means: a transaction's end, or all restore points of its name. Names can be used
// again, so that all of the range is read for them.
func (p *planner) matches(ctx context.Context, first, end uint64, to wal.LSN) ([]wal.Event, error) {
	var found []wal.Event
	t := p.target
	err := p.inv.a.scan(ctx, p.way, first, end, to, func(e wal.Event) {
		named := e.Kind == wal.RestorePoint && e.Name == t.Name
		ended := e.Kind != wal.RestorePoint && e.XID == t.XID && len(found) == 0
		if t.Kind == ToName && named || t.Kind == ToXID && ended {
			found = append(found, e)
		}
	}, func(_ uint64, r wal.Result) bool {
		p.note(r)
		return t.Kind == ToName || len(found) == 0
	})
	return found, err
}

// stopAt is the plan that ends at a record.
func (p *planner) stopAt(r Reach, e wal.Event) Plan {
	at := e.End
	if p.target.Kind == ToTime || p.target.Kind == ToXID && p.target.Exclusive {
		at = e.Start
	}
	return p.plan(r, at, e.End)
}

// note keeps what could not be searched of WAL of a version that is not known.
func (p *planner) note(r wal.Result) {
	if p.unread == nil && r.Blind {
		p.unread = r.Unchecked
	}
}
