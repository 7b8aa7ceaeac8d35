package wal

import (
	"encoding/binary"
	"hash/crc32"
)

// Fields of a record's header (XLogRecord), as offsets in bytes.
//
// Source: https://github.com/postgres/postgres/blob/REL_19_STABLE/src/include/access/xlogrecord.h
const (
	recordLength     = 0  // xl_tot_len, 4 bytes, with the header
	recordXID        = 4  // xl_xid, 4 bytes
	recordPrev       = 8  // xl_prev, 8 bytes
	recordInfo       = 16 // xl_info
	recordRmgr       = 17 // xl_rmid
	recordCRC        = 20 // xl_crc, 4 bytes
	recordHeaderSize = 24
)

// Records of the resource manager XLOG that the reader itself must know.
//
// Source: https://github.com/postgres/postgres/blob/REL_19_STABLE/src/include/catalog/pg_control.h
const (
	rmgrXLog          = 0
	infoRmgr          = 0xF0 // the bits of xl_info that belong to the resource manager
	xlogSwitch        = 0x40
	xlogOverwriteCont = 0xD0
)

// rules are the differences between major versions.
type rules struct {
	newer     bool   // the version is not known: unknown bits and resource managers are allowed
	custom    bool   // resource managers of extensions, 128 to 255
	most      uint32 // length of the longest record
	info      uint16 // the bits that a page's info can have
	overwrite uint16 // the bit of a page that should continue a record whose rest was lost
	stats     int    // bytes for each dropped item of statistics in the record of a transaction's end
}

// knownInfo are the info bits of the newest known release.
const knownInfo = 0x0007

// maxRmgr is the last built-in resource manager (logical messages), in all of 10 to 19.
//
// Source: https://github.com/postgres/postgres/blob/REL_19_STABLE/src/include/access/rmgrlist.h
const (
	maxRmgr       = 21
	minCustomRmgr = 128
)

// rulesOf returns the rules of the version that wrote a segment with this header. For a newer version it returns those of
// the newest known one, and allows all info bits.
func rulesOf(h Header) rules {
	major := h.Major()
	r := rules{newer: h.Newer()}
	if r.newer {
		major = NewestMajor
	}
	r.custom = major >= 15
	r.most = 1<<30 - 1 // the largest allocation of PostgreSQL (MaxAllocSize)
	if major >= 16 {
		r.most = 1020 << 20 // XLogRecordMaxSize
	}
	r.info, r.overwrite = 0x000F, 0x0008 // 0x0004: full-page images may be removed from the page's records
	if major >= 19 {
		r.info, r.overwrite = knownInfo, 0x0004
	}
	if r.newer {
		r.info = 0xFFFF
	}
	r.stats = 12
	if major >= 18 {
		r.stats = 16
	}
	return r
}

func (r rules) rmgr(id byte) bool { return id <= maxRmgr || r.custom && id >= minCustomRmgr }

// page walks the next page. A page is shorter than a block only at the end of a file that is cut off.
func (w *Walker) page(b []byte) {
	base := w.addr
	w.addr += LSN(w.pageLen)
	w.left -= uint64(w.pageLen)
	off := pageHeaderSize
	if base == w.res.Start {
		off = HeaderSize
	}
	if len(b) < off {
		w.done = true
		return
	}
	if !w.pageHeader(b, base) {
		return
	}
	if w.pending.rem > 0 && !w.res.Blind {
		off = w.resume(b, base, off)
	}
	if !w.done && !w.res.Blind {
		w.records(b, base, off)
	}
}

