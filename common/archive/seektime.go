package archive

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
			why += ", the last one at " + last.UTC().Format(timeForm)
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
	return p.stopAt(r, first), nil
}

// A search looks for a time in the WAL behind a backup.
type search struct {
	*planner
	reach      Reach
	begin, end uint64 // numbers of the segments
}

// late tells whether a recovery to the time stops before this record.
func (s search) late(e wal.Event) bool {
	// PostgreSQL's times are whole microseconds.
	d := e.Time.Sub(s.target.Time.Truncate(time.Microsecond))
	return d > 0 || d == 0 && s.target.Exclusive
}

// ended scans for the ends of transactions.
func (s search) ended(ctx context.Context, first, end uint64, event func(wal.Event), more func(uint64) bool) error {
	return s.a.scan(ctx, s.way, first, end, s.reach.To, func(e wal.Event) {
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
		// One segment more, for the record that goes on there.
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
	// What was found at a segment's begin may follow one that goes on there.
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
