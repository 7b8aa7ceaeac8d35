package wal_test

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"walkeep/common/wal"
)

func TestParseHistory(t *testing.T) {
	one := []wal.HistoryEntry{{1, 0x3000028, "no recovery target specified"}}
	for _, c := range []struct {
		name, in string
		want     []wal.HistoryEntry
	}{
		{"one", "1\t0/3000028\tno recovery target specified\n", one},
		{"no line end", "1\t0/3000028\tno recovery target specified", one},
		{"blanks", "\n\n  1 \t 0/3000028 \t no recovery target specified \r\n \n", one},
		{"comments", "# 7\t0/1\tx\n \t# y\n1\t0/3000028\tno recovery target specified\n#", one},
		{"lower case and zeros", "01\t00000000/03000028\tno recovery target specified\n", one},
		{"no reason", "1\t0/3000028\n", []wal.HistoryEntry{{1, 0x3000028, ""}}},
		{"a tab in the reason", "1 0/abcdef x\ty\n", []wal.HistoryEntry{{1, 0xABCDEF, "x\ty"}}},
		{"same position", "1\t0/3000028\ta\n\n2\t0/3000028\tb\n", []wal.HistoryEntry{{1, 0x3000028, "a"}, {2, 0x3000028, "b"}}},
		{"left before it began", "1\t0/3000028\ta\n2\t0/4000028\tb\n3\t0/2000000\tc\n", []wal.HistoryEntry{{1, 0x2000000, "a"}, {2, 0x2000000, "b"}, {3, 0x2000000, "c"}}},
		{"timelines that were skipped", "1\t0/3000028\ta\n5\t7/0\tb\n", []wal.HistoryEntry{{1, 0x3000028, "a"}, {5, 0x700000000, "b"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := wal.ParseHistory(9, []byte(c.in))
			want := wal.History{Timeline: 9, Entries: c.want}
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("got %+v, %v, want %+v", got, err, want)
			}
			again, err := wal.ParseHistory(9, got.Bytes())
			if err != nil || !reflect.DeepEqual(again, want) {
				t.Errorf("again: got %+v, %v, want %+v", again, err, want)
			}
		})
	}
}

func TestParseHistoryRefuses(t *testing.T) {
	const good = "1\t0/3000028\tx\n"
	for _, c := range []struct{ name, in string }{
		{"empty", ""},
		{"comments only", "# nothing\n\n"},
		{"no timeline", "x\t0/3000028\n"},
		{"negative timeline", "-1\t0/3000028\n"},
		{"timeline zero", "0\t0/3000028\n"},
		{"timeline too large", "4294967296\t0/3000028\n"},
		{"timeline in hexadecimal", "A\t0/3000028\n"},
		{"no position", "1\n"},
		{"half a position", "1\t0/\n"},
		{"nothing between", "1A/3000028\n"},
		{"no slash", "1\t03000028\n"},
		{"position too large", "1\t0/100000000\n"},
		{"text in the position", "1\t0/30z\n"},
		{"its own timeline", good + "9\t0/4000000\tx\n"},
		{"a later timeline", "10\t0/3000028\tx\n"},
		{"a timeline twice", good + good},
		{"decreasing timelines", "2\t0/3000028\tx\n1\t0/4000000\tx\n"},
		{"zero byte", "1\t0/3000028\tx\x00\n"},
		{"long line", "1\t0/3000028\t" + strings.Repeat("x", 1024) + "\n"},
		{"long file", good + strings.Repeat("#\n", wal.MaxHistorySize/2)},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, err := wal.ParseHistory(9, []byte(c.in)); !errors.Is(err, wal.ErrHistory) {
				t.Errorf("got %+v, %v, want ErrHistory", got, err)
			}
		})
	}
}

func TestHistoryTimelineOf(t *testing.T) {
	h := wal.History{Timeline: 5, Entries: []wal.HistoryEntry{{Timeline: 1, End: 100}, {Timeline: 2, End: 100}, {Timeline: 4, End: 200}}}
	for _, c := range []struct {
		lsn  wal.LSN
		want wal.Timeline
	}{{0, 1}, {99, 1}, {100, 4}, {199, 4}, {200, 5}, {1 << 40, 5}} {
		if got := h.TimelineOf(c.lsn); got != c.want {
			t.Errorf("%s: got %d, want %d", c.lsn, got, c.want)
		}
	}
	if got := h.Begin(); got != 200 {
		t.Errorf("begin: got %s, want 0/C8", got)
	}
	first := wal.History{Timeline: 1}
	if got := first.Begin(); got != 0 {
		t.Errorf("begin of timeline 1: got %s, want 0/0", got)
	}
	if got := first.TimelineOf(77); got != 1 {
		t.Errorf("timeline without entries: got %d, want 1", got)
	}
}

// Bytes reproduces the history files of real servers, except for the zeros before positions, and their last position is the end
// of the WAL in the partial segment that the same promotion left.
func TestHistoryOfServers(t *testing.T) {
	for _, major := range majors {
		t.Run(major, func(t *testing.T) {
			for _, tli := range []wal.Timeline{2, 3} {
				b := load(t, major, tli.String()+".history")
				h, err := wal.ParseHistory(tli, b)
				if err != nil {
					t.Fatal(err)
				}
				if len(h.Entries) != int(tli)-1 {
					t.Fatalf("got %d entries, want %d", len(h.Entries), tli-1)
				}
				want := b
				if major == "19" { // pads positions
					want = bytes.ReplaceAll(b, []byte("\t0/0"), []byte("\t0/"))
				}
				if got := h.Bytes(); !bytes.Equal(got, want) {
					t.Errorf("got %q, want %q", got, want)
				}
				for _, n := range names(t, major, wal.KindPartial) {
					if n.Timeline != tli-1 {
						continue
					}
					if got, want := walk(n, load(t, major, n.String())).End, h.Begin(); got != want {
						t.Errorf("end of %s: got %s, want %s", n, got, want)
					}
				}
			}
		})
	}
}

func FuzzParseHistory(f *testing.F) {
	for _, s := range []string{
		"1\t0/3000028\tno recovery target specified\n\n2\t0/5000028\tat restore point \"x\"\n",
		"# c\n\n 1 0/1\r\n", "1\t0/1", "2\t0/2\tx\n1\t0/1\tx\n", "\x00",
	} {
		f.Add(uint32(9), []byte(s))
	}
	f.Fuzz(func(t *testing.T, tli uint32, b []byte) {
		h, err := wal.ParseHistory(wal.Timeline(tli), b)
		if err != nil {
			if !errors.Is(err, wal.ErrHistory) {
				t.Errorf("got %v, want ErrHistory", err)
			}
			return
		}
		for i, e := range h.Entries {
			if e.Timeline >= h.Timeline || i > 0 && (e.Timeline <= h.Entries[i-1].Timeline || e.End < h.Entries[i-1].End) {
				t.Errorf("entry %d is out of order: %+v", i, h)
			}
			if got := h.TimelineOf(e.End); got <= e.Timeline {
				t.Errorf("timeline of %s: got %d", e.End, got)
			}
		}
		again, err := wal.ParseHistory(h.Timeline, h.Bytes())
		if err != nil || !reflect.DeepEqual(again, h) {
			t.Errorf("again: got %+v, %v, want %+v", again, err, h)
		}
	})
}
