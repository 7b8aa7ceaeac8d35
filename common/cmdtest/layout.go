package cmdtest

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
	"testing"
)

// Offsets in the header of a record (XLogRecord in src/include/access/xlogrecord.h).
const (
	RecLength = 0  // 4 bytes
	RecXID    = 4  // 4 bytes
	RecPrev   = 8  // 8 bytes
	RecInfo   = 16 // 1 byte
	RecRmgr   = 17 // 1 byte
	RecCRC    = 20 // 4 bytes, over the data and then the header up to here
	RecData   = 24
)

// A Layout describes the bytes of an undamaged segment. It is read in the plainest way, from the stream of the pages'
// contents, so that the commands' own walker can be compared with it. Positions are those in that stream.
type Layout struct {
	Segment []byte
	Block   int
	Carried int      // length of the rest of a record of an earlier segment
	Records []Record // those that begin here
	Used    int      // the end of the records; the bytes after a switch record are unused
}

// A Record begins in the segment. The last one may continue in the next.
type Record struct {
	At, Length int
	Complete   bool
}

// Read reads the layout, and fails the test if the segment is damaged.
func Read(t testing.TB, segment []byte) *Layout {
	t.Helper()
	le := binary.LittleEndian
	l := &Layout{Segment: segment, Block: int(le.Uint32(segment[offBlockSize:])), Carried: int(le.Uint32(segment[offRemLen:]))}
	stream := l.stream()
	l.Used = len(stream)
	for at := align(l.Carried); at < len(stream); {
		r := Record{At: at, Length: int(le.Uint32(stream[at:]))}
		if r.Length < RecData {
			t.Fatalf("the test data has a record of %d bytes at %d of the stream", r.Length, at)
		}
		if r.Complete = r.Length <= len(stream)-at; r.Complete {
			if b := stream[at : at+r.Length]; le.Uint32(b[RecCRC:]) != checksum(b) {
				t.Fatalf("the test data has a record with a wrong checksum at %d of the stream", at)
			}
		}
		l.Records = append(l.Records, r)
		at += align(r.Length)
		if isSwitch := stream[r.At+RecRmgr] == 0 && stream[r.At+RecInfo]&0xF0 == 0x40; isSwitch {
			l.Used = at
			break
		}
	}
	return l
}

func align(n int) int { return (n + 7) &^ 7 }

func checksum(record []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Update(0, table, record[RecData:]), table, record[:RecCRC])
}

// stream returns the pages' contents without their headers.
func (l *Layout) stream() []byte {
	var stream []byte
	for page := 0; page < len(l.Segment); page += l.Block {
		stream = append(stream, l.Segment[page+headerLength(page):page+l.Block]...)
	}
	return stream
}

func headerLength(page int) int {
	if page == 0 {
		return longHeader
	}
	return shortHeader
}

// Position returns the position in the stream of a byte of the segment; false if the byte is in a page's header.
func (l *Layout) Position(offset int) (int, bool) {
	page := offset / l.Block
	in := offset - page*l.Block - headerLength(page)
	at := page*(l.Block-shortHeader) + in
	if page > 0 {
		at -= longHeader - shortHeader
	}
	return at, in >= 0
}

// Offset is the inverse of Position.
func (l *Layout) Offset(position int) int {
	position += longHeader - shortHeader
	page := position / (l.Block - shortHeader)
	return page*l.Block + position%(l.Block-shortHeader) + shortHeader
}

// Find returns the record of the byte at a position; false if it is between records.
func (l *Layout) Find(position int) (Record, bool) {
	i, found := slices.BinarySearchFunc(l.Records, position, func(r Record, p int) int { return r.At - p })
	if !found {
		i--
	}
	if i < 0 || position >= l.Records[i].At+l.Records[i].Length {
		return Record{}, false
	}
	return l.Records[i], true
}

// middle returns a complete record with data, from the middle on or else before it.
func (l *Layout) middle(t testing.TB) Record {
	t.Helper()
	half := len(l.Records) / 2
	for _, r := range slices.Concat(l.Records[half:], l.Records[:half]) {
		if r.Complete && r.Length > RecData+8 {
			return r
		}
	}
	t.Fatal("the segment has no complete record with data")
	return Record{}
}

// Fork returns a segment that another server could have written under the same name: it is valid, but one record
// differs.
func Fork(t testing.TB, segment []byte) []byte {
	t.Helper()
	l := Read(t, segment)
	r := l.middle(t)
	record := slices.Clone(l.stream()[r.At : r.At+r.Length])
	record[RecXID] ^= 1
	binary.LittleEndian.PutUint32(record[RecCRC:], checksum(record))
	other := slices.Clone(segment)
	for i, b := range record {
		other[l.Offset(r.At+i)] = b
	}
	Read(t, other)
	return other
}

// Break returns the segment with one record whose data does not match its checksum.
func Break(t testing.TB, segment []byte) []byte {
	t.Helper()
	l := Read(t, segment)
	return Flip(segment, 8*l.Offset(l.middle(t).At+RecData+1))
}
