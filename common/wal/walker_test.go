package wal_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"walkeep/common/cmdtest"
	"walkeep/common/wal"
)

const (
	magic14 = 0xD10D
	magic15 = 0xD110
	magic16 = 0xD113
)

// segments returns the WAL that make writes, cut into segments of 1 MB.
func segments(n wal.Name, magic uint16, make func(s *stream)) [][]byte {
	var out bytes.Buffer
	s := newStream(&out, magic, n, 1<<20, 8192)
	make(s)
	if s.lsn%(1<<20) != 0 {
		s.zeros()
	}
	var all [][]byte
	for b := out.Bytes(); len(b) > 0; b = b[1<<20:] {
		all = append(all, b[:1<<20])
	}
	return all
}

// walkAll walks consecutive segments as one stream.
func walkAll(n wal.Name, all [][]byte) []wal.Result {
	var w wal.Walker
	var results []wal.Result
	for i, b := range all {
		if i == 0 {
			w.Reset(n)
		} else {
			n = n.Next(1 << 20)
			w.Continue(n)
		}
		w.Write(b)
		results = append(results, w.Finish())
	}
	return results
}

func TestWalkerSizes(t *testing.T) {
	for _, size := range []wal.SegmentSize{1 << 20, 16 << 20, 64 << 20, 1 << 30} {
		for _, block := range []int{1 << 10, 8 << 10, 64 << 10} {
			t.Run(fmt.Sprintf("%s blocks of %d", size, block), func(t *testing.T) {
				if size == 1<<30 {
					cmdtest.Long(t)
				}
				n := wal.SegmentAt(3, 5<<30, size)
				var w wal.Walker
				w.Reset(n)
				s := newStream(&w, magic15, n, size, block)
				payload := bytes.Repeat([]byte("walkeep "), 1<<20)
				records := uint64(0)
				for int(s.lsn%wal.LSN(size)) < int(size)-20<<20 {
					s.record(10, 0, payload)
					records++
				}
				for s.segments == 0 && int(s.lsn%wal.LSN(size)) < int(size)-64<<10 {
					s.record(10, 0, payload[:s.lsn%30000])
					records++
				}
				s.record(0, 0x40, nil)
				end := s.lsn
				s.zeros()
				want := wal.Result{
					Start: 5 << 30, End: end, Records: records + 1, Last: s.prev, Switched: true,
					Header: wal.Header{
						Magic: magic15, Info: 2, Timeline: 3, PageAddr: 5 << 30,
						SystemID: s.sysid, SegmentSize: size, BlockSize: uint32(block),
					},
				}
				same(t, w.Finish(), want)
			})
		}
	}
}

// The last segment that an LSN can address.
func TestWalkerLastSegment(t *testing.T) {
	n := mustName(t, "00000001FFFFFFFF00000FFF")
	all := segments(n, magic15, func(s *stream) { s.fill() })
	r := walk(n, all[0])
	if r.HeaderErr != nil || r.Damage != nil || r.Records == 0 {
		t.Errorf("got %+v", r)
	}
}

func TestWalkerBorders(t *testing.T) {
	n := mustName(t, "000000020000000000000005")
	for left := 8; left <= 64; left += 8 {
		for _, size := range []int{0, 1, 8, 24, 100, 8192, 100000, 3 << 20} {
			t.Run(fmt.Sprintf("%d bytes of a record of %d", left, 24+size), func(t *testing.T) {
				var total, written uint64
				all := segments(n, magic15, func(s *stream) {
					s.record(10, 0, make([]byte, 1<<20-16384-len(s.page)))
					s.until(left)
					s.record(10, 0, bytes.Repeat([]byte{7}, size)) // across pages
					for s.lsn%(1<<20) < 1<<20-8192 && s.segments == 0 {
						s.record(10, 0, make([]byte, 512))
					}
					s.until(left)
					s.record(10, 0, bytes.Repeat([]byte{7}, size)) // across segments
					s.record(1, 0, nil)
					s.change()
					written = s.records
				})
				results := walkAll(n, all)
				for i, r := range results {
					total += r.Records
					if r.HeaderErr != nil || r.Damage != nil || r.Switched != (i == len(all)-1) {
						t.Errorf("segment %d: got %+v", i, r)
					}
					want, _ := refer(wal.SegmentAt(2, r.Start, 1<<20), all[i])
					same(t, walk(wal.SegmentAt(2, r.Start, 1<<20), all[i]), want)
				}
				if total != written {
					t.Errorf("got %d records, want %d", total, written)
				}
			})
		}
	}
}

