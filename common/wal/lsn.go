package wal

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// Errors of the parsers of single values. The parsers wrap them with the invalid text. They are final.
var (
	// ErrLSN reports that a text is not a log sequence number that PostgreSQL would read.
	ErrLSN = errors.New("invalid LSN")
	// ErrSystemID reports that a text is not a system identifier.
	ErrSystemID = errors.New("invalid system identifier")
)

// LSN is a log sequence number: the position of a byte in the stream of WAL, counted from the
// creation of the cluster. Zero is "invalid" to PostgreSQL (InvalidXLogRecPtr): no record starts there.
//
// Source: [xlogdefs.h].
//
// [xlogdefs.h]: https://github.com/postgres/postgres/blob/REL_19_STABLE/src/include/access/xlogdefs.h
type LSN uint64

// ParseLSN reads a text that PostgreSQL accepts as a pg_lsn, such as "16/B374D848": two hexadecimal numbers of 1 to 8 digits.
// Servers up to 18 print them without leading zeros, 19 and pg_waldump with 8 digits behind the slash. Any other text is
// [ErrLSN].
func ParseLSN(s string) (LSN, error) {
	hi, lo, ok := strings.Cut(s, "/")
	h, rest, okHi := cutNumber(hi, 16)
	l, more, okLo := cutNumber(lo, 16)
	if !ok || !okHi || !okLo || rest != "" || more != "" || len(hi) > 8 || len(lo) > 8 {
		return 0, fmt.Errorf("%w %q", ErrLSN, clip(s))
	}
	return LSN(h)<<32 | LSN(l), nil
}

// String returns the form that PostgreSQL up to 18 prints ("%X/%X"), without leading zeros.
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l)) }

// padded matches positions in the form of 19 and pg_waldump.
var padded = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\b[0-9A-F]{1,8}/0[0-9A-F]{7}\b`) })

// ShortLSNs returns a server's text, such as an error or a line of its log, with positions in the form of [LSN.String]. It
// leaves text that may be a part of a path unchanged.
func ShortLSNs(text string) string {
	at := padded().FindAllStringIndex(text, -1)
	if at == nil {
		return text
	}
	var b strings.Builder
	done := 0
	for _, m := range at {
		before, after := text[:m[0]], text[m[1]:]
		lsn, err := ParseLSN(text[m[0]:m[1]])
		if err != nil || before != "" && strings.ContainsRune(`/\.-`, rune(before[len(before)-1])) || pathFollows().MatchString(after) {
			continue
		}
		b.WriteString(text[done:m[0]] + lsn.String())
		done = m[1]
	}
	return b.String() + text[done:]
}

// pathFollows matches the text behind a match if that is a part of a path.
var pathFollows = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[/\\-]|^\.\w`) })

// MarshalText returns String, for formats such as JSON.
func (l LSN) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText sets l to the result of ParseLSN.
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

// clip shortens a foreign text for an error message.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}
