package recovery

import (
	"context"
	"fmt"
	"time"

	"walkeep/common/backup"
	"walkeep/common/wal"
)

// clockSlack is how much earlier a transaction's end may be stamped than one before it.
const clockSlack = time.Minute

// time proves that a transaction ended after the time: recovery stops before the first one that did. From 13 on, it
// fails where there is none.
func (p *planner) time(ctx context.Context) (Plan, error) {
	r, err := p.newest(func(b *backup.Manifest) bool { return !b.Ended.After(p.target.Time) })
	if err != nil {
		return Plan{}, err
	}
	s := search{p, r, uint64(r.From) / p.way.size, p.numbers(r.To)}
	late, last, err := s.proof(ctx)
	if err != nil {
		return Plan{}, err
	}
	if late == nil {
		why := "no transaction ended after it"
		if !last.IsZero() {
			why += ", the last one at " + wal.FormatTime(last)
		}
		if r.Gap != nil {
			why = fmt.Sprintf("%s; then %s", why, r.Gap)
		}
		return Plan{}, p.refuse("%s", why)
	}
	first, err := s.earliest(ctx, *late)
	if err != nil {
		return Plan{}, err
	}
	found := p.stopAt(r, first)
	if !p.named {
		found.Beside, err = s.beside(ctx, first.Start)
	}
	return found, err
}

// A search looks for a time in the WAL behind a backup.
type search struct {
	*planner
	reach      Reach
	begin, end uint64 // numbers of the segments
}

// late reports whether a recovery to the time stops before this record.
func (s search) late(e wal.Event) bool {
	// PostgreSQL's times are whole microseconds.
	d := e.Time.Sub(s.target.Time.Truncate(time.Microsecond))
	return d > 0 || d == 0 && s.target.Exclusive
}

// ended scans for the ends of transactions.
func (s search) ended(ctx context.Context, first, end uint64, event func(wal.Event), more func(uint64) bool) error {
	return s.inv.a.scan(ctx, s.way, first, end, s.reach.To, func(e wal.Event) {
		if e.Kind != wal.RestorePoint && e.Start >= s.reach.From {
			event(e)
		}
	}, func(number uint64, r wal.Result) bool {
		s.note(r)
		return more(number)
	})
}

// proof goes back from the end of the WAL until it finds a record before which recovery would stop, or sees that there
// is none. It also gives the time of the last transaction's end.
func (s search) proof(ctx context.Context) (late *wal.Event, last time.Time, err error) {
	early := false
	for end, n := s.end, uint64(1); end > s.begin && late == nil && !early; n *= 2 {
		first := s.begin
		if end-s.begin > n {
			first = end - n
		}
		// One segment more, for the record that continues there.
		err := s.ended(ctx, first, min(end+1, s.end), func(e wal.Event) {
			if s.late(e) && late == nil {
				late = &e
			}
			if e.Time.After(last) {
				last = e.Time
			}
			early = early || s.target.Time.Sub(e.Time) > clockSlack
		}, func(uint64) bool { return true })
		if err != nil {
			return nil, last, err
		}
		end = first
	}
	return late, last, nil
}

// earliest finds the first record before which recovery would stop, given a later one, as times ascend with few and
// short exceptions.
func (s search) earliest(ctx context.Context, known wal.Event) (wal.Event, error) {
	number := func(e wal.Event) uint64 { return uint64(e.Start) / s.way.size }
	for left, right := s.begin, number(known); left < right; {
		middle := (left + right) / 2
		seen, past := middle, false
		var found *wal.Event
		err := s.ended(ctx, middle, right, func(e wal.Event) {
			past = true
			if found == nil && s.late(e) {
				found = &e
			}
		}, func(number uint64) bool {
			seen = number
			return !past
		})
		switch {
		case err != nil:
			return known, err
		case found != nil:
			known, right = *found, middle
		case past:
			left = seen + 1
		default:
			right = middle
		}
	}
	// A record that was found at a segment's begin may follow one that continues there.
	first := max(number(known), s.begin+1) - 1
	var found *wal.Event
	err := s.ended(ctx, first, number(known)+1, func(e wal.Event) {
		if found == nil && s.late(e) {
			found = &e
		}
	}, func(uint64) bool { return true })
	if err != nil || found == nil || found.Start > known.Start {
		return known, err
	}
	return *found, nil
}

// beside lists the branches on which recovery to the time ends as well, with other transactions than on the way to stop. One
// whose WAL cannot be read is not among them.
func (s search) beside(ctx context.Context, stop wal.LSN) ([]Branch, error) {
	var found []Branch
	for _, b := range s.inv.Branches(s.target.Timeline) {
		if stop < b.Left {
			continue // recovery ends before the two part
		}
		differs, err := s.differs(ctx, b)
		if ctx.Err() != nil {
			return nil, err
		}
		if err == nil && differs {
			found = append(found, b)
		}
	}
	return found, nil
}

// differs reports whether a branch has a transaction that ended after the time, and it or the way that is searched has one
// that ended before the time and behind where the two part.
func (s search) differs(ctx context.Context, b Branch) (bool, error) {
	p := &planner{inv: s.inv, target: s.target}
	if err := p.along(b.Timeline); err != nil {
		return false, err
	}
	r, err := p.newest(func(m *backup.Manifest) bool { return !m.Ended.After(s.target.Time) })
	if err != nil {
		return false, err
	}
	other := search{p, r, uint64(b.Left) / p.way.size, p.numbers(r.To)}
	late, _, err := other.proof(ctx)
	if err != nil || late == nil || late.Start < b.Left {
		return false, err
	}
	replayed, err := other.replays(ctx, b.Left)
	if err != nil || replayed {
		return replayed, err
	}
	return s.replays(ctx, b.Left)
}

// replays reports whether the first transaction that ended at a position or behind it is replayed.
func (s search) replays(ctx context.Context, from wal.LSN) (bool, error) {
	var first *wal.Event
	err := s.ended(ctx, uint64(from)/s.way.size, s.end, func(e wal.Event) {
		if first == nil && e.Start >= from {
			first = &e
		}
	}, func(uint64) bool { return first == nil })
	return first != nil && !s.late(*first), err
}
