package ship_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"walkeep/common/archive"
	"walkeep/common/storage/mem"
	"walkeep/common/wal"
	"walkeep/supervisor/ship"
)

// ship copies each object of the spool to each repository once, as it is stored.
func TestShip(t *testing.T) {
	r := newRig(t)
	r.segments(3, 8)
	history := archive.Location(wal.Name{Kind: wal.KindHistory, Timeline: 2}) + ".zst"
	put(t, r.spool.Archive, history, pack(t, "00000002.history", 1, 40, "zstd"))
	label := archive.Directory(name(4)) + name(4).String() + ".00000028.backup.zst"
	put(t, r.spool.Archive, label, pack(t, name(4).String()+".00000028.backup", 2, 40, "zstd"))
	places := []*place{newPlace("mem", new(mem.Backend)), localPlace(t, "dir")}
	for _, result := range r.once(places...) {
		if result.Err != nil || result.Objects != 7 || result.Waiting != 0 {
			t.Errorf("got %+v", result)
		}
	}
	for _, p := range places {
		p.holds(t, 3, 8)
		if len(p.names(t)) != 8 || !exists(t, p, history) || !exists(t, p, label) || !exists(t, p, archive.IdentityName) {
			t.Errorf("%s holds %q", p.name, p.names(t))
		}
		n := r.note(p.name)
		if got := n.Mark(1); got != wal.LSN(8*segmentSize) || n.Objects != 0 || n.Error != "" || !n.Ended {
			t.Errorf("%s: noted %+v", p.name, n)
		}
	}
	for _, result := range r.once(places...) {
		if result.Err != nil || result.Objects != 0 || result.Found != 7 {
			t.Errorf("again: got %+v", result)
		}
	}
}

// The mark of a timeline stays when its segments leave the spool, and goes with its history.
func TestMarkOfDroppedTimeline(t *testing.T) {
	r := newRig(t)
	p := newPlace("far", new(mem.Backend))
	n := wal.SegmentAt(2, wal.LSN(4*segmentSize), segmentSize)
	segment := archive.Location(n) + ".zst"
	history := archive.Location(wal.Name{Kind: wal.KindHistory, Timeline: 2}) + ".zst"
	put(t, r.spool.Archive, segment, pack(t, n.String(), 1, int(segmentSize), "zstd"))
	put(t, r.spool.Archive, history, pack(t, "00000002.history", 1, 40, "zstd"))
	for _, step := range []struct {
		gone string
		want wal.LSN
	}{{"", wal.LSN(5 * segmentSize)}, {segment, wal.LSN(5 * segmentSize)}, {history, 0}} {
		if step.gone != "" {
			r.must(r.spool.Archive.Backend().Remove(t.Context(), step.gone))
		}
		r.once(p)
		if got := r.note("far").Mark(2); got != step.want {
			t.Errorf("without %s the mark is %s, want %s", step.gone, got, step.want)
		}
	}
}

// In the steady state a segment costs one PUT and nothing else: no look, no listing and no reading.
func TestOnePut(t *testing.T) {
	r := newRig(t)
	r.segments(1, 3)
	p := newPlace("s3", new(mem.Backend))
	stop := r.follow(p)
	defer stop()
	r.wait("what was there is shipped", func() bool { return r.note("s3").Mark(1) == wal.LSN(3*segmentSize) })
	before := p.counted.Counts()
	const more = 300 // more than a directory holds
	r.segments(3, 3+more)
	r.wait("the rest is shipped", func() bool { return r.note("s3").Mark(1) == wal.LSN((3+more)*segmentSize) })
	after := p.counted.Counts()
	if after.Create-before.Create != more || after.Commit-before.Commit != more || after.Requests()-before.Requests() != 2*more {
		t.Errorf("%d segments took %+v after %+v", more, after, before)
	}
	p.holds(t, 1, 20)
}

// An idle repository is asked one thing in each interval, and nothing else.
func TestIdle(t *testing.T) {
	r := newRig(t)
	r.segments(1, 3)
	p := newPlace("s3", new(mem.Backend))
	o := r.options(true, p)
	o.Pace.Ping = 20 * time.Millisecond
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		ship.Run(ctx, o)
	}()
	r.wait("what was there is shipped", func() bool { return r.note("s3").Mark(1) == wal.LSN(3*segmentSize) })
	began := time.Now()
	before := p.counted.Counts()
	after := before
	r.wait("the repository is asked", func() bool {
		after = p.counted.Counts()
		return after.List-before.List >= 10
	})
	most := int(time.Since(began)/o.Pace.Ping) + 1
	stop()
	<-done
	if n := after.List - before.List; n > most || after.Requests()-before.Requests() != n {
		t.Errorf("got %+v after %+v, want at most %d listings and nothing else", after, before, most)
	}
}

