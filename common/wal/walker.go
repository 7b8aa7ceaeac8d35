package wal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Walker checks WAL segments whose bytes are written to it: every page's header, and every record's
// length, link to the record before it and checksum. It applies the checks of PostgreSQL's own
// reader; the package's documentation has the rules.
//
// Use: [Walker.Reset], any number of [Walker.Write], [Walker.Finish]; then the next segment by
// Reset, or by [Walker.Continue] if it follows. The zero value is ready for Reset. Without Events and
// Changes a Walker buffers at most one page and allocates nothing for each page or record. It may be
// reused for segments of any version and size. It is not safe for concurrent use.
//
// Source: [xlogreader.c].
//
// [xlogreader.c]: https://github.com/postgres/postgres/blob/REL_19_STABLE/src/backend/access/transam/xlogreader.c
type Walker struct {
	// Events is called for each [Event] after the record was checked; it may be nil. It is not called for a record that
	// began before the segment given to Reset.
	Events func(Event)
	// Changes is called in the same way for each record that is a [Change].
	Changes func(Change)

	table *crc32.Table
	name  Name
	res   Result

	following bool   // Continue began this segment, and the one before it is known
	carry     bool   // the one before it was walked to its end
	before    Header // of the segment before it

	written uint64 // bytes of the segment that were given to Write
	buf     []byte // bytes of an incomplete page or header
	pageLen int    // block size; zero until the header is known
	addr    LSN    // of the next page
	left    uint64 // bytes of the segment from addr on
	done    bool   // the walk has ended: damage, a switch, or the end of the records
	rules   rules
	tli     Timeline // of the page before

	// prev is where the last record starts, which the next one must name as xl_prev. It is
	// anyPrev if the next record needs the full check; chain is then the value, if it is known.
	prev      LSN
	chain     LSN
	chained   bool // chain is known
	overwrite bool // the next record must be an OVERWRITE_CONTRECORD

	pending pending
	data    []byte // of the pending record, if it is an Event or a Change
}

// anyPrev is not the position of any record, because records are aligned.
const anyPrev = ^LSN(0)

// pending is a record that continues on the next page.
type pending struct {
	rem     uint32   // bytes still to come; zero where no record is pending
	skip    bool     // it began in a segment that is not known: nothing but rem can be checked
	tail    bool     // it may be the end of a switch record's header; set for skip only
	start   LSN      // its first byte
	got     int      // bytes in header
	header  [24]byte // its header
	running uint32   // checksum of the data so far
}

// Result describes one segment.
type Result struct {
	// Header is the header of the first page, as far as it could be read.
	Header Header
	// HeaderErr is an [ErrHeader] if this is no WAL segment, or not the one that its name stands
	// for. If it is an [ErrSize], only the length is wrong, and the other fields describe the bytes
	// that were written; for any other error all fields but Header are empty.
	HeaderErr error
	// Start is the position of the segment's first byte. End is the end of the last record that is
	// complete and checked, rounded up to the next multiple of 8; it is Start if there is none.
	Start, End LSN
	// Records is the number of records that end in this segment and whose checksum is right. Last
	// is where the last of them starts, zero if there is none.
	Records uint64
	Last    LSN
	// Switched reports whether a switch record ended the segment; the bytes behind it are unused.
	Switched bool
	// Damage is the first page or record that is broken; nil if there is none.
	Damage *Damage
	// Unchecked is the first unknown thing in WAL of a version to come ([Header.Newer]); nil if there is none. Blind reports
	// whether it made the records unreadable: behind End, only the headers of pages were checked.
	Unchecked *Damage
	Blind     bool
}

// Damage is a page or a record at which PostgreSQL's recovery would stop.
type Damage struct {
	LSN    LSN    // the page's or the record's first byte
	Reason string // what is wrong
}

// Error returns the reason and the position.
func (d *Damage) Error() string { return d.Reason + " at " + d.LSN.String() }

// Reset prepares w for the first byte of segment n, without knowledge of the segment before. The walk
// skips the rest of a record that began in an earlier segment by its length, and does not verify its
// checksum. If n is a partial segment, records may stop anywhere, and the bytes behind them are not
// checked. A name that is neither a segment's nor a partial segment's leads to an [ErrHeader].
func (w *Walker) Reset(n Name) {
	*w = Walker{Events: w.Events, Changes: w.Changes, table: crc32.MakeTable(crc32.Castagnoli), name: n, buf: w.buf[:0], data: w.data[:0]}
	w.prev = anyPrev
}

// Continue prepares w for the first byte of segment n, which follows the one that was just
// finished, on the same timeline or on a later one. It keeps the unfinished record and the last
// record's position, so that the two segments are checked as one stream. If the segment before was
// not walked to its end, because it was damaged or too short, or if n does not follow it, Continue
// does what [Walker.Reset] does.
func (w *Walker) Continue(n Name) {
	last := *w
	w.Reset(n)
	if !last.carry || n.Timeline < last.name.Timeline {
		return
	}
	if next := last.name.Next(last.res.Header.SegmentSize); next.Log != n.Log || next.Seg != n.Seg {
		return
	}
	w.following = true
	w.before = last.res.Header
	w.tli = last.tli
	w.prev, w.chain, w.chained, w.overwrite = last.prev, last.chain, last.chained, last.overwrite
	if last.pending.rem > 0 {
		w.pending, w.data = last.pending, last.data
	}
}

