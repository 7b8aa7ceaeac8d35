package wal

import (
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// ErrSegmentSize reports that a number or a text is not a segment size that PostgreSQL can use. It is final.
var ErrSegmentSize = errors.New("invalid WAL segment size")

// SegmentSize is the length of a WAL segment in bytes: a power of two from 1 MB to 1 GB. From
// PostgreSQL 11 on initdb sets it; in 10 it is 16 MB unless the server was built otherwise.
//
// Source: IsValidWalSegSize in [xlog_internal.h].
//
// [xlog_internal.h]: https://github.com/postgres/postgres/blob/REL_18_STABLE/src/include/access/xlog_internal.h
type SegmentSize uint32

// Bounds of a segment's size, and initdb's default.
const (
	MinSegmentSize     SegmentSize = 1 << 20
	MaxSegmentSize     SegmentSize = 1 << 30
	DefaultSegmentSize SegmentSize = 16 << 20
)

// ParseSegmentSize reads a size in the form of SHOW wal_segment_size, such as "16MB" or "1GB". Any
// other text is [ErrSegmentSize].
func ParseSegmentSize(s string) (SegmentSize, error) {
	num, unit := s, uint64(1)
	if n, ok := strings.CutSuffix(s, "MB"); ok {
		num, unit = n, 1<<20
	} else if n, ok := strings.CutSuffix(s, "GB"); ok {
		num, unit = n, 1<<30
	}
	v, err := strconv.ParseUint(num, 10, 31)
	if v *= unit; err == nil && v <= uint64(MaxSegmentSize) {
		if size := SegmentSize(v); size.Valid() && size.String() == s {
			return size, nil
		}
	}
	return 0, fmt.Errorf("%w %q", ErrSegmentSize, clip(s))
}

// Valid reports whether PostgreSQL can use the size.
func (s SegmentSize) Valid() bool {
	return s >= MinSegmentSize && s <= MaxSegmentSize && bits.OnesCount32(uint32(s)) == 1
}

// String returns the size as SHOW wal_segment_size prints it, and a size that is not valid in bytes.
func (s SegmentSize) String() string {
	switch {
	case !s.Valid():
		return strconv.FormatUint(uint64(s), 10) + " bytes"
	case s == 1<<30:
		return "1GB"
	}
	return strconv.FormatUint(uint64(s>>20), 10) + "MB"
}

// perLog returns how many segments share one log number (XLogSegmentsPerXLogId); s must be valid.
func (s SegmentSize) perLog() uint64 { return 1 << 32 / uint64(s) }
