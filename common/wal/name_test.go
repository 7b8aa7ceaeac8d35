package wal_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"walkeep/common/wal"
)

func mustName(t testing.TB, s string) wal.Name {
	t.Helper()
	n, err := wal.ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestParseName(t *testing.T) {
	for _, c := range []struct {
		in      string
		want    wal.Name
		kind    string
		segment string
	}{
		{"000000010000000000000028", wal.Name{Timeline: 1, Seg: 0x28}, "segment", "000000010000000000000028"},
		{"FFFFFFFFFFFFFFFFFFFFFFFF", wal.Name{Timeline: 1<<32 - 1, Log: 1<<32 - 1, Seg: 1<<32 - 1}, "segment", "FFFFFFFFFFFFFFFFFFFFFFFF"},
		{"0000000A0000000B000000FE.partial", wal.Name{Kind: wal.KindPartial, Timeline: 10, Log: 11, Seg: 0xFE}, "partial segment", "0000000A0000000B000000FE"},
		{"000000010000000000000002.00000028.backup", wal.Name{Kind: wal.KindBackup, Timeline: 1, Seg: 2, Offset: 0x28}, "backup history file", "000000010000000000000002"},
		{"00000002.history", wal.Name{Kind: wal.KindHistory, Timeline: 2}, "timeline history file", "00000002.history"},
	} {
		t.Run(c.in, func(t *testing.T) {
			got, err := wal.ParseName(c.in)
			if err != nil || got != c.want {
				t.Fatalf("got %+v, %v, want %+v", got, err, c.want)
			}
			if got.String() != c.in {
				t.Errorf("got %q, want %q", got.String(), c.in)
			}
			if got.Kind.String() != c.kind {
				t.Errorf("got %q, want %q", got.Kind.String(), c.kind)
			}
			if got.Segment().String() != c.segment {
				t.Errorf("got segment %q, want %q", got.Segment().String(), c.segment)
			}
		})
	}
}

func TestParseNameRefuses(t *testing.T) {
	for _, c := range []struct{ name, in string }{
		{"empty", ""},
		{"too short", "00000001000000000000002"},
		{"too long", "0000000100000000000000280"},
		{"lower case", "00000001000000000000002a"},
		{"no digits", "00000001000000000000002G"},
		{"timeline zero", "000000000000000000000028"},
		{"timeline zero of a history", "00000000.history"},
		{"history of a segment", "000000010000000000000028.history"},
		{"short history", "0000002.history"},
		{"lower case history", "0000000a.history"},
		{"partial history", "00000002.history.partial"},
		{"upper case ending", "000000010000000000000028.PARTIAL"},
		{"two endings", "000000010000000000000028.partial.partial"},
		{"compressed", "000000010000000000000028.zst"},
		{"short offset", "000000010000000000000002.0000028.backup"},
		{"long offset", "000000010000000000000002.000000028.backup"},
		{"lower case offset", "000000010000000000000002.0000002a.backup"},
		{"no offset", "000000010000000000000002.backup"},
		{"wrong dot", "000000010000000000000002_00000028.backup"},
		{"directory", "pg_wal/000000010000000000000028"},
		{"parent", "../000000010000000000000028"},
		{"space before", " 000000010000000000000028"},
		{"line end", "000000010000000000000028\n"},
		{"zero byte", "000000010000000000000028\x00"},
		{"temporary", "RECOVERYXLOG"},
		{"huge", strings.Repeat("0", 1<<20)},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := wal.ParseName(c.in)
			if !errors.Is(err, wal.ErrName) || got != (wal.Name{}) {
				t.Errorf("got %+v, %v, want ErrName", got, err)
			}
			if err != nil && len(err.Error()) > 200 {
				t.Errorf("error of %d bytes", len(err.Error()))
			}
		})
	}
}

func TestParseTimeline(t *testing.T) {
	got, err := wal.ParseTimeline("0000000A")
	if err != nil || got != 10 || got.String() != "0000000A" {
		t.Errorf("got %v, %v, want 0000000A", got, err)
	}
	for _, in := range []string{"", "1", "00000000", "0000000a", "000000001", "0000001 "} {
		if got, err := wal.ParseTimeline(in); !errors.Is(err, wal.ErrName) {
			t.Errorf("%q: got %v, %v, want ErrName", in, got, err)
		}
	}
}

