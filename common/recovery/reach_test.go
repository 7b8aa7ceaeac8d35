package recovery_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/recovery"
	"walkeep/common/wal"
)

const mb = uint64(1 << 20) // segments of the inventories here

// lineOf makes a line of a timeline from pairs of numbers.
func lineOf(tli wal.Timeline, left []wal.HistoryEntry, spans ...uint64) recovery.Line {
	l := recovery.Line{Timeline: tli, History: wal.History{Timeline: tli, Entries: left}}
	for i := 0; i < len(spans); i += 2 {
		l.Segments = append(l.Segments, recovery.Span{First: spans[i], Last: spans[i+1]})
	}
	return l
}

func left(pairs ...uint64) []wal.HistoryEntry {
	var h []wal.HistoryEntry
	for i := 0; i < len(pairs); i += 2 {
		h = append(h, wal.HistoryEntry{Timeline: wal.Timeline(pairs[i]), End: wal.LSN(pairs[i+1])})
	}
	return h
}

func backupOn(tli wal.Timeline, start, stop uint64) *backup.Manifest {
	return &backup.Manifest{ID: "20261122T120000Z", Timeline: tli, Start: wal.LSN(start), Stop: wal.LSN(stop), SegmentSize: wal.SegmentSize(mb)}
}

func TestReach(t *testing.T) {
	const inside = mb / 2
	for _, test := range []struct {
		name   string
		lines  []recovery.Line
		damage []recovery.Damaged
		backup *backup.Manifest
		to     wal.Timeline
		want   string // where it ends and what is missing there
		err    error
	}{
		{"one timeline", []recovery.Line{lineOf(1, nil, 3, 9)}, nil, backupOn(1, 4*mb+40, 5*mb), 1, "10 -", nil},
		{"ends with its last segment", []recovery.Line{lineOf(1, nil, 4, 4)}, nil, backupOn(1, 4*mb+40, 5*mb), 1, "5 -", nil},
		{"ends with the first byte of the next", []recovery.Line{lineOf(1, nil, 4, 4)}, nil, backupOn(1, 4*mb+40, 5*mb+1), 1, "", recovery.ErrIncomplete},
		{"starts before all", []recovery.Line{lineOf(1, nil, 5, 9)}, nil, backupOn(1, 4*mb+40, 5*mb), 1, "", recovery.ErrIncomplete},
		{"hole in it", []recovery.Line{lineOf(1, nil, 3, 4, 6, 9)}, nil, backupOn(1, 4*mb+40, 7*mb), 1, "", recovery.ErrIncomplete},
		{"hole behind it", []recovery.Line{lineOf(1, nil, 3, 6, 9, 12)}, nil, backupOn(1, 4*mb+40, 5*mb), 1, "7 7-8", nil},
		{"nothing of its timeline", []recovery.Line{lineOf(2, left(1, 5*mb), 5, 9)}, nil, backupOn(1, 4*mb, 4*mb+40), 1, "", recovery.ErrIncomplete},

		{"fork at a border", []recovery.Line{lineOf(1, nil, 3, 9), lineOf(2, left(1, 6*mb), 6, 8)}, nil, backupOn(1, 4*mb, 5*mb), 2, "9 -", nil},
		{"fork inside of a segment", []recovery.Line{lineOf(1, nil, 3, 9), lineOf(2, left(1, 6*mb+inside), 6, 8)}, nil, backupOn(1, 4*mb, 5*mb), 2, "9 -", nil},
		{"the fork's segment is missing", []recovery.Line{lineOf(1, nil, 3, 9), lineOf(2, left(1, 6*mb+inside), 7, 8)}, nil, backupOn(1, 4*mb, 5*mb), 2, "6 6-6", nil},
		{"the one before the fork is missing", []recovery.Line{lineOf(1, nil, 3, 4, 6, 9), lineOf(2, left(1, 6*mb+inside), 6, 8)}, nil, backupOn(1, 4*mb, 5*mb), 2, "5 5-5", nil},
		{"the old timeline's segment of the fork is of no use", []recovery.Line{lineOf(1, nil, 3, 5), lineOf(2, left(1, 6*mb+inside), 6, 8)}, nil, backupOn(1, 4*mb, 5*mb), 2, "9 -", nil},
		{"nothing after the fork", []recovery.Line{lineOf(1, nil, 3, 9), lineOf(2, left(1, 6*mb))}, nil, backupOn(1, 4*mb, 5*mb), 2, "6 -", nil},
		{"the way to the fork is missing", []recovery.Line{lineOf(1, nil, 3, 4), lineOf(2, left(1, 6*mb))}, nil, backupOn(1, 4*mb, 5*mb), 2, "5 5-5", nil},
		{"two forks in one segment", []recovery.Line{lineOf(1, nil, 3, 5), lineOf(2, left(1, 6*mb+100), 6, 6), lineOf(3, left(1, 6*mb+100, 2, 6*mb+200), 6, 9)},
			nil, backupOn(1, 4*mb, 5*mb), 3, "10 -", nil},
		{"of two forks in one segment the first one's is of no use", []recovery.Line{lineOf(1, nil, 3, 5), lineOf(2, left(1, 6*mb+100), 6, 6), lineOf(3, left(1, 6*mb+100, 2, 6*mb+200), 7, 9)},
			nil, backupOn(1, 4*mb, 5*mb), 3, "6 6-6", nil},
		{"an ancestor of which there is nothing", []recovery.Line{lineOf(1, nil, 3, 5), lineOf(3, left(1, 6*mb, 2, 8*mb), 8, 9)}, nil, backupOn(1, 4*mb, 5*mb), 3, "6 6-7", nil},
		{"its timeline was left before it ended", []recovery.Line{lineOf(1, nil, 3, 9), lineOf(2, left(1, 6*mb), 6, 9)}, nil, backupOn(1, 5*mb, 7*mb), 2, "", recovery.ErrNotOnLine},
		{"its timeline was left where it ended", []recovery.Line{lineOf(1, nil, 3, 9), lineOf(2, left(1, 7*mb), 7, 9)}, nil, backupOn(1, 5*mb, 7*mb), 2, "10 -", nil},
		{"a sibling", []recovery.Line{lineOf(1, nil, 3, 9), lineOf(2, left(1, 5*mb), 5, 9), lineOf(3, left(1, 5*mb), 5, 9)}, nil, backupOn(2, 6*mb, 7*mb), 3, "", recovery.ErrNotOnLine},
		{"an ancestor", []recovery.Line{lineOf(1, nil, 3, 9), lineOf(2, left(1, 5*mb), 5, 9)}, nil, backupOn(2, 6*mb, 7*mb), 1, "", recovery.ErrNotOnLine},
		{"no history", []recovery.Line{lineOf(1, nil, 3, 9), {Timeline: 2, HistoryErr: recovery.ErrAbsent}}, nil, backupOn(1, 4*mb, 5*mb), 2, "", recovery.ErrAbsent},

		{"broken records", []recovery.Line{lineOf(1, nil, 3, 9)}, []recovery.Damaged{{Segment: segmentOf(1, 7), LSN: wal.LSN(7*mb + 100)}},
			backupOn(1, 4*mb, 5*mb), 1, "7+100 7-7!", nil},
		{"broken records in it", []recovery.Line{lineOf(1, nil, 3, 9)}, []recovery.Damaged{{Segment: segmentOf(1, 4), LSN: wal.LSN(4*mb + 100)}},
			backupOn(1, 4*mb, 5*mb), 1, "", recovery.ErrIncomplete},
		{"broken records before it", []recovery.Line{lineOf(1, nil, 3, 9)}, []recovery.Damaged{{Segment: segmentOf(1, 3), LSN: wal.LSN(3*mb + 100)}},
			backupOn(1, 4*mb, 5*mb), 1, "10 -", nil},
		{"broken records behind a hole", []recovery.Line{lineOf(1, nil, 3, 6, 8, 9)}, []recovery.Damaged{{Segment: segmentOf(1, 8), LSN: wal.LSN(8*mb + 100)}},
			backupOn(1, 4*mb, 5*mb), 1, "7 7-7", nil},
		{"the first of two broken ones", []recovery.Line{lineOf(1, nil, 3, 9)}, []recovery.Damaged{
			{Segment: segmentOf(1, 8), LSN: wal.LSN(8*mb + 100)}, {Segment: segmentOf(1, 6), LSN: wal.LSN(6 * mb)},
		}, backupOn(1, 4*mb, 5*mb), 1, "6 6-6!", nil},
		{"broken on a timeline that was left before", []recovery.Line{lineOf(1, nil, 3, 9), lineOf(2, left(1, 6*mb), 6, 9)},
			[]recovery.Damaged{{Segment: segmentOf(1, 7), LSN: wal.LSN(7 * mb)}}, backupOn(1, 4*mb, 5*mb), 2, "10 -", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			inv := recovery.Inventory{Identity: archive.Identity{SegmentSize: wal.SegmentSize(mb)}, Lines: test.lines, Damages: test.damage}
			r, err := inv.Reach(test.backup, test.to)
			if !errors.Is(err, test.err) {
				t.Fatalf("got %v, want %v", err, test.err)
			}
			if got := describe(r); err == nil && got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func segmentOf(tli wal.Timeline, number uint64) wal.Name {
	return wal.SegmentAt(tli, wal.LSN(number*mb), wal.SegmentSize(mb))
}

// describe says in numbers of segments where a reach ends, and what is missing there.
func describe(r recovery.Reach) string {
	s := fmt.Sprint(uint64(r.To) / mb)
	if rest := uint64(r.To) % mb; rest > 0 {
		s += fmt.Sprintf("+%d", rest)
	}
	if r.Gap == nil {
		return s + " -"
	}
	first, _ := r.Gap.First.Number(wal.SegmentSize(mb))
	last, _ := r.Gap.Last.Number(wal.SegmentSize(mb))
	s += fmt.Sprintf(" %d-%d", first, last)
	if r.Gap.Damage != nil {
		s += "!"
	}
	return s
}

// Reach agrees with an oracle that asks for one segment after the other, as PostgreSQL does: under the name of the newest
// timeline that has begun in the segment or before.
func TestReachRandom(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	reached, incomplete, elsewhere := 0, 0, 0
	for i := range 100_000 {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		h := randomHistory(r)
		inv := recovery.Inventory{Identity: archive.Identity{SegmentSize: wal.SegmentSize(mb)}}
		for tli, l := range h {
			line := recovery.Line{Timeline: wal.Timeline(tli + 1), History: wal.History{Timeline: wal.Timeline(tli + 1), Entries: l.left}}
			for n := range uint64(most) {
				if l.there[n] && n > 0 && l.there[n-1] {
					line.Segments[len(line.Segments)-1].Last = n
				} else if l.there[n] {
					line.Segments = append(line.Segments, recovery.Span{First: n, Last: n})
				}
			}
			inv.Lines = append(inv.Lines, line)
		}
		of, to := r.IntN(len(h)), r.IntN(len(h))
		start := max(1, h.begins(of)) + r.Uint64N(6*mb)
		b := backupOn(wal.Timeline(of+1), start, start+r.Uint64N(2*mb))
		got, err := inv.Reach(b, wal.Timeline(to+1))
		want, wantErr := h.reach(b, to)
		if !errors.Is(err, wantErr) || err == nil && uint64(got.To) != want*mb {
			t.Fatalf("history %d: backup %d %s-%s to %d: got %s, %v; want %d, %v\n%+v", i, of+1, b.Start, b.Stop, to+1, got.To, err, want, wantErr, h)
		}
		if err == nil {
			reached++
			if (got.Gap != nil) != h.wentOn(want, to) {
				t.Fatalf("history %d: backup %d %s-%s to %d: gap %v at %d\n%+v", i, of+1, b.Start, b.Stop, to+1, got.Gap, want, h)
			}
			if n, _ := got.Last.Number(wal.SegmentSize(mb)); n != want-1 || int(got.Last.Timeline) != h.asks(want-1, to)+1 {
				t.Fatalf("history %d: last segment %s, want number %d of timeline %d", i, got.Last, want-1, h.asks(want-1, to)+1)
			}
		} else if errors.Is(err, recovery.ErrIncomplete) {
			incomplete++
		} else {
			elsewhere++
		}
	}
	if min(reached, incomplete, elsewhere) < 1000 {
		t.Errorf("%d reached, %d incomplete, %d elsewhere: the histories show too little", reached, incomplete, elsewhere)
	}
}

const most = 24 // numbers of segments

// A history is a number of timelines, from 1; the oracle knows each segment by itself.
type history []struct {
	left  []wal.HistoryEntry
	there [most]bool
}

func (h history) begins(tli int) uint64 {
	if n := len(h[tli].left); n > 0 {
		return uint64(h[tli].left[n-1].End)
	}
	return 0
}

func randomHistory(r *rand.Rand) history {
	h := make(history, 1+r.IntN(4))
	for tli := range h {
		if tli > 0 {
			parent := r.IntN(tli)
			at := max(h.begins(parent), mb) + r.Uint64N(8*mb)
			if r.IntN(3) == 0 {
				at = at / mb * mb
			}
			at = max(at, h.begins(parent))
			h[tli].left = append(slices.Clone(h[parent].left), wal.HistoryEntry{Timeline: wal.Timeline(parent + 1), End: wal.LSN(at)})
		}
		end := h.begins(tli)/mb + r.Uint64N(12)
		for n := max(1, h.begins(tli)/mb); n <= min(end, most-1); n++ {
			h[tli].there[n] = r.IntN(15) > 0
		}
	}
	return h
}

// asks is the timeline, from 0, under whose name recovery asks for a segment.
func (h history) asks(n uint64, to int) int {
	if n >= h.begins(to)/mb {
		return to
	}
	for i := len(h[to].left) - 1; i >= 0; i-- {
		if tli := int(h[to].left[i].Timeline) - 1; n >= h.begins(tli)/mb {
			return tli
		}
	}
	return 0
}

func (h history) reach(b *backup.Manifest, to int) (uint64, error) {
	of := int(b.Timeline) - 1
	on := of == to
	for _, e := range h[to].left {
		on = on || e.Timeline == b.Timeline && b.Stop <= e.End
	}
	if !on {
		return 0, recovery.ErrNotOnLine
	}
	n := uint64(b.Start) / mb
	for n < most && h[h.asks(n, to)].there[n] {
		n++
	}
	if n*mb < uint64(b.Stop) {
		return 0, recovery.ErrIncomplete
	}
	return n, nil
}

// wentOn reports whether WAL must have gone on at a number: there is more on the way, or a timeline begins behind it.
func (h history) wentOn(n uint64, to int) bool {
	if n < h.begins(to)/mb {
		return true
	}
	for ; n < most; n++ {
		if h[h.asks(n, to)].there[n] {
			return true
		}
	}
	return false
}
