package wal_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"walkeep/common/wal"
)

// Faults that no server writes, each in an otherwise correct segment.
func TestWalkerDamage(t *testing.T) {
	n := mustName(t, "000000020000000000000005")
	const page = 8192 // the second page, which begins with the rest of a record
	base := wal.LSN(5 << 20)
	whole := func(s *stream) {
		s.record(10, 0, make([]byte, 100))
		s.record(10, 0, make([]byte, 20000))
		s.fill()
	}
	const second = wal.HeaderSize + 128
	put16 := func(off int, v uint16) func(b []byte) {
		return func(b []byte) { binary.LittleEndian.PutUint16(b[off:], v) }
	}
	put32 := func(off int, v uint32) func(b []byte) {
		return func(b []byte) { binary.LittleEndian.PutUint32(b[off:], v) }
	}
	put64 := func(off int, v uint64) func(b []byte) {
		return func(b []byte) { binary.LittleEndian.PutUint64(b[off:], v) }
	}
	for _, c := range []struct {
		name  string
		magic uint16
		make  func(s *stream)
		edit  func(b []byte)
		at    wal.LSN
		want  string // zero: no damage
	}{
		{"none", magic15, whole, func([]byte) {}, 0, ""},
		{"page magic", magic15, whole, put16(page, magic16), page, "magic"},
		{"page of zeros", magic15, whole, func(b []byte) { clear(b[page : 2*page]) }, page, "magic 0000"},
		{"unknown info bit", magic15, whole, put16(page+2, 0x11), page, "info bits"},
		{"long header inside", magic15, whole, put16(page+2, 3), page, "info bits"},
		{"page address", magic15, whole, put64(page+8, 4<<20+page), page, "page address 0/402000"},
		{"later timeline", magic15, whole, put32(page+4, 3), page, "timeline 3"},
		{"earlier timeline", magic15, whole, put32(page+4, 1), page, "timeline 1 after 2"},
		{"continuation too short", magic15, whole, put32(page+16, 8), page, "continuation of 8 bytes"},
		{"continuation without flag", magic15, whole, put16(page+2, 0), page, "continuation"},
		{"flag without continuation", magic15, whole, put32(page+16, 0), page, "continuation"},
		{"continuation that nobody needs", magic15,
			func(s *stream) { s.fill() }, func(b []byte) { b[page+2] |= 1; b[page+16] = 8 }, page, "continuation of 8 bytes"},
		{"first page goes on too far", magic16, whole,
			func(b []byte) { b[2] |= 1; put32(16, 1020<<20+1)(b) }, 0, "continuation of"},
		{"lost without a record", magic15,
			func(s *stream) { s.fill() }, func(b []byte) { b[page+2] |= 8 }, page, "cut off"},
		{"lost and continued", magic15, whole, func(b []byte) { b[page+2] |= 8 }, page, "cut off"},
		{"no record", magic15, whole, put32(second, 0), second, "no record"},
		{"length 23", magic15, whole, put32(second, 23), second, "length 23"},
		{"length beyond the largest", magic16, whole, put32(second, 1020<<20+1), second, "length"},
		{"length beyond memory", magic15, whole, put32(second, 1<<30), second, "length"},
		{"link", magic15, whole, put64(second+8, uint64(base)), second, "previous link 0/500000 instead of 0/500028"},
		{"first link", magic15, whole, put64(wal.HeaderSize+8, uint64(base)), wal.HeaderSize, "previous link 0/500000"},
		{"resource manager", magic15, whole, func(b []byte) { b[second+17] = 22 }, second, "resource manager 22"},
		{"custom resource manager before 15", magic14,
			func(s *stream) { s.record(128, 0, nil); s.fill() }, func([]byte) {}, wal.HeaderSize, "resource manager 128"},
		{"custom resource manager", magic15,
			func(s *stream) { s.record(128, 0, nil); s.record(255, 0, nil); s.fill() }, func([]byte) {}, 0, ""},
		{"last built-in resource manager", magic14,
			func(s *stream) { s.record(21, 0, nil); s.fill() }, func([]byte) {}, 0, ""},
		{"checksum", magic15, whole, put32(second+20, 1), second, "checksum"},
		{"checksum of a record on one page", magic15, whole, func(b []byte) { b[wal.HeaderSize+50]++ }, wal.HeaderSize, "checksum"},
		{"link across pages", magic15, func(s *stream) { s.until(8); s.record(10, 0, nil); s.fill() },
			func(b []byte) { b[page+24]++ }, page - 8, "previous link"},
		{"records end", magic15, func(s *stream) { s.record(10, 0, nil) }, func([]byte) {}, wal.HeaderSize + 24, "no record"},
		{"records end with the page", magic15, func(s *stream) { s.until(0) },
			func(b []byte) { clear(b[page:]) }, page, "magic 0000"},
		{"after a switch", magic15, func(s *stream) { s.record(10, 0, nil); s.change() },
			func(b []byte) { copy(b[wal.HeaderSize+48:], bytes.Repeat([]byte{0xEE}, 1<<20)) }, 0, ""},
		{"overwrite record without a lost one", magic15,
			func(s *stream) { s.record(0, 0xD0, make([]byte, 18)); s.fill() }, func([]byte) {}, wal.HeaderSize, "cut off"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := segments(n, c.magic, c.make)[0]
			c.edit(b)
			got := walk(n, b)
			if got.HeaderErr != nil {
				t.Fatal(got.HeaderErr)
			}
			if c.want == "" {
				if got.Damage != nil {
					t.Errorf("got %v, want none", got.Damage)
				}
			} else if got.Damage == nil || got.Damage.LSN != base+c.at || !strings.Contains(got.Damage.Error(), c.want) {
				t.Errorf("got %v, want %q at %s", got.Damage, c.want, base+c.at)
			}
			want, _ := refer(n, b)
			same(t, got, want)
			partial := n
			partial.Kind = wal.KindPartial
			want.Damage = nil
			same(t, walk(partial, b), want)
		})
	}
}

