package wal

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Errors of the parsers of single values. They are wrapped with the text that did not fit.
var (
	// ErrLSN says that a text is not a log sequence number in PostgreSQL's own form.
	ErrLSN = errors.New("invalid LSN")
	// ErrSystemID says that a text is not a system identifier.
	ErrSystemID = errors.New("invalid system identifier")
)

// LSN is a log sequence number: the position of a byte in the stream of WAL, counted from the
// creation of the cluster. Zero is "invalid" to PostgreSQL (InvalidXLogRecPtr): no record starts there.
//
// Source: [xlogdefs.h].
//
// [xlogdefs.h]: https://github.com/postgres/postgres/blob/REL_18_STABLE/src/include/access/xlogdefs.h
type LSN uint64

// ParseLSN reads the form that PostgreSQL prints, such as "16/B374D848": two upper-case hexadecimal
// numbers of at most 32 bits without leading zeros. Any other text is [ErrLSN]; so what is
// accepted is exactly what [LSN.String] returns.
func ParseLSN(s string) (LSN, error) {
	hi, lo, ok := strings.Cut(s, "/")
	if ok {
		h, errHi := strconv.ParseUint(hi, 16, 32)
		l, errLo := strconv.ParseUint(lo, 16, 32)
		if lsn := LSN(h<<32 | l); errHi == nil && errLo == nil && lsn.String() == s {
			return lsn, nil
		}
	}
	return 0, fmt.Errorf("%w %q", ErrLSN, clip(s))
}

// String returns the form that PostgreSQL prints ("%X/%X").
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l)) }

// MarshalText is String, for formats such as JSON.
func (l LSN) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText is ParseLSN.
func (l *LSN) UnmarshalText(text []byte) (err error) {
	*l, err = ParseLSN(string(text))
	return err
}

// SystemID is the identifier of a cluster, chosen by initdb and written into the first page of
// every segment (xlp_sysid). All servers of one physical replication share it.
type SystemID uint64

// ParseSystemID reads a decimal number without sign or leading zeros, as pg_controldata and
// IDENTIFY_SYSTEM print it. Any other text is [ErrSystemID].
func ParseSystemID(s string) (SystemID, error) {
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil || SystemID(v).String() != s {
		return 0, fmt.Errorf("%w %q", ErrSystemID, clip(s))
	}
	return SystemID(v), nil
}

// String returns the decimal number.
func (id SystemID) String() string { return strconv.FormatUint(uint64(id), 10) }

// clip bounds what of a foreign text is repeated in an error.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}