// pageHeader checks the header of the page at base and reports whether the walk continues.
func (w *Walker) pageHeader(b []byte, base LSN) bool {
	var (
		info  = binary.LittleEndian.Uint16(b[2:])
		tli   = Timeline(le32(b[4:]))
		addr  = LSN(le64(b[8:]))
		first = base == w.res.Start
	)
	switch magic := binary.LittleEndian.Uint16(b); {
	case magic == 0 && w.res.Blind:
		w.done = true // behind a switch, perhaps
	case magic != w.res.Header.Magic:
		w.damaged(base, "page magic %04X instead of %04X", magic, w.res.Header.Magic)
	case info&^w.rules.info != 0 || (info&infoLongHeader != 0) != first:
		w.damaged(base, "page info bits %04X", info)
	case addr != base:
		w.damaged(base, "page address %s", addr)
	case tli < w.tli || tli > w.name.Timeline:
		w.damaged(base, "page timeline %d after %d in %s", tli, w.tli, w.name)
	default:
		w.tli = tli
		if w.res.Blind {
			break
		}
		if w.rules.newer && info&^knownInfo != 0 {
			w.strange(base, "page info bits %04X", info)
		}
		w.continuation(info, le32(b[16:]), base, first && !w.following)
	}
	return !w.done
}

// continuation compares the continued record of the header of the page at base, of which rem bytes remain, with the
// pending one. unknown means that the page before is not known.
func (w *Walker) continuation(info uint16, rem uint32, base LSN, unknown bool) {
	p := &w.pending
	cont := info&infoContRecord != 0
	switch {
	case (rem != 0) != cont:
		w.broken(base, "page info bits %04X with a continuation of %d bytes", info, rem)
	case rem > w.rules.most:
		w.broken(base, "continuation of %d bytes", rem)
	case info&w.rules.overwrite != 0:
		// A crash cut the record off, and after its recovery the server continued to write here.
		if cont || p.rem == 0 && !unknown {
			w.broken(base, "page info bits %04X without a record that was cut off", info)
			return
		}
		*p = pending{}
		w.expectOverwrite()
	case unknown:
		*p = pending{rem: rem, skip: true}
	case rem != p.rem:
		w.broken(base, "continuation of %d bytes instead of %d", rem, p.rem)
	}
}

// expectOverwrite makes the walk require an OVERWRITE_CONTRECORD as its next record.
func (w *Walker) expectOverwrite() {
	if w.prev != anyPrev {
		w.chain, w.chained = w.prev, true
	}
	w.prev = anyPrev
	w.overwrite = true
}

// resume reads the rest, or the next part, of the pending record from the offset off in the page b, and returns the offset
// behind it.
func (w *Walker) resume(b []byte, base LSN, off int) int {
	p := &w.pending
	part := b[off:]
	if uint64(p.rem) < uint64(len(part)) {
		part = part[:p.rem]
	}
	end := align(off + len(part))
	if p.skip {
		p.tail = base == w.res.Start && endsSwitch(part)
		p.rem -= uint32(len(part))
		return end
	}
	p.rem -= uint32(len(part))
	if p.got < recordHeaderSize {
		n := copy(p.header[p.got:], part)
		p.got += n
		part = part[n:]
		if p.got == recordHeaderSize && !w.recordHeader(p.header[:], p.start) {
			return end
		}
	}
	p.running = crc32.Update(p.running, w.table, part)
	w.keep(part)
	if p.rem > 0 {
		return end
	}
	if crc32.Update(p.running, w.table, p.header[:recordCRC]) != le32(p.header[recordCRC:]) {
		w.broken(p.start, "record with a wrong checksum")
		return end
	}
	w.res.Records++
	w.res.End = base + LSN(end)
	w.prev = p.start
	w.report(p.header[:], w.data, p.start, w.res.End)
	w.switched(p.header[recordRmgr], p.header[recordInfo])
	return end
}

// endsSwitch reports whether part, the rest of a record, can be the end of the header of a switch record. Such a record has
// no data, so at most 16 of its 24 bytes can be in the next segment. The rest of that segment is then unused.
func endsSwitch(part []byte) bool {
	if len(part) != 8 && len(part) != 16 {
		return false
	}
	tail := part[len(part)-8:]
	return tail[recordRmgr-16] == rmgrXLog && tail[recordInfo-16]&infoRmgr == xlogSwitch
}

