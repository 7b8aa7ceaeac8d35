package wal_test

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"walkeep/common/wal"
)

// reference checks a segment that is in memory as a whole, in the simplest way: it gathers each record into one piece before
// it checks it. The Walker must return the same result. The reference also records the bits that nothing depends on, so that
// tests know exactly which flips the Walker must report.
type reference struct {
	name  wal.Name
	b     []byte
	res   wal.Result
	prev  wal.LSN        // zero: not known
	tlis  []wal.Timeline // of the pages so far
	loose []byte         // bits of each byte that may change unnoticed
}

// A fault ends the walk.
type fault struct {
	off    int
	reason string
}

func (f fault) Error() string { return f.reason }

// ended are the endings that are no fault.
var (
	errEnd         = fmt.Errorf("no more bytes")
	errOverwritten = fmt.Errorf("overwritten")
)

func refer(n wal.Name, b []byte) (wal.Result, []byte) {
	r := &reference{name: n, b: b, loose: make([]byte, len(b))}
	if len(b) < wal.HeaderSize {
		r.res.HeaderErr = wal.ErrSize
		return r.res, r.loose
	}
	h, err := wal.ParseHeader(b)
	if err == nil {
		err = h.Check(n)
	}
	r.res.Header, r.res.HeaderErr = h, err
	if err != nil {
		return r.res, r.loose
	}
	r.res.Start, r.res.End, r.res.Last = h.PageAddr, h.PageAddr, 0
	if len(b) > int(h.SegmentSize) {
		r.b = b[:h.SegmentSize]
		r.free(int(h.SegmentSize), len(b), 0xFF)
	}
	if f, ok := r.walk().(fault); ok && n.Kind == wal.KindSegment {
		r.res.Damage = &wal.Damage{LSN: h.PageAddr + wal.LSN(f.off), Reason: f.reason}
	}
	if len(b) != int(h.SegmentSize) {
		r.res.HeaderErr = wal.ErrSize
	}
	r.freeHeaders()
	return r.res, r.loose
}

// freeHeaders marks the bits that only headers of other pages could verify: the version, if there is only one page, and a
// timeline between those of the page before and the page after.
func (r *reference) freeHeaders() {
	for bit := range 16 {
		if other := (wal.Header{Magic: r.res.Header.Magic ^ 1<<bit}); len(r.tlis) == 1 && (other.Major() > 0 || other.Newer()) {
			r.free(bit/8, bit/8+1, 1<<(bit%8))
		}
	}
	for i, tli := range r.tlis {
		least, most := wal.Timeline(1), r.name.Timeline
		if i > 0 {
			least = r.tlis[i-1]
		}
		if i < len(r.tlis)-1 {
			most = r.tlis[i+1]
		}
		for bit := range 32 {
			if other := tli ^ 1<<bit; other >= least && other <= most {
				r.free(i*r.block()+4+bit/8, i*r.block()+5+bit/8, 1<<(bit%8))
			}
		}
	}
}

// freeLength marks the bits of the length of the record at off that may change on the last page: those with which the record
// would continue in the next segment.
func (r *reference) freeLength(off int) {
	if off/r.block() < len(r.b)/r.block()-1 {
		return
	}
	size, room := int64(binary.LittleEndian.Uint32(r.b[off:])), int64(r.block()-off%r.block())
	for bit := range 32 {
		if other := size ^ 1<<bit; other > room && other >= 24 && other <= r.most() {
			r.free(off+bit/8, off+bit/8+1, 1<<(bit%8))
		}
	}
}

// free marks bits of the bytes from..to as bits that nothing depends on.
func (r *reference) free(from, to int, bits byte) {
	for i := from; i < min(to, len(r.loose)); i++ {
		r.loose[i] |= bits
	}
}

func (r *reference) block() int { return int(r.res.Header.BlockSize) }

