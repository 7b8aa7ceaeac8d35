package wal_test

import (
	"encoding/binary"
	"hash/crc32"
	"io"

	"walkeep/common/wal"
)

// stream writes WAL as a server does, page by page, in any size and with any fault that a test needs. Tests set its fields
// before the first record, or change them between records.
type stream struct {
	out      io.Writer
	magic    uint16
	tli      wal.Timeline
	size     wal.SegmentSize
	block    int
	sysid    wal.SystemID
	lsn      wal.LSN // of the next byte
	prev     wal.LSN // xl_prev of the next record
	info     uint16  // more bits for the next page
	page     []byte  // what is written of the current page
	rem      uint32  // of the record that is being written
	segments int     // that were completed
	records  uint64  // that were written
}

// newStream begins at the start of segment n.
func newStream(out io.Writer, magic uint16, n wal.Name, size wal.SegmentSize, block int) *stream {
	start, err := n.Start(size)
	if err != nil {
		panic(err)
	}
	return &stream{
		out: out, magic: magic, tli: n.Timeline, size: size, block: block, sysid: 7439201847382910465,
		lsn: start, prev: start - 40, page: make([]byte, 0, block),
	}
}

// open writes a page's header if the stream is at the start of a page.
func (s *stream) open() {
	if len(s.page) > 0 {
		return
	}
	long := s.lsn%wal.LSN(s.size) == 0
	h := make([]byte, 24, wal.HeaderSize)
	info := s.info
	s.info = 0
	if s.rem > 0 {
		info |= 1
	}
	if long {
		info |= 2
		h = h[:wal.HeaderSize]
		binary.LittleEndian.PutUint64(h[24:], uint64(s.sysid))
		binary.LittleEndian.PutUint32(h[32:], uint32(s.size))
		binary.LittleEndian.PutUint32(h[36:], uint32(s.block))
	}
	binary.LittleEndian.PutUint16(h[0:], s.magic)
	binary.LittleEndian.PutUint16(h[2:], info)
	binary.LittleEndian.PutUint32(h[4:], uint32(s.tli))
	binary.LittleEndian.PutUint64(h[8:], uint64(s.lsn))
	binary.LittleEndian.PutUint32(h[16:], s.rem)
	s.raw(h)
}

// raw appends bytes that fit on the page.
func (s *stream) raw(b []byte) {
	s.page = append(s.page, b...)
	s.lsn += wal.LSN(len(b))
	if len(s.page) == s.block {
		s.out.Write(s.page)
		s.page = s.page[:0]
		if s.lsn%wal.LSN(s.size) == 0 {
			s.segments++
		}
	}
}

// room returns how many bytes of the page are left, after its header.
func (s *stream) room() int {
	s.open()
	return s.block - len(s.page)
}

// data appends bytes of a record, across pages.
func (s *stream) data(b []byte) {
	for len(b) > 0 {
		n := min(s.room(), len(b))
		s.rem -= uint32(n)
		s.raw(b[:n])
		b = b[n:]
	}
}

// record appends a record and returns where it begins.
func (s *stream) record(rmgr, info byte, data []byte) wal.LSN {
	s.open()
	start := s.lsn
	h := make([]byte, 24)
	binary.LittleEndian.PutUint32(h[0:], uint32(24+len(data)))
	binary.LittleEndian.PutUint32(h[4:], 1234)
	binary.LittleEndian.PutUint64(h[8:], uint64(s.prev))
	h[16], h[17] = info, rmgr
	table := crc32.MakeTable(crc32.Castagnoli)
	binary.LittleEndian.PutUint32(h[20:], crc32.Update(crc32.Checksum(data, table), table, h[:20]))
	s.rem = uint32(24 + len(data))
	s.data(h)
	s.data(data)
	s.prev = start
	s.records++
	if pad := -int(s.lsn) & 7; pad > 0 {
		s.raw(make([]byte, pad))
	}
	return start
}

// until fills the page with records so that n bytes of it are left; the page's room must allow it.
func (s *stream) until(n int) {
	for left := s.room() - n; left > 0; {
		size := min(left, 512)
		if rest := left - size; rest > 0 && rest < 24 {
			size -= 24
		}
		s.record(10, 0, make([]byte, size-24))
		left -= size
	}
}

// fill writes records to the end of the segment; the last one may continue in the next segment.
func (s *stream) fill() {
	for done := s.segments; s.segments == done; {
		if s.room() < 24 {
			s.record(10, 0, make([]byte, 24))
			continue
		}
		s.until(0)
	}
}

// zeros writes unused bytes to the end of the segment.
func (s *stream) zeros() {
	for done := s.segments; s.segments == done; {
		s.raw(make([]byte, s.block-len(s.page)))
	}
}

// change ends the segment by a switch record.
func (s *stream) change() {
	s.record(0, 0x40, nil)
	if s.lsn%wal.LSN(s.size) != 0 {
		s.zeros()
	}
}

// cutOff writes the first n bytes of a record with size bytes of data, which must end with the page. It does not count
// the record.
func (s *stream) cutOff(n, size int) {
	s.open()
	h := make([]byte, n)
	binary.LittleEndian.PutUint32(h[0:], uint32(24+size))
	if n >= 24 {
		binary.LittleEndian.PutUint64(h[8:], uint64(s.prev))
		h[17] = 10
	}
	s.rem = uint32(24 + size)
	s.data(h)
}
