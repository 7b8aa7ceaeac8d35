package recovery

import (
	"context"

	"walkeep/common/wal"
)

// Changes are the effects that a plan's WAL has, when it is replayed, outside of the files of the data directory.
type Changes struct {
	// Tablespaces are those that are created, in the order of the WAL.
	Tablespaces []wal.Change
	// Limits are the largest that the server must be set to on the way, as far as the WAL says.
	Limits wal.Limits
	// Dropped are databases whose files the replay removes, without coming to the end of the transaction that drops them.
	Dropped []Dropped
	// Invalid are databases that accept no connection at the end of the replay.
	Invalid []Invalid
	// Last is where the last record starts that was looked at; 0 if there is none.
	Last wal.LSN
	// Unread is where the WAL was not looked at any more, because it is of a version of PostgreSQL that is not known; nil if
	// all was.
	Unread *wal.Damage
}

// Changes reads all WAL that is replayed on the way of a plan, up to the target. What is archived later is not among it,
// and is replayed where the target is the end of the WAL, unless recovery is told to end at Last. read is called with the
// bytes of each segment that was read; it may be nil.
func (inv *Inventory) Changes(ctx context.Context, p Plan, read func(bytes int64)) (Changes, error) {
	w, err := inv.way(p.Timeline)
	if err != nil {
		return Changes{}, err
	}
	end, err := p.Until.Start(p.Backup.SegmentSize)
	if err != nil {
		return Changes{}, err
	}
	var found Changes
	to := min(p.To, end+wal.LSN(w.size))
	drops := newDrops()
	walker := wal.Walker{Changes: func(c wal.Change) {
		switch {
		case c.End > to || !p.replays(c):
		case c.Tablespace == nil && c.Limits == nil:
			drops.see(c) // also what a backup that begins behind it has in its files
		case c.Start < p.Backup.Start:
		case c.Tablespace != nil:
			found.Tablespaces = append(found.Tablespaces, c)
		default:
			found.Limits = found.Limits.Max(*c.Limits)
		}
	}}
	err = inv.a.walk(ctx, w, uint64(p.Backup.Start)/w.size, (uint64(to)+w.size-1)/w.size, to, &walker, func(_ uint64, r wal.Result) bool {
		if r.Records > 0 {
			found.Last = r.Last
		}
		if read != nil {
			read(int64(w.size))
		}
		if r.Blind {
			found.Unread = r.Unchecked
		}
		return !r.Blind
	})
	found.Dropped, found.Invalid = drops.removed, drops.invalid()
	return found, err
}

// replays reports whether recovery comes to a record before it ends. recoveryStopsBefore and recoveryStopsAfter of
// PostgreSQL's xlogrecovery.c say where that is.
func (p Plan) replays(c wal.Change) bool {
	switch p.Target.Kind {
	case ToLatest:
		return true
	case ToImmediate:
		return c.Start < p.From
	case ToLSN:
		// It stops after the first record that starts there or behind it.
		return c.Start < p.At || !p.Target.Exclusive && c.Prev < p.At
	}
	return c.Start < p.At
}