// An object leaves the spool after all repositories hold it, oldest first; histories and the newest bytes stay.
func TestLeavesSpool(t *testing.T) {
	r := newRig(t)
	r.keep = 3 * int64(len(pack(t, name(1).String(), 1, int(segmentSize), "zstd")))
	r.segments(1, 11)
	history := archive.Location(wal.Name{Kind: wal.KindHistory, Timeline: 2}) + ".zst"
	put(t, r.spool.Archive, history, pack(t, "00000002.history", 1, 40, "zstd"))
	a, b := newPlace("a", new(mem.Backend)), newPlace("b", new(mem.Backend))
	b.down = func() error { return errDown }
	stop := r.follow(a, b)
	r.wait("one repository has everything", func() bool { return r.note("a").Mark(1) == wal.LSN(11*segmentSize) })
	r.wait("the other one is reported", func() bool { return strings.Contains(r.note("b").Error, errDown.Error()) })
	for n := uint64(1); n < 11; n++ {
		if !r.inSpool(object(n)) {
			t.Errorf("%s has left the spool, and one repository lacks it", object(n))
		}
	}
	if n := r.note("b"); n.Objects != 11 || n.Since.IsZero() || n.Recoverable.After(n.Updated) {
		t.Errorf("noted %+v", n)
	}
	stop()
	b.down = nil
	stop = r.follow(a, b)
	defer stop()
	r.wait("what both have leaves", func() bool { return !r.inSpool(object(7)) })
	for n := uint64(1); n < 11; n++ {
		if got := r.inSpool(object(n)); got != (n >= 8) {
			t.Errorf("%s is in the spool: %v", object(n), got)
		}
	}
	if !r.inSpool(history) || !r.inSpool(archive.IdentityName) {
		t.Error("a history or the identity has left the spool")
	}
	a.holds(t, 1, 11)
	b.holds(t, 1, 11)
}

// Another content under a name is a conflict: it stays as it is, the mark does not pass it, and all else is shipped.
func TestConflict(t *testing.T) {
	r := newRig(t)
	r.keep = 0
	r.segments(1, 6)
	p := newPlace("a", new(mem.Backend))
	other := pack(t, name(3).String(), 99, int(segmentSize), "zstd")
	r.must(p.archive().Bind(t.Context(), identity))
	put(t, p.archive(), object(3), other)
	results := r.once(p)
	if err := results[0].Err; err == nil || !strings.Contains(err.Error(), object(3)) || results[0].Waiting != 1 {
		t.Errorf("got %+v", results)
	}
	if got := read(t, p, object(3)); !slices.Equal(got, other) {
		t.Error("the other object was changed")
	}
	p.holds(t, 4, 6)
	n := r.note("a")
	if n.Mark(1) != wal.LSN(3*segmentSize) || len(n.Stuck) != 1 || n.Stuck[0].Object != object(3) {
		t.Errorf("noted %+v", n)
	}
	for n := uint64(1); n < 6; n++ {
		if got := r.inSpool(object(n)); got != (n == 3) {
			t.Errorf("%s is in the spool: %v", object(n), got)
		}
	}
}

// The same content is no conflict, however it is stored.
func TestSameContentOtherwiseStored(t *testing.T) {
	r := newRig(t)
	r.keep = 0
	r.segments(1, 4)
	p := newPlace("a", new(mem.Backend))
	r.must(p.archive().Bind(t.Context(), identity))
	put(t, p.archive(), object(1), pack(t, name(1).String(), 1, int(segmentSize), "zstd"))
	lz4 := archive.Location(name(2)) + ".lz4"
	put(t, p.archive(), lz4, pack(t, name(2).String(), 2, int(segmentSize), "lz4"))
	if results := r.once(p); results[0].Err != nil || results[0].Found != 2 || results[0].Objects != 1 {
		t.Errorf("got %+v", results)
	}
	if exists(t, p, object(2)) || r.inSpool(object(1)) || r.inSpool(object(2)) {
		t.Error("a segment is stored twice, or has not left the spool")
	}
}

// A repository of another cluster is refused, and nothing is written there.
func TestOtherCluster(t *testing.T) {
	r := newRig(t)
	r.segments(1, 2)
	p := newPlace("a", new(mem.Backend))
	r.must(p.archive().Bind(t.Context(), archive.Identity{SystemID: 5, SegmentSize: segmentSize}))
	results := r.once(p)
	if results[0].Err == nil || len(p.names(t)) != 1 || !r.note("a").Refused {
		t.Errorf("got %+v, %q, %+v", results, p.names(t), r.note("a"))
	}
}

// A damaged object of the spool is not shipped.
func TestDamagedInSpool(t *testing.T) {
	r := newRig(t)
	content := pack(t, name(1).String(), 1, int(segmentSize), "zstd")
	content[100] ^= 1
	put(t, r.spool.Archive, object(1), content)
	r.segments(2, 3)
	p := newPlace("a", new(mem.Backend))
	if results := r.once(p); results[0].Err == nil || results[0].Waiting != 1 || exists(t, p, object(1)) || !exists(t, p, object(2)) {
		t.Errorf("got %+v, %q", results, p.names(t))
	}
}

// Two servers that were promoted from one segment have archived different parts of it. The repository keeps both, and shipping
// again stores neither of them a second time.
func TestTwoPartials(t *testing.T) {
	p := newPlace("a", new(mem.Backend))
	n := name(7)
	partial := archive.Location(n) + ".partial.zst"
	var hosts []*rig
	for seed := range uint64(2) {
		r := newRig(t)
		r.segments(8, 9) // so that the mark passes the part
		put(t, r.spool.Archive, partial, pack(t, n.String()+".partial", 50+seed, int(segmentSize), "zstd"))
		hosts = append(hosts, r)
	}
	for range 2 {
		for _, r := range hosts {
			if results := r.once(p); results[0].Err != nil || results[0].Waiting > 0 {
				t.Errorf("got %+v", results)
			}
		}
	}
	if names := p.names(t); len(names) != 4 || !exists(t, p, partial) { // with the segment and the identity
		t.Errorf("the repository holds %q", names)
	}
	for _, r := range hosts {
		r.keep = 0
		if results := r.once(p); results[0].Err != nil || r.inSpool(partial) {
			t.Errorf("got %+v; the part is in the spool: %v", results, r.inSpool(partial))
		}
	}
}
