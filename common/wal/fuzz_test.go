package wal_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"

	"walkeep/common/wal"
)

// FuzzWalker writes arbitrary bytes to the Walker in pieces. The result must be the same as in one piece, and that of the
// reference if the reference knows the version.
func FuzzWalker(f *testing.F) {
	for _, major := range majors {
		for _, n := range names(f, major, wal.KindSegment)[1:4] {
			f.Add(load(f, major, n.String())[:8192+1024], n.Seg%2 == 0, true, uint16(1000))
		}
	}
	for _, left := range []int{8, 16, 24, 64} {
		var out bytes.Buffer
		s := newStream(&out, magic16, wal.Name{Timeline: 2, Seg: 7}, 1<<20, 1<<10)
		s.record(10, 0, make([]byte, 50))
		s.until(left)
		s.record(10, 0, make([]byte, 1500))
		s.until(left)
		s.cutOff(left, 3000)
		s.rem, s.info = 0, 8
		s.record(0, 0xD0, make([]byte, 18))
		s.record(0, 0x40, nil)
		s.until(0)
		f.Add(out.Bytes(), false, true, uint16(100*left))
	}
	f.Fuzz(func(t *testing.T, b []byte, partial, mended bool, chunk uint16) {
		if mended {
			b = mend(bytes.Clone(b))
		}
		n := wal.Name{Timeline: 1, Seg: 1}
		if h, err := wal.ParseHeader(b); err == nil {
			n = wal.SegmentAt(h.Timeline|3, h.PageAddr, h.SegmentSize)
		}
		if partial {
			n.Kind = wal.KindPartial
		}
		got := walk(n, b)
		if !got.Header.Newer() { // the reference does not know versions to come
			want, _ := refer(n, b)
			same(t, got, want)
		}
		var w wal.Walker
		w.Reset(n)
		for rest := b; len(rest) > 0; {
			k := min(int(chunk)+1, len(rest))
			if n, err := w.Write(rest[:k]); n != k || err != nil {
				t.Fatalf("got %d, %v, want %d", n, err, k)
			}
			rest = rest[k:]
		}
		same(t, w.Finish(), got)
		if got.HeaderErr != nil && !errors.Is(got.HeaderErr, wal.ErrHeader) {
			t.Errorf("got %v, want ErrHeader", got.HeaderErr)
		}
	})
}

// mend sets the magic and address of pages, and the checksum of records that lie on one page, so that the fuzzer reaches the
// checks behind these.
func mend(b []byte) []byte {
	h, err := wal.ParseHeader(b)
	if err != nil {
		return b
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	for off := 0; off+24 <= len(b); off += int(h.BlockSize) {
		page := b[off:min(off+int(h.BlockSize), len(b))]
		binary.LittleEndian.PutUint16(page, h.Magic)
		binary.LittleEndian.PutUint64(page[8:], uint64(h.PageAddr)+uint64(off))
		at := 24
		if off == 0 {
			at = wal.HeaderSize
		}
		if rem := binary.LittleEndian.Uint32(page[16:]); rem < uint32(len(page)) {
			at += int(rem+7) &^ 7
		}
		for at+24 <= len(page) {
			size := binary.LittleEndian.Uint32(page[at:])
			if size < 24 || size > uint32(len(page)-at) {
				break
			}
			sum := crc32.Checksum(page[at+24:at+int(size)], table)
			binary.LittleEndian.PutUint32(page[at+20:], crc32.Update(sum, table, page[at:at+20]))
			at += int(size+7) &^ 7
		}
	}
	return b
}