func TestNamePosition(t *testing.T) {
	for _, c := range []struct {
		name   string
		size   wal.SegmentSize
		number uint64
		start  wal.LSN
		next   string
	}{
		{"000000010000000000000000", 16 << 20, 0, 0, "000000010000000000000001"},
		{"000000010000000000000001", 16 << 20, 1, 0x1000000, "000000010000000000000002"},
		{"0000000300000002000000FF", 16 << 20, 0x2FF, 0x2FF000000, "000000030000000300000000"},
		{"000000010000000000000FFF", 1 << 20, 0xFFF, 0xFFF00000, "000000010000000100000000"},
		{"00000001000000070000003F", 64 << 20, 0x1FF, 0x7FC000000, "000000010000000800000000"},
		{"000000010000000100000003", 1 << 30, 7, 0x1C0000000, "000000010000000200000000"},
		{"000000010000000100000002.partial", 1 << 30, 6, 0x180000000, "000000010000000100000003"},
		{"000000010000000100000002.00000028.backup", 1 << 30, 6, 0x180000000, "000000010000000100000003"},
		{"00000001FFFFFFFF000000FF", 16 << 20, 1<<40 - 1, 0xFFFFFFFFFF000000, "000000010000000000000000"},
	} {
		t.Run(c.name+" "+c.size.String(), func(t *testing.T) {
			n := mustName(t, c.name)
			if got, err := n.Number(c.size); err != nil || got != c.number {
				t.Errorf("number: got %d, %v, want %d", got, err, c.number)
			}
			if got, err := n.Start(c.size); err != nil || got != c.start {
				t.Errorf("start: got %s, %v, want %s", got, err, c.start)
			}
			if got := n.Next(c.size).String(); got != c.next {
				t.Errorf("next: got %s, want %s", got, c.next)
			}
			for _, off := range []wal.LSN{0, 1, wal.LSN(c.size) - 1} {
				if got := wal.SegmentAt(n.Timeline, c.start+off, c.size); got != n.Segment() {
					t.Errorf("segment at %s: got %s, want %s", c.start+off, got, n.Segment())
				}
			}
		})
	}
}

func TestNameWithoutPosition(t *testing.T) {
	for _, c := range []struct {
		name string
		size wal.SegmentSize
		want error
	}{
		{"000000010000000000000100", 16 << 20, wal.ErrName},
		{"000000010000000000000040", 64 << 20, wal.ErrName},
		{"000000010000000000000004", 1 << 30, wal.ErrName},
		{"000000010000000000001000", 1 << 20, wal.ErrName},
		{"00000001.history", 16 << 20, wal.ErrName},
		{"000000010000000000000001", 0, wal.ErrSegmentSize},
		{"000000010000000000000001", 3 << 20, wal.ErrSegmentSize},
	} {
		t.Run(c.name+" "+c.size.String(), func(t *testing.T) {
			n := mustName(t, c.name)
			if _, err := n.Number(c.size); !errors.Is(err, c.want) {
				t.Errorf("number: got %v, want %v", err, c.want)
			}
			if _, err := n.Start(c.size); !errors.Is(err, c.want) {
				t.Errorf("start: got %v, want %v", err, c.want)
			}
		})
	}
	n := mustName(t, "000000010000000000000001")
	if got := n.Next(0); got != n {
		t.Errorf("next without a size: got %s, want %s", got, n)
	}
	if got := wal.SegmentAt(1, 1<<40, 0); got != (wal.Name{Timeline: 1}) {
		t.Errorf("segment without a size: got %s", got)
	}
}

func TestCompare(t *testing.T) {
	want := []string{
		"000000010000000000000001",
		"000000010000000000000002",
		"000000010000000000000002.00000028.backup",
		"000000010000000000000002.000000F0.backup",
		"000000010000000000000002.partial",
		"0000000100000000000000FF",
		"000000010000000100000000",
		"00000002.history",
		"000000020000000000000000",
		"000000020000000000000002",
		"0000000A.history",
		"000000100000000000000001",
	}
	var names []wal.Name
	for _, s := range want {
		names = append(names, mustName(t, s))
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	slices.SortFunc(names, wal.Compare)
	for i, n := range names {
		if n.String() != want[i] {
			t.Errorf("%d: got %s, want %s", i, n, want[i])
		}
		if wal.Compare(n, n) != 0 {
			t.Errorf("%s is not equal to itself", n)
		}
	}
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{
		"000000010000000000000028", "000000010000000000000028.partial", "00000002.history",
		"000000010000000000000002.00000028.backup", "000000010000000000000002.backup", "../x",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := wal.ParseName(s)
		if err != nil {
			if !errors.Is(err, wal.ErrName) {
				t.Errorf("got %v, want ErrName", err)
			}
			return
		}
		if n.String() != s {
			t.Errorf("got %q, want %q", n.String(), s)
		}
		for size := wal.MinSegmentSize; size <= wal.MaxSegmentSize; size *= 2 {
			start, err := n.Start(size)
			if err != nil {
				continue
			}
			if got := wal.SegmentAt(n.Timeline, start, size); got != n.Segment() {
				t.Errorf("segment at %s: got %s, want %s", start, got, n.Segment())
			}
			if next, err := n.Next(size).Start(size); err != nil || next != start+wal.LSN(size) {
				t.Errorf("next of %s: got %s, %v", n, next, err)
			}
		}
	})
}
