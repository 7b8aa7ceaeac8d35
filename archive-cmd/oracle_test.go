package main_test

import (
	"encoding/binary"
	"testing"

	"walkeep/common/cmdtest"
)

// A verdict is what archive-cmd must make of a segment that was sound before one of its bits was changed.
type verdict int

const (
	silent  verdict = iota // nobody can know: no rule covers the bit
	damage                 // recovery would stop there
	refused                // it is not the segment that its name says
)

func (v verdict) String() string { return [...]string{"silent", "damage", "refused"}[v] }

// An oracle knows for each bit of a segment of timeline 1 whether a flip must be found. It uses the layout of the undamaged
// segment and the checks of PostgreSQL's reader (xlogreader.c), and none of walkeep's code.
type oracle struct {
	*cmdtest.Layout
	lastPage int // first byte of the last page that has records
}

func newOracle(t testing.TB, segment []byte) oracle {
	t.Helper()
	l := cmdtest.Read(t, segment)
	if le32(segment[4:]) != 1 {
		t.Fatal("the oracle knows timeline 1 only")
	}
	return oracle{l, l.Offset(l.Used-1) / l.Block * l.Block}
}

func le32(b []byte) int { return int(binary.LittleEndian.Uint32(b)) }

// magics are the values of XLOG_PAGE_MAGIC, from PostgreSQL 10 to 19.
var magics = map[int]int{
	0xD097: 10, 0xD098: 11, 0xD101: 12, 0xD106: 13, 0xD10D: 14, 0xD110: 15, 0xD113: 16, 0xD116: 17, 0xD118: 18, 0xD122: 19,
}

func (o oracle) verdict(bit int) verdict {
	offset := bit / 8
	at, ok := o.Position(offset)
	switch {
	case !ok && offset < o.Block:
		return o.firstHeader(bit)
	case offset/o.Block*o.Block > o.lastPage:
		return silent // behind a switch
	case !ok:
		return o.pageHeader(offset%o.Block, bit%8)
	}
	r, ok := o.Find(at)
	if !ok {
		return silent // between records, or of a record that began in another segment
	}
	return o.record(r, at-r.At, bit%8)
}

// firstHeader judges a bit of the first page's header.
func (o oracle) firstHeader(bit int) verdict {
	header := cmdtest.Flip(o.Segment[:40], bit)
	switch offset := bit / 8; {
	case offset < 2:
		if magic := le32(header) & 0xFFFF; magics[magic] == 0 && (magic <= 0xD118 || magic > 0xD2FF) {
			return refused // and not that of a release to come
		}
		if o.lastPage == 0 {
			return silent // there is no other page to tell
		}
		return damage // the second page is of another release
	case offset < 4:
		switch 1 << (bit - 16) {
		case 1, o.overwrite(): // contradicts the length that remains, or the record that follows
			return damage
		case o.removable():
			return silent
		}
		return refused // not a long header, or bits that do not exist
	case offset < 16:
		return refused // timeline and page address
	case offset < 20:
		return o.firstRemaining(le32(header[16:]))
	case offset < 24:
		return silent // padding
	}
	return refused // system identifier, segment size, block size: no other power of two is one bit away
}

// firstRemaining judges another length of the rest with which the segment begins.
func (o oracle) firstRemaining(length int) verdict {
	room := o.Block - 40
	if o.Carried != 0 && o.Carried <= room && length != 0 && (length+7)/8 == (o.Carried+7)/8 {
		return silent // the next record begins at the same place
	}
	return damage
}

// pageHeader judges a bit of another page's header.
func (o oracle) pageHeader(offset, bit int) verdict {
	switch {
	case offset == 2 && 1<<bit == o.removable(), offset >= 20:
		return silent // for compression programs; padding
	}
	return damage // magic, info, timeline, page address and remaining length are all known
}

// record judges a bit of a record that begins in the segment.
func (o oracle) record(r cmdtest.Record, offset, bit int) verdict {
	first := o.Offset(r.At)
	page := first / o.Block * o.Block
	inPage := page + o.Block - first // bytes of the record and of what follows it on its first page
	header := make([]byte, cmdtest.RecData)
	for i := range header {
		if p := r.At + i; o.Offset(p) < len(o.Segment) {
			header[i] = o.Segment[o.Offset(p)]
		}
	}
	wrong := cmdtest.Flip(header, 8*min(offset, cmdtest.RecData-1)+bit)
	onLastPage := page == len(o.Segment)-o.Block
	if offset < cmdtest.RecXID {
		length := le32(wrong)
		if onLastPage && length > inPage && length <= o.longest() {
			return silent // it seems to continue in the next segment, and no page of this one contradicts
		}
		return damage
	}
	if r.Complete {
		return damage // the checksum covers all of it
	}
	whole := r.At+cmdtest.RecData <= o.Used // the header ends in this segment
	switch {
	case !whole || offset >= cmdtest.RecCRC, offset < cmdtest.RecPrev:
		return silent // only the next segment can tell
	case offset < cmdtest.RecInfo:
		return o.previous(r, binary.LittleEndian.Uint64(wrong[cmdtest.RecPrev:]))
	}
	rmgr, info := wrong[cmdtest.RecRmgr], wrong[cmdtest.RecInfo]
	custom := o.major() >= 15 && rmgr >= 128
	if rmgr > 21 && !custom || rmgr == 0 && info&0xF0 == 0xD0 {
		return damage // no such resource manager; or the mark of a crash where there was none
	}
	return silent
}

// previous judges another link to the record before: it is known unless that is in another segment.
func (o oracle) previous(r cmdtest.Record, link uint64) verdict {
	if r.At == o.Records[0].At && link < binary.LittleEndian.Uint64(o.Segment[8:]) {
		return silent
	}
	return damage
}

func (o oracle) major() int { return magics[le32(o.Segment)&0xFFFF] }

// overwrite is the bit of a page's info that says that the rest of a record is lost.
func (o oracle) overwrite() int {
	if o.major() >= 19 {
		return 4
	}
	return 8
}

// removable is the bit of a page's info that says something to compression programs; 0 where there is none.
func (o oracle) removable() int {
	if o.major() >= 19 {
		return 0
	}
	return 4
}

// longest is the length of the longest record.
func (o oracle) longest() int {
	if o.major() >= 16 {
		return 1020 << 20
	}
	return 1<<30 - 1
}