// A switch record whose header does not fit into its segment makes the next one unused.
func TestWalkerSwitchAcrossSegments(t *testing.T) {
	n := mustName(t, "000000010000000000000005")
	for _, left := range []int{8, 16} {
		all := segments(n, magic15, func(s *stream) {
			s.record(10, 0, make([]byte, 1<<20-16384))
			for s.lsn%(1<<20) < 1<<20-8192 {
				s.record(10, 0, nil)
			}
			s.until(left)
			s.change()
			s.record(10, 0, nil)
			s.fill()
		})
		if len(all) < 3 {
			t.Fatalf("got %d segments", len(all))
		}
		got := walkAll(n, all[:3])
		if got[0].Switched || !got[1].Switched || got[1].Records != 1 || got[2].Damage != nil || got[2].Records == 0 {
			t.Errorf("%d bytes left: got %+v", left, got)
		}
		alone := walk(n.Next(1<<20), all[1])
		if !alone.Switched || alone.Damage != nil || alone.Records != 0 {
			t.Errorf("%d bytes left, alone: got %+v", left, alone)
		}
		// Only the rest of a switch record excuses what follows it.
		b := bytes.Clone(all[1])
		b[wal.HeaderSize+24-left-8] ^= 0x10
		if r := walk(n.Next(1<<20), b); r.Damage == nil {
			t.Errorf("%d bytes left, another record: got no damage", left)
		}
	}
}

func TestWalkerHeader(t *testing.T) {
	n := mustName(t, "000000020000000000000005")
	good := segments(n, magic15, func(s *stream) { s.fill() })[0]
	for _, c := range []struct {
		name string
		as   string
		b    []byte
		size bool
	}{
		{"nothing", n.String(), nil, true},
		{"39 bytes", n.String(), good[:39], true},
		{"header only", n.String(), good[:40], true},
		{"one byte short", n.String(), good[:len(good)-1], true},
		{"one byte long", n.String(), append(bytes.Clone(good), 0), true},
		{"twice as long", n.String(), append(bytes.Clone(good), good...), true},
		{"short partial", n.String() + ".partial", good[:len(good)/2+1], true},
		{"no WAL", n.String(), make([]byte, len(good)), false},
		{"no WAL in a partial", n.String() + ".partial", make([]byte, len(good)), false},
		{"text", n.String(), bytes.Repeat([]byte("text "), len(good)), false},
		{"another segment", "000000020000000000000006", good, false},
		{"older timeline", "000000010000000000000005", good, false},
		{"history", "00000002.history", good, false},
		{"backup", n.String() + ".00000028.backup", good, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := walk(mustName(t, c.as), c.b)
			if !errors.Is(r.HeaderErr, wal.ErrHeader) || errors.Is(r.HeaderErr, wal.ErrSize) != c.size {
				t.Errorf("got %v", r.HeaderErr)
			}
			if !c.size && (r.Records > 0 || r.Start != 0 || r.End != 0 || r.Damage != nil) {
				t.Errorf("got %+v", r)
			}
		})
	}
	r := walk(mustName(t, n.String()+".partial"), good[:len(good)/2+1])
	if limit := r.Start + wal.LSN(len(good)/2+1); r.End > limit || r.End < limit-1024 || r.Records == 0 {
		t.Errorf("short partial: got %+v", r)
	}
}

