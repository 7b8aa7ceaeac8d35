package wal_test

import (
	"testing"
	"time"

	"walkeep/common/wal"
)

// events walks files as one stream, in pieces of the given size, and returns the reported events.
func events(t testing.TB, major string, size int, names ...wal.Name) []wal.Event {
	t.Helper()
	var found []wal.Event
	w := wal.Walker{Events: func(e wal.Event) { found = append(found, e) }}
	for i, n := range names {
		if i == 0 {
			w.Reset(n)
		} else {
			w.Continue(n)
		}
		for rest := load(t, major, n.String()); len(rest) > 0; {
			k := min(size, len(rest))
			w.Write(rest[:k])
			rest = rest[k:]
		}
		if r := w.Finish(); r.HeaderErr != nil || r.Damage != nil {
			t.Fatalf("%s: %v %v", n, r.HeaderErr, r.Damage)
		}
	}
	return found
}

// In the real WAL of all versions events are in order, belong to their segment, and have times of the days on which the test
// data was made. The size of the writes makes no difference.
func TestEvents(t *testing.T) {
	begin, end := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, major := range majors {
		t.Run(major, func(t *testing.T) {
			var count int
			for _, n := range names(t, major, wal.KindSegment) {
				start, _ := n.Start(size(t, major, n))
				found := events(t, major, 1<<20, n)
				again := events(t, major, 777, n)
				if got, want := len(again), len(found); got != want {
					t.Fatalf("%s: %d events in small pieces, %d in large ones", n, got, want)
				}
				last := start
				for i, e := range found {
					if e != again[i] {
						t.Errorf("%s: %+v in small pieces, %+v in large ones", n, again[i], e)
					}
					if e.Start < last || e.End <= e.Start {
						t.Errorf("%s: event at %s to %s after %s", n, e.Start, e.End, last)
					}
					if e.XID == 0 || e.Time.Before(begin) || e.Time.After(end) {
						t.Errorf("%s: %+v", n, e)
					}
					last = e.End
				}
				count += len(found)
			}
			if count == 0 {
				t.Error("no events at all")
			}
		})
	}
}

// size is the segment size in the first page's header.
func size(t testing.TB, major string, n wal.Name) wal.SegmentSize {
	t.Helper()
	h, err := wal.ParseHeader(load(t, major, n.String()))
	if err != nil {
		t.Fatal(err)
	}
	return h.SegmentSize
}

// Without Events a walk allocates nothing for events, and with Events nothing but names.
func TestEventsAllocateNothing(t *testing.T) {
	all := names(t, "15", wal.KindSegment)
	n := all[len(all)-1]
	data := load(t, "15", n.String())
	count := 0
	w := wal.Walker{Events: func(wal.Event) { count++ }}
	got := testing.AllocsPerRun(10, func() {
		w.Reset(n)
		w.Write(data)
		w.Finish()
	})
	if got > 0 || count == 0 {
		t.Errorf("%v allocations for %d events", got, count)
	}
}
