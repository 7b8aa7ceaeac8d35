package wal_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"walkeep/common/wal"
)

// flips flips single bits of segment n and checks that the walk reports each, unless nothing in the segment depends on that
// bit: then the segment must count as correct.
type flips struct {
	n                wal.Name
	b, loose         []byte
	w                wal.Walker
	header, damage   int // noticed
	missed, unwanted int
	free             int // bits that do not matter
}

func newFlips(t *testing.T, major string, n wal.Name) *flips {
	f := &flips{n: n, b: bytes.Clone(load(t, major, n.String()))}
	var r wal.Result
	if r, f.loose = refer(n, f.b); r.HeaderErr != nil || r.Damage != nil {
		t.Fatalf("%s: got %v, %v", n, r.HeaderErr, r.Damage)
	}
	return f
}

func (f *flips) flip(t *testing.T, off, bit int) {
	f.b[off] ^= 1 << bit
	f.w.Reset(f.n)
	f.w.Write(f.b)
	r := f.w.Finish()
	f.b[off] ^= 1 << bit
	switch bad := r.HeaderErr != nil || r.Damage != nil; {
	case f.loose[off]&(1<<bit) != 0:
		f.free++
		if bad {
			f.unwanted++
			if f.unwanted < 10 {
				t.Errorf("%s: bit %d of byte %d, which does not matter: got %v, %v", f.n, bit, off, r.HeaderErr, r.Damage)
			}
		}
	case r.HeaderErr != nil:
		f.header++
	case bad:
		f.damage++
	default:
		f.missed++
		if f.missed < 10 {
			t.Errorf("%s: bit %d of byte %d was not noticed", f.n, bit, off)
		}
	}
}

func (f *flips) log(t *testing.T) {
	t.Logf("%s: %d header errors, %d damages, %d bits that do not matter", f.n, f.header, f.damage, f.free)
	if f.header+f.damage == 0 {
		t.Errorf("%s: nothing was noticed", f.n)
	}
}

// Flips every bit at the start of a segment of each kind, and around the headers of its second and its middle page. Of the
// bits that nothing depends on it flips a sample.
func TestFlipsOfEveryBit(t *testing.T) {
	for _, n := range names(t, "15", wal.KindSegment) {
		t.Run(n.String(), func(t *testing.T) {
			f := newFlips(t, "15", n)
			middle := len(f.b) / 2
			for _, part := range []struct{ from, to int }{{0, 1024}, {8000, 8700}, {middle - 100, middle + 300}} {
				for off := part.from; off < part.to; off++ {
					for bit := range 8 {
						if f.loose[off]&(1<<bit) == 0 || off%61 == 0 && bit == off%8 {
							f.flip(t, off, bit)
						}
					}
				}
			}
			f.log(t)
		})
	}
}

// Flips random bits of a segment of pgbench's, every tenth in the header of a page.
func TestFlipsAtRandom(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	all := names(t, "15", wal.KindSegment)
	f := newFlips(t, "15", all[len(all)-1])
	for i := range 10000 {
		off := random.IntN(len(f.b))
		if i%10 == 0 {
			off = off&^8191 + random.IntN(24)
		}
		f.flip(t, off, random.IntN(8))
	}
	f.log(t)
}

// A flipped bit in a field that identifies the file is a header error, not damage.
func TestFlipsOfHeader(t *testing.T) {
	for _, major := range majors {
		n := names(t, major, wal.KindSegment)[0]
		b := bytes.Clone(load(t, major, n.String()))
		for off := range wal.HeaderSize {
			for bit := range 8 {
				flip := fmt.Sprintf("%s/%s: bit %d of byte %d", major, n, bit, off)
				b[off] ^= 1 << bit
				_, err := wal.ParseHeader(b)
				r := walk(n, b)
				b[off] ^= 1 << bit
				want := true
				switch {
				case off < 2:
					want = err != nil // else the next page has another magic
				case off == 2:
					want = bit == 1 || bit > 3 || major == "19" && bit == 3 // the other bits describe the page's beginning
				case off >= 16 && off < 32:
					want = false // length of a continuation, unused, system identifier
				}
				if errors.Is(r.HeaderErr, wal.ErrHeader) != want {
					t.Errorf("%s: got %v", flip, r.HeaderErr)
				}
				if off < 2 && r.HeaderErr == nil && r.Damage == nil {
					t.Errorf("%s was not noticed", flip)
				}
			}
		}
	}
}

// The walk checks the start of a record that continues in the next segment there.
func TestFlipsAcrossSegments(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	all := names(t, "15", wal.KindSegment)
	n, next := all[0], all[1]
	first, second := bytes.Clone(load(t, "15", n.String())), bytes.Clone(load(t, "15", next.String()))
	end := int(walk(n, first).End & 0xFFFFF)
	rest := int(second[16]) | int(second[17])<<8 | int(second[18])<<16
	for range 2000 {
		b, off := first, end+random.IntN(len(first)-end)
		if random.IntN(2) == 0 {
			b, off = second, wal.HeaderSize+random.IntN(rest)
		}
		if in := off % 8192; in >= 20 && in < 24 || in == 2 {
			continue // unused, and info bits
		}
		bit := random.IntN(8)
		b[off] ^= 1 << bit
		var w wal.Walker
		w.Reset(n)
		w.Write(first)
		r1 := w.Finish()
		w.Continue(next)
		w.Write(second)
		r2 := w.Finish()
		if r1.Damage == nil && r2.Damage == nil {
			t.Errorf("bit %d of byte %d was not noticed", bit, off)
		}
		b[off] ^= 1 << bit
	}
}