// Write checks the next bytes of the segment. It always returns len(p) and nil; the [Result] has the
// faults.
func (w *Walker) Write(p []byte) (int, error) {
	n := len(p)
	w.written += uint64(n)
	if w.pageLen == 0 && !w.done {
		p = w.fill(p, HeaderSize)
		if len(w.buf) < HeaderSize {
			return n, nil
		}
		w.first()
	}
	for len(p) > 0 && !w.done && w.left > 0 {
		if len(w.buf) == 0 && len(p) >= w.pageLen {
			w.page(p[:w.pageLen])
			p = p[w.pageLen:]
			continue
		}
		p = w.fill(p, w.pageLen)
		if len(w.buf) == w.pageLen {
			w.page(w.buf)
			w.buf = w.buf[:0]
		}
	}
	return n, nil
}

// fill moves bytes from the front of p into the buffer until that has size bytes, and returns the rest of p.
func (w *Walker) fill(p []byte, size int) []byte {
	if cap(w.buf) < size {
		w.buf = append(make([]byte, 0, max(size, 8<<10)), w.buf...)
	}
	n := min(size-len(w.buf), len(p))
	w.buf = append(w.buf, p[:n]...)
	return p[n:]
}

// first reads the header of the segment from the buffer.
func (w *Walker) first() {
	h, err := ParseHeader(w.buf)
	w.res.Header = h
	if err == nil {
		err = h.Check(w.name)
	}
	if err == nil && w.name.Kind != KindSegment && w.name.Kind != KindPartial {
		err = fmt.Errorf("%w: a %s holds no WAL", ErrHeader, w.name.Kind)
	}
	if err != nil {
		w.res.HeaderErr = err
		w.done = true
		return
	}
	w.res.Start, w.res.End = h.PageAddr, h.PageAddr
	w.addr, w.left = h.PageAddr, uint64(h.SegmentSize)
	w.pageLen = int(h.BlockSize)
	w.rules = rulesOf(h)
	if w.following {
		w.compare(h, w.before)
	}
}

// compare reports as damage where the header of a segment differs from that of the segment before it.
func (w *Walker) compare(h, before Header) {
	switch {
	case h.SystemID != before.SystemID:
		w.damaged(h.PageAddr, "system identifier %s after %s", h.SystemID, before.SystemID)
	case h.Magic != before.Magic:
		w.damaged(h.PageAddr, "magic %04X after %04X", h.Magic, before.Magic)
	case h.SegmentSize != before.SegmentSize || h.BlockSize != before.BlockSize:
		w.damaged(h.PageAddr, "segment and block size %s and %d after %s and %d",
			h.SegmentSize, h.BlockSize, before.SegmentSize, before.BlockSize)
	}
}

// Finish returns the [Result] after the last byte of the segment was written. The next call must be
// Continue or Reset.
func (w *Walker) Finish() Result {
	if len(w.buf) > 0 && w.left > 0 && !w.done {
		w.page(w.buf) // cut off in the middle of a page
	}
	r := &w.res
	switch {
	case r.HeaderErr != nil:
	case w.pageLen == 0:
		r.HeaderErr = fmt.Errorf("%w: %d bytes", ErrSize, w.written)
	case w.written != uint64(r.Header.SegmentSize):
		r.HeaderErr = fmt.Errorf("%w: %d bytes, segment size %d", ErrSize, w.written, r.Header.SegmentSize)
	}
	if r.Records > 0 {
		r.Last = w.last()
	}
	w.carry = !w.res.Blind && r.HeaderErr == nil && r.Damage == nil && (!w.done || r.Switched)
	w.done = true
	return w.res
}

// last returns where the last record starts, anyPrev if that is unknown.
func (w *Walker) last() LSN {
	if w.prev == anyPrev && w.chained {
		return w.chain
	}
	return w.prev
}

// damaged ends the walk at a fault. In a partial segment a fault is no damage but the end of the records.
func (w *Walker) damaged(at LSN, format string, args ...any) {
	if w.name.Kind != KindPartial {
		w.res.Damage = &Damage{LSN: at, Reason: fmt.Sprintf(format, args...)}
	}
	w.done = true
}

// broken ends the walk of the records at a faulty one. In WAL of a version to come the fault is damage only if the format of
// records is known to be the same: correct records precede it, and nothing unknown does.
func (w *Walker) broken(at LSN, format string, args ...any) {
	if !w.rules.newer || w.res.Unchecked == nil && w.res.Records > 0 {
		w.damaged(at, format, args...)
		return
	}
	w.strange(at, format, args...)
	w.res.Blind = true
	if w.name.Kind == KindPartial {
		w.done = true
	}
}

// strange records the first thing in WAL of a version to come that cannot be checked.
func (w *Walker) strange(at LSN, format string, args ...any) {
	if w.res.Unchecked == nil {
		w.res.Unchecked = &Damage{LSN: at, Reason: fmt.Sprintf(format, args...)}
	}
}

func le16(b []byte) uint16 { return binary.LittleEndian.Uint16(b) }
func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
func le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }
