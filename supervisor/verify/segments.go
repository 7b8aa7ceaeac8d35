package verify

import (
	"context"
	"errors"
	"fmt"

	"github.com/zeebo/xxh3"
	"golang.org/x/sync/errgroup"

	"walkeep/common/archive"
	"walkeep/common/codec"
	"walkeep/common/recovery"
	"walkeep/common/sealed"
	"walkeep/common/storage"
	"walkeep/common/wal"
)

// run is the number of objects that one worker reads in a row. It reads the one before them, too, because records
// continue from one segment to the next.
const run = 32

// readWAL reads all objects of WAL files. At most a few chunks of an object are in memory at any time.
func (v *verifier) readWAL(ctx context.Context, objects []archive.Object) error {
	runs := (len(objects) + run - 1) / run
	a := *v.a
	a.Workers = max(1, v.Jobs/max(1, runs))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(v.Jobs)
	for at := 0; at < len(objects); at += run {
		group.Go(func() error {
			r := reader{verifier: v, a: &a}
			for _, o := range objects[at:min(len(objects), at+run)] {
				if err := r.object(ctx, o); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// A reader reads objects one after the other.
type reader struct {
	*verifier
	a      *archive.Archive
	walker wal.Walker
	walked wal.Name // the segment that the walker has walked
	last   archive.Object
	sum    [16]byte // XXH3-128 of the last object's content
}

func (r *reader) object(ctx context.Context, o archive.Object) error {
	walks := o.WAL.Kind == wal.KindSegment || o.WAL.Kind == wal.KindPartial
	again := o.WAL == r.last.WAL && o.WAL.Kind != wal.KindPartial
	if o.WAL.Kind == wal.KindSegment && o.WAL != r.walked {
		r.prime(ctx, o.WAL)
	}
	walks = walks && !again
	if walks {
		r.begin(o.WAL)
	}
	hash := xxh3.New128()
	got, err := r.a.Read(ctx, r.inv.Identity, o, &codec.InOrder{Write: func(p []byte) error {
		hash.Write(p)
		if walks {
			r.walker.Write(p)
		}
		return nil
	}})
	locked := errors.Is(err, sealed.ErrNoKey)
	if locked { // what can be verified without a private key still is
		walks = false
		r.walked = wal.Name{}
		got, err = r.a.CheckStored(ctx, r.inv.Identity, o)
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, storage.ErrUnavailable):
		return err
	case err != nil && walks:
		r.walked = wal.Name{} // the walker has read data that is not trustworthy
	}
	switch {
	case errors.Is(err, storage.ErrNotExist):
		return nil
	case err != nil:
		r.read(o.Size)
		r.problem(Problem{Severity: severity(err), Object: o.Name, Text: err.Error(), listed: true, segment: segmentOf(o)})
		r.last = archive.Object{}
		return nil
	}
	r.read(o.Size)
	if locked {
		r.lock(o, got)
		return nil
	}
	sum := hash.Sum128().Bytes()
	if again {
		if sum != r.sum {
			r.problem(Problem{Severity: Damage, Object: o.Name, Text: "its content is not that of " + r.last.Name, listed: true, segment: segmentOf(o)})
		}
		return nil
	}
	r.last, r.sum = o, sum
	if walks {
		r.finish(o, got)
	}
	return nil
}

// lock reports what is known of an encrypted object whose stored bytes are sound, without a private key.
func (r *reader) lock(o archive.Object, got archive.Fetched) {
	r.last = archive.Object{}
	r.countLocked(segmentOf(o))
	if got.DamageLSN != 0 {
		r.noted(o, &wal.Damage{LSN: got.DamageLSN, Reason: "as its header says"})
	}
}

// prime makes the walker walk the segment before this one, if it exists.
func (r *reader) prime(ctx context.Context, n wal.Name) {
	before, ok := r.before(n)
	if !ok || r.walked == before {
		return
	}
	r.walked = wal.Name{}
	r.walker.Reset(before)
	out := &codec.InOrder{Write: func(p []byte) error {
		r.walker.Write(p)
		return nil
	}}
	if _, err := recovery.Fetch(ctx, r.a, before, r.inv.SystemID, out); err != nil {
		return // it is missing, or another run reports it
	}
	r.walker.Finish()
	r.walked = before
	r.last = archive.Object{}
}

// before returns the segment that recovery replays before this one.
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

// begin makes the walker begin a segment, if possible as the continuation of the one before.
func (r *reader) begin(n wal.Name) {
	before, ok := r.before(n)
	if ok && n.Kind == wal.KindSegment && r.walked == before {
		r.walker.Continue(n)
	} else {
		r.walker.Reset(n)
	}
}

// finish reports the walker's findings in a segment's records.
func (r *reader) finish(o archive.Object, got archive.Fetched) {
	found := r.walker.Finish()
	r.walked = o.WAL
	r.noteNewer(o.Name, found)
	switch {
	case found.HeaderErr != nil && !(o.WAL.Kind == wal.KindPartial && errors.Is(found.HeaderErr, wal.ErrSize)):
		r.problem(Problem{Severity: Damage, Object: o.Name, Text: found.HeaderErr.Error(), listed: true, segment: segmentOf(o)})
	case found.Damage != nil && got.DamageLSN == found.Damage.LSN:
		// archive-cmd recorded it when it archived the segment; the inventory has it, unless that note is lost.
		r.noted(o, found.Damage)
	case found.Damage != nil:
		p := broken(o.Name, fmt.Sprintf("its WAL records are broken at %s: %s", found.Damage.LSN, found.Damage.Reason))
		p.listed, p.segment, p.lsn = true, segmentOf(o), found.Damage.LSN
		r.problem(p)
	case got.DamageLSN != 0:
		r.noted(o, &wal.Damage{LSN: got.DamageLSN, Reason: "as its trailer says"})
	}
}

// noted reports broken records that the object's own trailer lists, if the inventory does not.
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

// segmentOf returns the segment in an object; an empty name if the object is no segment.
func segmentOf(o archive.Object) wal.Name {
	if o.WAL.Kind != wal.KindSegment {
		return wal.Name{}
	}
	return o.WAL
}
