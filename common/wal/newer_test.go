package wal_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"walkeep/common/wal"
)

// toCome turns a segment of the newest release into one of a future version: it sets another magic, and these info bits, on
// every page that has a magic.
func toCome(b []byte, magic, bits uint16) []byte {
	b = bytes.Clone(b)
	for off := 0; off < len(b); off += 8192 {
		if binary.LittleEndian.Uint16(b[off:]) != 0 {
			binary.LittleEndian.PutUint16(b[off:], magic)
			binary.LittleEndian.PutUint16(b[off+2:], binary.LittleEndian.Uint16(b[off+2:])|bits)
		}
	}
	return b
}

// Newer accepts the magics of versions to come and of the newest one's betas, and no others.
func TestNewerMagics(t *testing.T) {
	for magic, want := range map[uint16]bool{
		0xD119: true, 0xD120: true, 0xD121: true, 0xD123: true, 0xD130: true, 0xD1FF: true, 0xD200: true,
		0xD122: false, 0xD118: false, // known
		0: false, 0xD093: false, 0xD099: false, 0xD0FF: false, 0xD117: false, 0xD300: false, 0xFFFF: false,
	} {
		b := header()
		binary.LittleEndian.PutUint16(b, magic)
		h, err := wal.ParseHeader(b)
		if got := err == nil && h.Newer(); got != want {
			t.Errorf("%04X: got %t, %v, want %t", magic, got, err, want)
		}
	}
}

// WAL of a version to come that has the known format is checked like any other.
func TestNewerSegments(t *testing.T) {
	for _, n := range names(t, "19", wal.KindSegment) {
		b := load(t, "19", n.String())
		known, got := walk(n, b), walk(n, toCome(b, 0xD130, 0))
		if got.HeaderErr != nil || got.Damage != nil || got.Unchecked != nil {
			t.Errorf("%s: got %v, %v, %v", n, got.HeaderErr, got.Damage, got.Unchecked)
		}
		if got.End != known.End || got.Records != known.Records || got.Switched != known.Switched {
			t.Errorf("%s: got %+v, want %+v", n, got, known)
		}
	}
}

// Unknown things in it are not damage, and the headers of pages are still checked.
func TestNewerIsNotChecked(t *testing.T) {
	n := mustName(t, "000000020000000000000005")
	const page = 8192
	whole := func(s *stream) {
		s.record(10, 0, make([]byte, 100))
		s.record(10, 0, make([]byte, 20000))
		s.record(10, 0, make([]byte, 100))
		s.fill()
	}
	const second = wal.HeaderSize + 128
	for _, c := range []struct {
		name      string
		make      func(s *stream)
		edit      func(b []byte)
		unchecked string // "" for nothing
		damage    string
	}{
		{"nothing unknown", whole, func([]byte) {}, "", ""},
		{"unknown bits on every page", whole, func(b []byte) { copy(b, toCome(b, 0xD130, 0x0120)) }, "info bits 0122 at 0/500000", ""},
		{"an unknown bit on one page", whole, func(b []byte) { b[page+2] |= 0x40 }, "info bits 0041 at 0/502000", ""},
		{"a resource manager", func(s *stream) { s.record(10, 0, make([]byte, 100)); s.record(22, 0, nil); s.fill() }, func([]byte) {},
			"resource manager 22 at 0/5000A8", ""},
		{"an unknown record with another checksum", func(s *stream) { s.record(10, 0, make([]byte, 100)); s.record(22, 0, nil); s.fill() },
			func(b []byte) { b[second+20] ^= 1 }, "resource manager 22", ""},
		{"another checksum of all records", whole, func(b []byte) { b[wal.HeaderSize+20] ^= 1 }, "wrong checksum at 0/500028", ""},
		{"another chain", whole, func(b []byte) { binary.LittleEndian.PutUint64(b[wal.HeaderSize+8:], 1<<60) }, "previous link", ""},
		{"no record where the first one should be", whole, func(b []byte) { clear(b[wal.HeaderSize : wal.HeaderSize+8]) }, "no record", ""},
		{"another form of continuation behind an unknown bit", whole, func(b []byte) { b[page+2] |= 0x10; b[page+16]++ },
			"info bits 0011 at 0/502000", ""},
		{"a broken record among sound ones", whole, func(b []byte) { b[second+50] ^= 1 }, "", "wrong checksum at 0/5000A8"},
		{"a page of zeros", whole, func(b []byte) { clear(b[page : 2*page]) }, "", "magic 0000"},
		{"a page of the release before", whole, func(b []byte) { b[page] = 0x22 }, "", "magic D122 instead of D130"},
		{"a page of another place", whole, func(b []byte) { b[page+9] ^= 0x40 }, "", "page address"},
		{"a page of another place behind what is not known", whole, func(b []byte) { b[wal.HeaderSize+20] ^= 1; b[9*page+9] ^= 0x40 },
			"wrong checksum at 0/500028", "page address"},
		{"a later timeline", whole, func(b []byte) { b[page+4] = 3 }, "", "timeline 3"},
	} {
		b := segments(n, 0xD130, c.make)[0]
		c.edit(b)
		r := walk(n, b)
		if r.HeaderErr != nil {
			t.Errorf("%s: %v", c.name, r.HeaderErr)
		}
		for what, got := range map[string]struct {
			found *wal.Damage
			want  string
		}{"unchecked": {r.Unchecked, c.unchecked}, "damage": {r.Damage, c.damage}} {
			if (got.found != nil) != (got.want != "") || got.found != nil && !strings.Contains(got.found.Error(), got.want) {
				t.Errorf("%s: %s: got %v, want %q", c.name, what, got.found, got.want)
			}
		}
	}
	// The header still identifies a foreign or misnamed file.
	b := segments(n, 0xD130, whole)[0]
	if r := walk(n.Next(1<<20), b); r.HeaderErr == nil {
		t.Error("another name was taken")
	}
	if r := walk(n, b[:len(b)/2]); r.HeaderErr == nil {
		t.Error("half a segment was taken")
	}
}

// Continue is Reset after a segment that was not checked to its end.
func TestNewerGoesOn(t *testing.T) {
	n := mustName(t, "000000020000000000000005")
	all := segments(n, 0xD130, func(s *stream) { s.fill(); s.fill() })
	all[0][wal.HeaderSize+20] ^= 1
	results := walkAll(n, all)
	if r := results[0]; r.Unchecked == nil || r.Damage != nil {
		t.Errorf("first: got %+v", r)
	}
	if r := results[1]; r.Unchecked != nil || r.Damage != nil || r.Records == 0 {
		t.Errorf("second: got %+v", r)
	}
}
