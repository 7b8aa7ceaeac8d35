package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"walkeep/common/archive"
	"walkeep/common/storage"
	"walkeep/common/wal"
)

// run is how many objects one worker reads in a row. It reads the one before them, too, because records go on from one
// segment to the next.
const run = 32

// maxBuffers bounds the memory for segments in bytes.
const maxBuffers = 2 << 30

// readWAL reads all objects of WAL files.
func (v *verifier) readWAL(ctx context.Context, objects []archive.Object) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(max(1, min(v.Jobs, maxBuffers/2/int(v.inv.SegmentSize))))
	for at := 0; at < len(objects); at += run {
		group.Go(func() error {
			return v.readRun(ctx, objects, at, min(len(objects), at+run))
		})
	}
	return group.Wait()
}

// A reader reads objects one after the other.
type reader struct {
	*verifier
	walker wal.Walker
	walked wal.Name // the segment that the walker has walked
	last   archive.Object
	plain  *memory // of the last object
	spare  *memory
}

// readRun reads the objects from one to before another.
func (v *verifier) readRun(ctx context.Context, objects []archive.Object, from, to int) error {
	r := reader{verifier: v, plain: new(memory), spare: new(memory)}
	for i := from; i < to; i++ {
		if err := r.object(ctx, objects[i]); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) object(ctx context.Context, o archive.Object) error {
	if o.WAL.Kind == wal.KindSegment && o.WAL != r.walked {
		r.prime(ctx, o.WAL)
	}
	r.plain, r.spare = r.spare, r.plain
	r.plain.reset()
	got, err := r.a.Read(ctx, r.inv.Identity, o, r.plain)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, storage.ErrUnavailable):
		return err
	case errors.Is(err, storage.ErrNotExist):
		return nil
	case err != nil:
		r.read(o.Size)
		r.problem(Problem{Severity: Damage, Object: o.Name, Text: err.Error(), listed: true, segment: segmentOf(o)})
		r.last = archive.Object{}
		return nil
	}
	r.read(o.Size)
	if o.WAL == r.last.WAL && o.WAL.Kind != wal.KindPartial {
		if !bytes.Equal(r.plain.b, r.spare.b) {
			r.problem(Problem{Severity: Damage, Object: o.Name, Text: "it does not hold what " + r.last.Name + " holds", listed: true, segment: segmentOf(o)})
		}
		return nil
	}
	r.last = o
	switch o.WAL.Kind {
	case wal.KindSegment, wal.KindPartial:
		r.walk(o, got)
	}
	return nil
}

// prime has the walker walk the segment before this one, if it is there.
func (r *reader) prime(ctx context.Context, n wal.Name) {
	before, ok := r.before(n)
	if !ok || r.walked == before {
		return
	}
	r.walked = wal.Name{}
	r.spare.reset()
	if _, err := r.a.Fetch(ctx, before, r.inv.SystemID, r.spare); err != nil {
		return // it is missing, or reported where its turn is
	}
	r.walker.Reset(before)
	r.walker.Write(r.spare.b)
	r.walker.Finish()
	r.walked = before
	r.last = archive.Object{}
}

// before is the segment that recovery replays before this one.
func (r *reader) before(n wal.Name) (wal.Name, bool) {
	number, err := n.Number(r.inv.SegmentSize)
	line := r.inv.Line(n.Timeline)
	if err != nil || number == 0 || line == nil {
		return wal.Name{}, false
	}
	end := wal.LSN(number*uint64(r.inv.SegmentSize)) - 1
	before := segment(r.inv, line.History.TimelineOf(end), number-1)
	return before, r.inv.Has(before)
}

// walk checks the records of a segment, and how they go on from the one before.
func (r *reader) walk(o archive.Object, got archive.Fetched) {
	before, ok := r.before(o.WAL)
	if ok && o.WAL.Kind == wal.KindSegment && r.walked == before {
		r.walker.Continue(o.WAL)
	} else {
		r.walker.Reset(o.WAL)
	}
	r.walker.Write(r.plain.b)
	found := r.walker.Finish()
	r.walked = o.WAL
	switch {
	case found.HeaderErr != nil && !(o.WAL.Kind == wal.KindPartial && errors.Is(found.HeaderErr, wal.ErrSize)):
		r.problem(Problem{Severity: Damage, Object: o.Name, Text: found.HeaderErr.Error(), listed: true, segment: segmentOf(o)})
	case found.Damage != nil && got.DamageLSN == found.Damage.LSN:
		// It is noted as it was found when it was archived; the inventory has it, unless the note is lost.
		r.noted(o, found.Damage)
	case found.Damage != nil:
		p := broken(o.Name, fmt.Sprintf("its WAL records are broken at %s: %s", found.Damage.LSN, found.Damage.Reason))
		p.listed, p.segment, p.lsn = true, segmentOf(o), found.Damage.LSN
		r.problem(p)
	case got.DamageLSN != 0:
		r.noted(o, &wal.Damage{LSN: got.DamageLSN, Reason: "as its trailer says"})
	}
}

// noted reports broken records of which the object's own trailer knows, if the inventory does not.
func (r *reader) noted(o archive.Object, d *wal.Damage) {
	for _, known := range r.inv.Damages {
		if known.Segment == o.WAL && !known.Found {
			return
		}
	}
	p := broken(o.Name, fmt.Sprintf("archived with broken WAL records at %s: %s", d.LSN, d.Reason))
	p.listed = true
	r.problem(p)
}

// segmentOf is the segment that an object holds; no name if it holds something else.
func segmentOf(o archive.Object) wal.Name {
	if o.WAL.Kind != wal.KindSegment {
		return wal.Name{}
	}
	return o.WAL
}