// A crash cuts a record off, and the server overwrites its rest after the recovery.
func TestWalkerOverwrite(t *testing.T) {
	n := mustName(t, "000000010000000000000005")
	lose := func(s *stream) { // drops the pending record at the next page
		s.rem = 0
		s.info = 8
	}
	for _, c := range []struct {
		name string
		make func(s *stream)
		want string
	}{
		{"inside", func(s *stream) {
			s.until(64)
			s.cutOff(64, 5000)
			lose(s)
			s.record(0, 0xD0, make([]byte, 18))
			s.fill()
		}, ""},
		{"header cut off", func(s *stream) {
			s.until(8)
			s.cutOff(8, 5000)
			lose(s)
			s.record(0, 0xD0, make([]byte, 18))
			s.fill()
		}, ""},
		{"after several pages", func(s *stream) {
			s.until(64)
			s.cutOff(64+2*8168, 50000)
			lose(s)
			s.record(0, 0xD0, make([]byte, 18))
			s.fill()
		}, ""},
		{"at once", func(s *stream) {
			lose(s)
			s.record(0, 0xD0, make([]byte, 18))
			s.fill()
		}, ""},
		{"twice", func(s *stream) {
			for range 2 {
				s.until(64)
				s.cutOff(64, 5000)
				lose(s)
				s.record(0, 0xD0, make([]byte, 18))
			}
			s.fill()
		}, ""},
		{"link to the record that was cut off", func(s *stream) {
			s.until(64)
			at := s.lsn
			s.cutOff(64, 5000)
			lose(s)
			s.prev = at
			s.record(0, 0xD0, make([]byte, 18))
			s.fill()
		}, "previous link"},
		{"another record", func(s *stream) {
			s.until(64)
			s.cutOff(64, 5000)
			lose(s)
			s.record(0, 0x10, make([]byte, 18))
			s.fill()
		}, "cut off"},
	} {
		t.Run(c.name, func(t *testing.T) {
			all := segments(n, magic15, func(s *stream) {
				if c.name != "at once" {
					s.record(10, 0, nil)
				}
				c.make(s)
			})
			got := walk(n, all[0])
			if c.want == "" && got.Damage != nil || c.want != "" && (got.Damage == nil || !strings.Contains(got.Damage.Error(), c.want)) {
				t.Errorf("got %v, want %q", got.Damage, c.want)
			}
			want, _ := refer(n, all[0])
			same(t, got, want)
		})
	}
}

func TestWalkerTimelines(t *testing.T) {
	n := mustName(t, "000000070000000000000005")
	for _, c := range []struct {
		name      string
		timelines []wal.Timeline
		good      bool
	}{
		{"one", []wal.Timeline{7, 7, 7}, true},
		{"all older", []wal.Timeline{3, 3, 3}, true},
		{"three", []wal.Timeline{1, 3, 7}, true},
		{"too late", []wal.Timeline{1, 3, 8}, false},
		{"back", []wal.Timeline{3, 1, 7}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			all := segments(n, magic15, func(s *stream) {
				for _, tli := range c.timelines {
					s.tli = tli
					s.until(0)
				}
				s.fill()
			})
			if got := walk(n, all[0]); (got.Damage == nil) != c.good || got.HeaderErr != nil {
				t.Errorf("got %+v", got)
			}
		})
	}
}
