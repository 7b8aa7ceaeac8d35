package archive

import (
	"context"

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
		err = p.a.scan(ctx, p.way, uint64(lsn)/p.way.size, p.numbers(r.To), r.To, func(wal.Event) {}, func(number uint64, s wal.Result) bool {
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
	switch {
	case found:
		return p.plan(r, lsn, until), nil
	case r.Gap != nil:
		return Plan{}, p.refuse("%s", r.Gap)
	case last != 0:
		return Plan{}, p.refuse("the last record in the archive ends at %s", last)
	}
	return Plan{}, p.refuse("the WAL in the archive ends before %s", r.To)
}

// numbers is the number of the segment after the one that holds the byte before to.
func (p *planner) numbers(to wal.LSN) uint64 { return (uint64(to) + p.way.size - 1) / p.way.size }

// event finds a transaction's end or a restore point. Each backup's WAL is searched up to where that of the newer one was.
func (p *planner) event(ctx context.Context) (Plan, error) {
	var hit *wal.Event // the first one in all WAL that was searched
	end := ^uint64(0)  // of what was not searched yet
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
		found, err := p.first(ctx, first, min(end, p.numbers(r.To)), r.To)
		if err != nil {
			return Plan{}, err
		}
		if found != nil {
			hit = found
		}
		if hit != nil && hit.Start >= b.Stop {
			return p.stopAt(r, *hit), nil
		}
		end = first + 1 // for the record that goes on there
	}
	if incomplete != nil {
		return Plan{}, p.refuse("it was not found, but %w", incomplete)
	}
	if hit != nil {
		return Plan{}, p.refuse("it is at %s, before backup %s was complete", hit.Start, p.backups[0].ID)
	}
	return Plan{}, p.refuse("it was not found in the WAL after backup %s", p.backups[0].ID)
}

// first finds the first record that the target means.
func (p *planner) first(ctx context.Context, first, end uint64, to wal.LSN) (*wal.Event, error) {
	var found *wal.Event
	t := p.target
	err := p.a.scan(ctx, p.way, first, end, to, func(e wal.Event) {
		named := e.Kind == wal.RestorePoint && e.Name == t.Name
		ended := e.Kind != wal.RestorePoint && e.XID == t.XID
		if found == nil && (t.Kind == ToName && named || t.Kind == ToXID && ended) {
			found = &e
		}
	}, func(_ uint64, r wal.Result) bool {
		p.note(r)
		return found == nil
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
