package wal_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"walkeep/common/wal"
)

// same returns how two results differ, apart from the wording of faults.
func same(t *testing.T, got, want wal.Result) {
	t.Helper()
	if errors.Is(got.HeaderErr, wal.ErrHeader) != (want.HeaderErr != nil) ||
		errors.Is(got.HeaderErr, wal.ErrSize) != errors.Is(want.HeaderErr, wal.ErrSize) {
		t.Errorf("header: got %v, want %v", got.HeaderErr, want.HeaderErr)
	}
	if (got.Damage == nil) != (want.Damage == nil) || got.Damage != nil && got.Damage.LSN != want.Damage.LSN {
		t.Errorf("damage: got %v, want %v", got.Damage, want.Damage)
	}
	if (got.Unchecked == nil) != (want.Unchecked == nil) || got.Unchecked != nil && *got.Unchecked != *want.Unchecked {
		t.Errorf("unchecked: got %v, want %v", got.Unchecked, want.Unchecked)
	}
	got.HeaderErr, want.HeaderErr, got.Damage, want.Damage, got.Unchecked, want.Unchecked = nil, nil, nil, nil, nil, nil
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// The segments of real servers of every version are undamaged, and Walker and reference return the same results.
func TestRealSegments(t *testing.T) {
	for _, major := range majors {
		for _, n := range names(t, major, wal.KindSegment, wal.KindPartial) {
			t.Run(major+"/"+n.String(), func(t *testing.T) {
				b := load(t, major, n.String())
				got := walk(n, b)
				if got.HeaderErr != nil || got.Damage != nil {
					t.Errorf("got %v, %v", got.HeaderErr, got.Damage)
				}
				if got.Records == 0 {
					t.Error("no records")
				}
				want, _ := refer(n, b)
				same(t, got, want)
				if n.Kind == wal.KindPartial {
					got := walk(n.Segment(), b)
					if got.Damage == nil || got.Damage.LSN != want.End {
						t.Errorf("as a complete segment: got %v, want damage at %s", got.Damage, want.End)
					}
				}
			})
		}
	}
}

// The test data has the situations that its README lists.
func TestRealSituations(t *testing.T) {
	for _, major := range majors {
		t.Run(major, func(t *testing.T) {
			segments := names(t, major, wal.KindSegment)
			if len(segments) < 7 {
				t.Fatalf("got %d segments", len(segments))
			}
			var w wal.Walker
			var got []string
			for i, n := range segments {
				b := load(t, major, n.String())
				alone := walk(n, b)
				w.Continue(n)
				w.Write(b)
				r := w.Finish()
				if r.HeaderErr != nil || r.Damage != nil {
					t.Errorf("%s: got %v, %v", n, r.HeaderErr, r.Damage)
				}
				s := fmt.Sprintf("timeline %d of %d", r.Header.Timeline, n.Timeline)
				if more := r.Records - alone.Records; more > 0 {
					s += fmt.Sprintf(", %d continued", more)
				}
				if r.Switched {
					s += ", switched"
				}
				if lost := overwritten(b, int(r.Header.BlockSize)); lost >= 0 {
					s += fmt.Sprintf(", lost at %d/16", lost*16/len(b))
				}
				if i < 7 {
					got = append(got, s)
				}
			}
			want := []string{
				"timeline 1 of 1",
				"timeline 1 of 1, 1 continued, switched",
				"timeline 1 of 1",
				"timeline 1 of 1, switched, lost at 8/16",
				"timeline 1 of 1",
				"timeline 1 of 1, switched, lost at 0/16",
				"timeline 1 of 3, switched",
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %q\nwant %q", got, want)
			}
		})
	}
}

// overwritten returns the offset of the first page that lost a continuation, or -1.
func overwritten(b []byte, block int) int {
	flag := byte(8)
	if h, err := wal.ParseHeader(b); err == nil && h.Major() >= 19 {
		flag = 4
	}
	for off := 0; off < len(b); off += block {
		if b[off+2]&flag != 0 {
			return off
		}
	}
	return -1
}

// The backup history files name the segment in which the backup started.
func TestRealBackups(t *testing.T) {
	for _, major := range majors {
		for _, n := range names(t, major, wal.KindBackup) {
			start, err := n.Start(sizeOf(t, major))
			if err != nil {
				t.Fatal(err)
			}
			line, _, _ := strings.Cut(string(load(t, major, n.String())), "\n")
			var position, file string
			fmt.Sscanf(line, "START WAL LOCATION: %s (file %24s)", &position, &file)
			if at, err := wal.ParseLSN(position); err != nil || at != start+wal.LSN(n.Offset) || file != n.Segment().String() {
				t.Errorf("%s: got %q, %v, want %s in %s", n, line, err, start+wal.LSN(n.Offset), n.Segment())
			}
		}
	}
}

func sizeOf(t *testing.T, major string) wal.SegmentSize {
	h, err := wal.ParseHeader(load(t, major, names(t, major, wal.KindSegment)[0].String()))
	if err != nil {
		t.Fatal(err)
	}
	return h.SegmentSize
}

// Segments of one cluster under each other's names have header errors.
func TestRealWrongNames(t *testing.T) {
	segments := names(t, "15", wal.KindSegment)
	for _, n := range segments {
		for _, other := range segments {
			if n != other {
				if r := walk(other, load(t, "15", n.String())); !errors.Is(r.HeaderErr, wal.ErrHeader) {
					t.Errorf("%s as %s: got %v, want ErrHeader", n, other, r.HeaderErr)
				}
			}
		}
	}
}

// The Walker counts as many records as pg_waldump 15 did when the test data was made.
func TestWaldumpNumbers(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(testdata, "15", "pg_waldump.txt"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if got, want := len(lines), len(names(t, "15", wal.KindSegment)); got != want {
		t.Errorf("got %d lines, want %d", got, want)
	}
	for _, line := range lines {
		var name, last string
		var records uint64
		if _, err := fmt.Sscan(line, &name, &records, &last); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		r := walk(mustName(t, name), load(t, "15", name))
		if r.Records != records || r.Last != lsnOfWaldump(t, last) {
			t.Errorf("%s: got %d records, the last at %s, want %d, %s", name, r.Records, r.Last, records, last)
		}
	}
}

// lsnOfWaldump reads an LSN as pg_waldump prints it ("%X/%08X").
func lsnOfWaldump(t *testing.T, s string) wal.LSN {
	t.Helper()
	var hi, lo uint32
	if _, err := fmt.Sscanf(s, "%X/%X", &hi, &lo); err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return wal.LSN(hi)<<32 | wal.LSN(lo)
}
