package wal

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"strings"
)

// ErrName reports that a text is not the name of a file that PostgreSQL archives, or that a name
// does not fit the segment size. It is final.
var ErrName = errors.New("invalid WAL file name")

// Timeline is the number of a timeline: 1 after initdb, and a greater one after each promotion or
// recovery to a point in time. Zero is no timeline.
type Timeline uint32

// ParseTimeline reads a timeline as file names contain it: 8 upper-case hexadecimal digits, not
// all zero. Any other text is [ErrName].
func ParseTimeline(s string) (Timeline, error) {
	if v, ok := hex8(s); ok && len(s) == 8 && v != 0 {
		return Timeline(v), nil
	}
	return 0, fmt.Errorf("%w: timeline %q", ErrName, clip(s))
}

// String returns the timeline as file names contain it ("%08X").
func (t Timeline) String() string { return fmt.Sprintf("%08X", uint32(t)) }

// Kind is the kind of a file that PostgreSQL archives.
type Kind uint8

// The kinds of [Name].
const (
	KindSegment Kind = iota // a complete segment, 000000010000000000000028
	KindPartial             // the last segment of a timeline that was left, 000000010000000000000028.partial
	KindBackup              // the backup history file, 000000010000000000000028.00000028.backup
	KindHistory             // the timeline history file, 00000002.history
)