// page checks the header at off, where a record with rem remaining bytes must continue, and returns the offset behind it. A
// rem of -1 means that the number is unknown.
func (r *reference) page(off int, rem int64) (int, error) {
	size := 24
	if off == 0 {
		size = 40
		r.free(24, 32, 0xFF) // system identifier
	}
	if off+size > len(r.b) {
		return 0, errEnd
	}
	r.free(off+20, off+24, 0xFF)
	overwrite, known := uint16(8), uint16(0xF)
	if r.res.Header.Major() >= 19 {
		overwrite, known = 4, 7
	} else {
		r.free(off+2, off+3, 0x04)
	}
	h := r.b[off:]
	info := binary.LittleEndian.Uint16(h[2:])
	tli := wal.Timeline(binary.LittleEndian.Uint32(h[4:]))
	left := int64(binary.LittleEndian.Uint32(h[16:]))
	lost := info&overwrite != 0
	switch {
	case binary.LittleEndian.Uint16(h) != r.res.Header.Magic:
		return 0, fault{off, "magic"}
	case info&^known != 0 || info&2 != 0 && off > 0:
		return 0, fault{off, "info"}
	case wal.LSN(binary.LittleEndian.Uint64(h[8:])) != r.res.Start+wal.LSN(off):
		return 0, fault{off, "address"}
	case len(r.tlis) > 0 && tli < r.tlis[len(r.tlis)-1] || tli > r.name.Timeline:
		return 0, fault{off, "timeline"}
	case (left > 0) != (info&1 != 0):
		return 0, fault{off, "continuation"}
	case left > r.most():
		return 0, fault{off, "continuation too long"}
	case lost && (left > 0 || rem == 0):
		return 0, fault{off, "overwritten"}
	case !lost && rem >= 0 && left != rem:
		return 0, fault{off, "continuation of another length"}
	}
	r.tlis = append(r.tlis, tli)
	if lost {
		return off + size, errOverwritten
	}
	return off + size, nil
}

func (r *reference) most() int64 {
	if r.res.Header.Major() >= 16 {
		return 1020 << 20
	}
	return 1<<30 - 1
}

// gather returns the bytes of the record at off, as far as they are on pages, and the offset after it.
func (r *reference) gather(off int, size int64) (rec []byte, end int, err error) {
	for {
		n := min(int64(r.block()-off%r.block()), size-int64(len(rec)))
		if int64(off)+n > int64(len(r.b)) {
			return append(rec, r.b[off:]...), off, errEnd
		}
		rec = append(rec, r.b[off:off+int(n)]...)
		off += int(n)
		if int64(len(rec)) == size {
			end = (off + 7) &^ 7
			r.free(off, end, 0xFF)
			return rec, end, nil
		}
		if end, err = r.page(off, size-int64(len(rec))); err != nil {
			return rec, end, err
		}
		off = end
	}
}

func (r *reference) walk() error {
	off, err := r.page(0, -1)
	lost := err == errOverwritten
	if err != nil && !lost {
		return err
	}
	tail := false
	if rem := int64(binary.LittleEndian.Uint32(r.b[16:])); rem > 0 {
		var rest []byte
		from := off
		rest, off, err = r.gather(off, rem)
		// The data is not known, and neither is the length if another one ends at the same place.
		for i, size := from, int64(0); i < len(r.b) && size < int64(len(rest)); i++ {
			if i%r.block() == 0 {
				i += 24
			}
			r.loose[i] = 0xFF
			size++
		}
		for bit := range 3 {
			if other := rem ^ 1<<bit; err == nil && from+int(rem) <= r.block() && other > 0 && (other+7)&^7 == (rem+7)&^7 {
				r.loose[16] |= 1 << bit
			}
		}
		if lost = err == errOverwritten; err != nil && !lost {
			return err
		}
		// The last 8 bytes of the header of a switch record.
		if k := len(rest) - 8; err == nil && (k == 0 || k == 8) {
			tail = rest[k]&0xF0 == 0x40 && rest[k+1] == 0
		}
	}
	for {
		var next int
		next, err = r.one(off, lost)
		lost = false
		switch {
		case err == errOverwritten:
			off, lost = next, true
			continue
		case err != nil:
			if f, ok := err.(fault); ok && f.reason == "none" && tail && r.res.Records == 0 {
				r.res.Switched = true
				r.free(f.off, len(r.loose), 0xFF)
				return nil
			}
			return err
		case r.res.Switched:
			r.free(next, len(r.loose), 0xFF)
			return nil
		}
		off = next
	}
}

