package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// ErrHeader reports that a file does not begin as a WAL segment, or is not the segment that its name stands for. It is final.
var ErrHeader = errors.New("invalid WAL segment header")

// ErrSize reports that a file's length is not the segment size in its header. It is an [ErrHeader], too.
var ErrSize = fmt.Errorf("%w: wrong length", ErrHeader)

// Lengths in bytes: see the package's documentation for the fields.
const (
	HeaderSize     = 40 // the header of a segment's first page (XLogLongPageHeaderData)
	pageHeaderSize = 24 // the header of every other page (XLogPageHeaderData)
	minBlockSize   = 1 << 10
	maxBlockSize   = 1 << 16
)

// Bits of a page's info (XLP_*) that every version has. For the others see [rules].
const (
	infoContRecord = 0x0001 // the page begins with the rest of a record
	infoLongHeader = 0x0002 // the header is a long one
)

// Header is the header of a segment's first page.
//
// Source: XLogLongPageHeaderData in [xlog_internal.h].
//
// [xlog_internal.h]: https://github.com/postgres/postgres/blob/REL_19_STABLE/src/include/access/xlog_internal.h
type Header struct {
	Magic       uint16      // one value for each major version
	Info        uint16      // bits
	Timeline    Timeline    // of the page's first byte: the segment in which a timeline begins carries an older one
	PageAddr    LSN         // of the page's first byte
	RemLen      uint32      // bytes that remain of a record that began in an earlier segment
	SystemID    SystemID    // of the cluster
	SegmentSize SegmentSize // bytes
	BlockSize   uint32      // length of every page in bytes
}

// Continued returns the offset in bytes, from the segment's start, at which the rest of a record from an earlier segment ends,
// rounded up to the next multiple of 8; zero if there is no such record. It can be behind the segment's end.
func (h Header) Continued() int64 {
	rem, page := int64(h.RemLen), int64(h.BlockSize)
	if rem == 0 || page <= HeaderSize {
		return 0
	}
	off := int64(HeaderSize)
	for room := page - off; rem > room; room = page - pageHeaderSize {
		rem -= room
		off = off - off%page + page + pageHeaderSize
	}
	return int64(align(int(off + rem)))
}

// magics are the page magics (XLOG_PAGE_MAGIC) of the releases.
var magics = [...]struct {
	magic uint16
	major int
}{
	{0xD097, 10},
	{0xD098, 11},
	{0xD101, 12},
	{0xD106, 13},
	{0xD10D, 14},
	{0xD110, 15},
	{0xD113, 16},
	{0xD116, 17},
	{0xD118, 18},
	{0xD122, 19},
}

// NewestMajor is the newest major version that this package knows.
const NewestMajor = 19

// maxMagic is the greatest magic that counts as that of a version to come: PostgreSQL increases it by a few each year.
const maxMagic = 0xD2FF

// ParseHeader reads the header of a segment's first page from the first [HeaderSize] bytes of b. It checks what does not
// depend on the file's name: a magic of a known release or a newer one, the long form, no unknown info bits in a known
// release, a timeline, sizes that PostgreSQL can use. A fault is [ErrHeader].
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize {
		return Header{}, fmt.Errorf("%w: %d bytes", ErrHeader, len(b))
	}
	h := Header{
		Magic:       binary.LittleEndian.Uint16(b[0:]),
		Info:        binary.LittleEndian.Uint16(b[2:]),
		Timeline:    Timeline(binary.LittleEndian.Uint32(b[4:])),
		PageAddr:    LSN(binary.LittleEndian.Uint64(b[8:])),
		RemLen:      binary.LittleEndian.Uint32(b[16:]),
		SystemID:    SystemID(binary.LittleEndian.Uint64(b[24:])),
		SegmentSize: SegmentSize(binary.LittleEndian.Uint32(b[32:])),
		BlockSize:   binary.LittleEndian.Uint32(b[36:]),
	}
	switch {
	case h.Major() == 0 && !h.Newer():
		return Header{}, fmt.Errorf("%w: magic %04X", ErrHeader, h.Magic)
	case h.Info&infoLongHeader == 0 || h.Info&^rulesOf(h).info != 0:
		return Header{}, fmt.Errorf("%w: info bits %04X", ErrHeader, h.Info)
	case h.Timeline == 0:
		return Header{}, fmt.Errorf("%w: timeline 0", ErrHeader)
	case !h.SegmentSize.Valid():
		return Header{}, fmt.Errorf("%w: segment size %d", ErrHeader, h.SegmentSize)
	case h.BlockSize < minBlockSize || h.BlockSize > maxBlockSize || bits.OnesCount32(h.BlockSize) != 1:
		return Header{}, fmt.Errorf("%w: block size %d", ErrHeader, h.BlockSize)
	}
	return h, nil
}

// Major returns the major version of PostgreSQL that writes pages with the header's magic, 10 to 19;
// zero for an unknown magic.
func (h Header) Major() int {
	for _, m := range magics {
		if m.magic == h.Magic {
			return m.major
		}
	}
	return 0
}

// Newer reports whether the magic is unknown and above that of the release before the newest known one. It then belongs to
// a version to come, or to a preliminary version of the newest. The package's documentation specifies how such WAL is checked.
func (h Header) Newer() bool {
	return h.Major() == 0 && h.Magic > magics[len(magics)-2].magic && h.Magic <= maxMagic
}

// NewerText returns the end of a message about a segment of a version to come; "" for a known version.
func (h Header) NewerText() string {
	if !h.Newer() {
		return ""
	}
	return fmt.Sprintf("is WAL of a newer PostgreSQL than %d, the newest version that this program knows (page magic %04X)", NewestMajor, h.Magic)
}

// Check returns an [ErrHeader] if a segment with this header cannot have the name n: its address must be where n starts, and
// its timeline must not be later than n's. It is earlier in the segment in which a timeline begins, because the server
// copies that segment from the older timeline up to the fork.
func (h Header) Check(n Name) error {
	start, err := n.Start(h.SegmentSize)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrHeader, err)
	case h.PageAddr != start:
		return fmt.Errorf("%w: page address %s in %s, which starts at %s", ErrHeader, h.PageAddr, n, start)
	case h.Timeline > n.Timeline:
		return fmt.Errorf("%w: timeline %d in %s", ErrHeader, h.Timeline, n)
	}
	return nil
}