// String returns the kind in words, for messages.
func (k Kind) String() string {
	switch k {
	case KindSegment:
		return "segment"
	case KindPartial:
		return "partial segment"
	case KindBackup:
		return "backup history file"
	case KindHistory:
		return "timeline history file"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Name is the parsed name of a file that PostgreSQL archives. Names are comparable values.
//
// Source: XLogFileName, TLHistoryFileName and BackupHistoryFileName in [xlog_internal.h].
//
// [xlog_internal.h]: https://github.com/postgres/postgres/blob/REL_18_STABLE/src/include/access/xlog_internal.h
type Name struct {
	Kind     Kind
	Timeline Timeline
	// Log and Seg are the second and third group of digits: the upper half of the LSN and the
	// number of the segment within it. Both are zero for KindHistory.
	Log, Seg uint32
	// Offset is where the backup started, in bytes from the start of the segment; zero for
	// every other kind than KindBackup.
	Offset uint32
}

const (
	suffixPartial = ".partial"
	suffixBackup  = ".backup"
	suffixHistory = ".history"
)

// ParseName reads the name of a segment (24 hexadecimal digits), a partial segment (24 digits and
// ".partial"), a backup history file (24 digits, a dot, 8 digits and ".backup") or a timeline history
// file (8 digits and ".history"). Digits are upper-case and the timeline is not zero. Any other
// text, including one with a directory, is [ErrName]. It does not check the segment's number, which
// depends on the segment size; see [Name.Start].
func ParseName(s string) (Name, error) {
	n, ok := parseName(s)
	if !ok {
		return Name{}, fmt.Errorf("%w %q", ErrName, clip(s))
	}
	return n, nil
}

func parseName(s string) (n Name, ok bool) {
	tli, ok := hex8(s)
	if !ok || tli == 0 {
		return n, false
	}
	n.Timeline = Timeline(tli)
	if s[8:] == suffixHistory {
		n.Kind = KindHistory
		return n, true
	}
	var okLog, okSeg bool
	n.Log, okLog = hex8(s[8:])
	if !okLog {
		return n, false
	}
	n.Seg, okSeg = hex8(s[16:])
	if !okSeg {
		return n, false
	}
	switch rest := s[24:]; {
	case rest == "":
		n.Kind = KindSegment
		return n, true
	case rest == suffixPartial:
		n.Kind = KindPartial
		return n, true
	case len(rest) == 9+len(suffixBackup) && rest[0] == '.' && strings.HasSuffix(rest, suffixBackup):
		n.Kind = KindBackup
		n.Offset, ok = hex8(rest[1:])
		return n, ok
	}
	return n, false
}

// hex8 reads the first 8 bytes of s as upper-case hexadecimal digits.
func hex8(s string) (v uint32, ok bool) {
	if len(s) < 8 {
		return 0, false
	}
	for i := range 8 {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			v = v<<4 | uint32(c-'0')
		case c >= 'A' && c <= 'F':
			v = v<<4 | uint32(c-'A'+10)
		default:
			return 0, false
		}
	}
	return v, true
}

// String returns the file's name.
func (n Name) String() string {
	if n.Kind == KindHistory {
		return n.Timeline.String() + suffixHistory
	}
	s := fmt.Sprintf("%08X%08X%08X", uint32(n.Timeline), n.Log, n.Seg)
	switch n.Kind {
	case KindPartial:
		s += suffixPartial
	case KindBackup:
		s += fmt.Sprintf(".%08X", n.Offset) + suffixBackup
	}
	return s
}

// Segment returns the name of the complete segment at the same place: for a partial segment the
// one it would have become, for a backup history file the one in which the backup starts. A
// timeline history file has none; Segment returns it unchanged.
func (n Name) Segment() Name {
	if n.Kind == KindHistory {
		return n
	}
	return Name{Kind: KindSegment, Timeline: n.Timeline, Log: n.Log, Seg: n.Seg}
}

// Number returns the segment's number, counted from 0 at LSN 0/0 (XLogSegNo). The error is [ErrName]
// for a timeline history file and if no segment of that size has the name, and [ErrSegmentSize] for
// a size that is not valid.
func (n Name) Number(size SegmentSize) (uint64, error) {
	if !size.Valid() {
		return 0, fmt.Errorf("%w: %s", ErrSegmentSize, size)
	}
	if n.Kind == KindHistory {
		return 0, fmt.Errorf("%w: %s is no segment", ErrName, n)
	}
	if uint64(n.Seg) >= size.perLog() {
		return 0, fmt.Errorf("%w: %s with segments of %s", ErrName, n, size)
	}
	return uint64(n.Log)*size.perLog() + uint64(n.Seg), nil
}

// Start returns the LSN of the segment's first byte. Errors are those of [Name.Number].
func (n Name) Start(size SegmentSize) (LSN, error) {
	number, err := n.Number(size)
	return LSN(number * uint64(size)), err
}

// Next returns the segment after n on the same timeline. The last one that a uint64 can address is
// followed by the first. If size is not valid, or n is a timeline history file, Next returns n unchanged.
func (n Name) Next(size SegmentSize) Name {
	if !size.Valid() || n.Kind == KindHistory {
		return n
	}
	n = n.Segment()
	if n.Seg++; uint64(n.Seg) >= size.perLog() {
		n.Log, n.Seg = n.Log+1, 0
	}
	return n
}

// SegmentAt returns the segment that contains the byte at lsn. The end of a record can be the first
// byte of the next segment. If size is not valid, the name's numbers are zero.
func SegmentAt(tli Timeline, lsn LSN, size SegmentSize) Name {
	if !size.Valid() {
		return Name{Timeline: tli}
	}
	return Name{Timeline: tli, Log: uint32(lsn >> 32), Seg: uint32(lsn&math.MaxUint32) / uint32(size)}
}

// Compare orders names as an archive is read, returning a negative number, zero or a positive
// number: by timeline, each beginning with its history file, then by position, and at one position the
// segment, its backup history files by offset, and the partial segment. Within a timeline that is the
// order in which PostgreSQL archives; across timelines it archives all history files first.
//
// Source: ready_file_comparator in [pgarch.c].
//
// [pgarch.c]: https://github.com/postgres/postgres/blob/REL_18_STABLE/src/backend/postmaster/pgarch.c
func Compare(a, b Name) int {
	return cmp.Or(
		cmp.Compare(a.Timeline, b.Timeline),
		-cmp.Compare(historyRank(a), historyRank(b)),
		cmp.Compare(a.Log, b.Log),
		cmp.Compare(a.Seg, b.Seg),
		cmp.Compare(kindRank(a.Kind), kindRank(b.Kind)),
		cmp.Compare(a.Offset, b.Offset),
	)
}

func historyRank(n Name) int {
	if n.Kind == KindHistory {
		return 1
	}
	return 0
}

// kindRank orders the kinds as their endings sort: none, ".00000028.backup", ".partial".
func kindRank(k Kind) int {
	switch k {
	case KindSegment:
		return 0
	case KindBackup:
		return 1
	}
	return 2
}