// one checks the record at off and returns the offset after it. lost means that the page begins at off and has lost a
// continuation.
func (r *reference) one(off int, lost bool) (int, error) {
	if off >= len(r.b) {
		return off, errEnd
	}
	if off%r.block() == 0 {
		var err error
		if off, err = r.page(off, 0); err != nil {
			return off, err
		}
	}
	if off+8 > len(r.b) {
		return off, errEnd
	}
	size := int64(binary.LittleEndian.Uint32(r.b[off:]))
	if size == 0 {
		return off, fault{off, "none"}
	}
	if size < 24 || size > r.most() {
		return off, fault{off, "length"}
	}
	check := func(h []byte) error {
		prev := wal.LSN(binary.LittleEndian.Uint64(h[8:]))
		custom := r.res.Header.Major() >= 15 && h[17] >= 128
		switch {
		case h[17] > 21 && !custom:
			return fault{off, "resource manager"}
		case r.prev != 0 && prev != r.prev || r.prev == 0 && prev >= r.res.Start:
			return fault{off, "link"}
		case lost != (h[17] == 0 && h[16]&0xF0 == 0xD0):
			return fault{off, "overwrite record"}
		}
		return nil
	}
	if room := r.block() - off%r.block(); room >= 24 && off+24 <= len(r.b) {
		if err := check(r.b[off : off+24]); err != nil {
			return off, err
		}
	}
	rec, end, err := r.gather(off, size)
	if len(rec) >= 24 {
		if err := check(rec[:24]); err != nil {
			return off, err
		}
	}
	if err != nil {
		if err == errEnd {
			r.unfinished(off, rec)
		}
		return end, err
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	if crc32.Checksum(append(rec[24:len(rec):len(rec)], rec[:20]...), table) != binary.LittleEndian.Uint32(rec[20:]) {
		return off, fault{off, "checksum"}
	}
	r.freeLength(off)
	r.prev = r.res.Start + wal.LSN(off)
	r.res.Last, r.res.End = r.prev, r.res.Start+wal.LSN(end)
	r.res.Records++
	r.res.Switched = rec[17] == 0 && rec[16]&0xF0 == 0x40
	return end, nil
}

// unfinished marks the unverified bits of a record at off that continues in the next segment: all but the link, the resource
// manager and the length, which the headers of the pages repeat.
func (r *reference) unfinished(off int, rec []byte) {
	r.freeLength(off)
	got, rmgr := int64(len(rec)), byte(0)
	if got >= 24 {
		rmgr = rec[17]
	}
	pos := off - 1
	for i := range got {
		if pos++; pos%r.block() == 0 {
			pos += 24
		}
		bits := byte(0xFF)
		switch {
		case i < 4: // the next page repeats it, if there is one
			bits = 0
		case i >= 8 && i < 16 && got >= 24:
			bits = 0
		case i == 16 && got >= 24: // but no flip may make it the record that must not be here
			bits = 0x0F
			if rmgr != 0 {
				bits = 0xFF
			}
		case i == 17 && got >= 24:
			bits = 0
			for bit := range 8 {
				id := rmgr ^ 1<<bit
				if id > 0 && id <= 21 || id >= 128 && r.res.Header.Major() >= 15 {
					bits |= 1 << bit
				}
			}
		}
		r.loose[pos] |= bits
	}
}