func TestWalkerContinue(t *testing.T) {
	n := mustName(t, "000000020000000000000005")
	next := n.Next(1 << 20)
	all := segments(n, magic15, func(s *stream) {
		s.record(10, 0, make([]byte, 1<<20))
		s.fill()
	})
	other := func(edit func(b []byte)) []byte {
		b := bytes.Clone(all[1])
		edit(b)
		return b
	}
	whole, alone := walkAll(n, all)[1], walk(next, all[1])
	if whole.Records != alone.Records+1 || whole.Damage != nil || alone.Damage != nil {
		t.Fatalf("got %+v, alone %+v", whole, alone)
	}
	for _, c := range []struct {
		name   string
		first  wal.Name
		b1     []byte
		second wal.Name
		b2     []byte
		want   string // of the second's damage
		like   wal.Result
	}{
		{"as it should be", n, all[0], next, all[1], "", whole},
		{"not the following", mustName(t, "000000020000000000000004"),
			segments(mustName(t, "000000020000000000000004"), magic15, func(s *stream) { s.record(10, 0, nil); s.change() })[0],
			next, all[1], "", alone},
		{"short before", n, all[0][:1<<19], next, all[1], "", alone},
		{"damage before", n, func() []byte { b := bytes.Clone(all[0]); b[8192]++; return b }(), next, all[1], "", alone},
		{"timeline going back", n, all[0], wal.Name{Timeline: 1, Log: next.Log, Seg: next.Seg},
			other(func(b []byte) {
				for page := 0; page < len(b); page += 8192 {
					b[page+4] = 1
				}
			}), "", alone},
		{"page timeline going back", n, all[0], next, other(func(b []byte) { b[4] = 1 }), "timeline 1 after 2", alone},
		{"another system", n, all[0], next, other(func(b []byte) { b[24]++ }), "system identifier", alone},
		{"another version", n, all[0], next, other(func(b []byte) { b[0] = 0x13 }), "magic", alone},
		{"another block size", n, all[0], next, other(func(b []byte) { b[37] = 0x40 }), "block size", alone},
		{"another length", n, all[0], next, other(func(b []byte) { b[16]++ }), "continuation", alone},
		{"broken data", n, all[0], next, other(func(b []byte) { b[wal.HeaderSize]++ }), "checksum", alone},
		{"nothing continued", n, all[0], next, segments(next, magic15, func(s *stream) { s.fill() })[0], "continuation of 0 bytes", alone},
	} {
		t.Run(c.name, func(t *testing.T) {
			var w wal.Walker
			w.Reset(c.first)
			w.Write(c.b1)
			w.Finish()
			w.Continue(c.second)
			w.Write(c.b2)
			got := w.Finish()
			if c.want != "" {
				if got.Damage == nil || !strings.Contains(got.Damage.Error(), c.want) {
					t.Errorf("got %v, want %q", got.Damage, c.want)
				}
				return
			}
			if got.Damage != nil || got.Records != c.like.Records || got.End != c.like.End {
				t.Errorf("got %+v, want %+v", got, c.like)
			}
		})
	}
}

// After Reset the previous segment has no effect, even if it had damage or a switch.
func TestWalkerReuse(t *testing.T) {
	var w wal.Walker
	for _, major := range majors {
		for _, n := range names(t, major, wal.KindSegment, wal.KindPartial) {
			b := bytes.Clone(load(t, major, n.String()))
			b[len(b)/3]++
			w.Reset(n)
			w.Write(b)
			same(t, w.Finish(), walk(n, b))
		}
	}
}

// The sizes of the writes do not matter.
func TestWalkerChunks(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, n := range names(t, "15", wal.KindSegment, wal.KindPartial) {
		b := load(t, "15", n.String())
		want := walk(n, b)
		for _, size := range []int{1, 7, 8, 24, 39, 40, 41, 4096, 8191, 8192, 8193, 12288, 65536, 100001} {
			var w wal.Walker
			w.Reset(n)
			if _, err := io.CopyBuffer(&w, struct{ io.Reader }{bytes.NewReader(b)}, make([]byte, size)); err != nil {
				t.Fatal(err)
			}
			if got := w.Finish(); got != want {
				t.Errorf("%s by %d: got %+v, want %+v", n, size, got, want)
			}
		}
		var w wal.Walker
		w.Reset(n)
		for rest := b; len(rest) > 0; {
			size := min(random.IntN(30000), len(rest))
			if got, err := w.Write(rest[:size]); got != size || err != nil {
				t.Fatalf("got %d, %v, want %d", got, err, size)
			}
			rest = rest[size:]
		}
		if got := w.Finish(); got != want {
			t.Errorf("%s at random: got %+v, want %+v", n, got, want)
		}
	}
}

func TestWalkerAllocates(t *testing.T) {
	n := names(t, "15", wal.KindSegment)[0]
	b := load(t, "15", n.String())
	var w wal.Walker
	for _, size := range []int{len(b), 32 << 10, 1000} {
		allocs := testing.AllocsPerRun(5, func() {
			w.Reset(n)
			for rest := b; len(rest) > 0; {
				k := min(size, len(rest))
				w.Write(rest[:k])
				rest = rest[k:]
			}
			if r := w.Finish(); r.Damage != nil {
				t.Error(r.Damage)
			}
		})
		if allocs != 0 {
			t.Errorf("by %d bytes: got %v allocations, want 0", size, allocs)
		}
	}
}