// records walks the records that begin in b from off on, where b is the page at base.
func (w *Walker) records(b []byte, base LSN, off int) {
	for off < len(b) {
		r := b[off:]
		if len(r) < recordHeaderSize {
			w.begin(r, base+LSN(off))
			return
		}
		length := le32(r[recordLength:])
		if uint64(length) > uint64(len(r)) || length < recordHeaderSize {
			w.begin(r, base+LSN(off))
			return
		}
		at := base + LSN(off)
		rmgr := r[recordRmgr]
		// Only records of XLOG (0), of resource managers that are not built in, and with an unexpected link need the full check.
		if (LSN(le64(r[recordPrev:])) != w.prev || rmgr-1 >= maxRmgr) && !w.recordHeader(r, at) {
			return
		}
		sum := crc32.Update(0, w.table, r[recordHeaderSize:length])
		sum = crc32.Update(sum, w.table, r[:recordCRC])
		if sum != le32(r[recordCRC:]) {
			w.broken(at, "record with a wrong checksum")
			return
		}
		w.prev = at
		w.res.Records++
		off = align(off + int(length))
		w.res.End = base + LSN(off)
		if (rmgr <= rmgrXact || w.Changes != nil && changing(rmgr, r[recordInfo])) && w.look(r[:length], at) {
			return
		}
	}
}

// look reports the record r to Events and Changes, and reports whether r ends the walk.
func (w *Walker) look(r []byte, at LSN) bool {
	if w.Events != nil || w.Changes != nil {
		w.report(r, r[recordHeaderSize:], at, w.res.End)
	}
	return w.switched(r[recordRmgr], r[recordInfo])
}

// begin reads the first part of a record that does not end on its page, or the bytes in place of a record. r reaches to the
// end of the page.
func (w *Walker) begin(r []byte, at LSN) {
	if len(r) < 8 { // the file is cut off
		w.done = true
		return
	}
	length := le32(r[recordLength:])
	switch {
	case length == 0 && w.pending.tail && w.res.Records == 0:
		w.res.Switched = true
		w.done = true
		return
	case length == 0:
		w.broken(at, "no record")
		return
	case length < recordHeaderSize || length > w.rules.most:
		w.broken(at, "record length %d", length)
		return
	}
	p := &w.pending
	*p = pending{start: at, rem: length - uint32(len(r))}
	p.got = copy(p.header[:], r)
	w.data = w.data[:0]
	if p.got == recordHeaderSize {
		if !w.recordHeader(p.header[:], at) {
			return
		}
		p.running = crc32.Update(0, w.table, r[recordHeaderSize:])
		w.keep(r[recordHeaderSize:])
	}
}

// recordHeader checks the header h of the record at the given position, except its length, and
// reports whether the walk continues.
func (w *Walker) recordHeader(h []byte, at LSN) bool {
	prev := LSN(le64(h[recordPrev:]))
	rmgr := h[recordRmgr]
	known := w.last()
	if w.rules.newer && !w.rules.rmgr(rmgr) {
		w.strange(at, "record of resource manager %d", rmgr)
	}
	switch {
	case !w.rules.rmgr(rmgr) && !w.rules.newer:
		w.broken(at, "record of unknown resource manager %d", rmgr)
	case known != anyPrev && prev != known:
		w.broken(at, "record with previous link %s instead of %s", prev, known)
	case known == anyPrev && prev >= at&^LSN(w.res.Header.SegmentSize-1):
		// The first record of a segment follows one that began in an earlier segment.
		w.broken(at, "record with previous link %s", prev)
	case w.overwrite != (rmgr == rmgrXLog && h[recordInfo]&infoRmgr == xlogOverwriteCont):
		// Recovery requires this record on a page with that bit, and allows it nowhere else.
		w.broken(at, "mark of a record that was cut off is missing, or out of place")
	default:
		w.overwrite = false
		return true
	}
	return false
}

// switched ends the walk if the record that was just checked is a switch record, and reports whether it is.
func (w *Walker) switched(rmgr, info byte) bool {
	if rmgr != rmgrXLog || info&infoRmgr != xlogSwitch {
		return false
	}
	w.res.Switched = true
	w.done = true
	return true
}

// align rounds up to the next multiple of 8 (MAXALIGN).
func align(n int) int { return (n + 7) &^ 7 }
