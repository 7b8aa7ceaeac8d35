package wal

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrHistory reports that bytes are not the content of the history file of the given timeline. It is final.
var ErrHistory = errors.New("invalid timeline history file")

// MaxHistorySize is the greatest length in bytes of a timeline history file: enough for thousands of promotions.
const MaxHistorySize = 1 << 20

// maxHistoryLine is the greatest length in bytes of a line without the space around it. PostgreSQL's reader reads up to
// 1023 bytes at once (MAXPGPATH), and its writer's lines are far shorter.
const maxHistoryLine = 1000

// HistoryEntry is one line of a timeline history file.
type HistoryEntry struct {
	Timeline Timeline // a timeline that was left
	End      LSN      // where it was left: the first byte that belongs to the next one
	Reason   string   // for readers, such as "no recovery target specified"; one line, no space around it
}

// History is the contents of a timeline history file: the timelines that lead to Timeline.
//
// Source: [timeline.c].
//
// [timeline.c]: https://github.com/postgres/postgres/blob/REL_18_STABLE/src/backend/access/transam/timeline.c
type History struct {
	Timeline Timeline       // the timeline that the file is named after
	Entries  []HistoryEntry // oldest first
}

// ParseHistory reads the contents b of the history file of timeline tli. It is as tolerant as
// PostgreSQL's readTimeLineHistory (blank lines, comments, any white space), but requires in addition
// that timelines increase and are less than tli, and that there is at least one entry. Any other
// content, and more than [MaxHistorySize] bytes, is an [ErrHistory].
//
// If a recovery towards a timeline ends before that timeline begins, the server records that it left
// the timeline at that position. In the result earlier timelines end there, too, because the server
// never replayed their WAL behind it.
func ParseHistory(tli Timeline, b []byte) (History, error) {
	h := History{Timeline: tli}
	if len(b) > MaxHistorySize {
		return History{}, fmt.Errorf("%w: %d bytes", ErrHistory, len(b))
	}
	number := 0
	for line := range bytes.Lines(b) {
		number++
		e, ok, err := parseHistoryLine(line)
		if err == nil && ok {
			err = h.add(e)
		}
		if err != nil {
			return History{}, fmt.Errorf("%w %s.history: line %d: %v", ErrHistory, tli, number, err)
		}
	}
	if len(h.Entries) == 0 {
		return History{}, fmt.Errorf("%w %s.history: no entries", ErrHistory, tli)
	}
	return h, nil
}

// add appends e if it may follow the last entry.
func (h *History) add(e HistoryEntry) error {
	if e.Timeline >= h.Timeline {
		return fmt.Errorf("timeline %d is not less than %d", e.Timeline, h.Timeline)
	}
	if len(h.Entries) > 0 {
		last := h.Entries[len(h.Entries)-1]
		if e.Timeline <= last.Timeline {
			return fmt.Errorf("timeline %d after %d", e.Timeline, last.Timeline)
		}
	}
	for i := range h.Entries {
		h.Entries[i].End = min(h.Entries[i].End, e.End)
	}
	h.Entries = append(h.Entries, e)
	return nil
}

const historySpace = " \t\n\v\f\r"

// parseHistoryLine reads one line; ok is false for a blank line or a comment.
func parseHistoryLine(line []byte) (e HistoryEntry, ok bool, err error) {
	if bytes.IndexByte(line, 0) >= 0 {
		return e, false, errors.New("zero byte")
	}
	s := strings.Trim(string(line), historySpace)
	if s == "" || s[0] == '#' {
		return e, false, nil
	}
	if len(s) > maxHistoryLine {
		return e, false, fmt.Errorf("%d bytes", len(s))
	}
	tli, s, okTLI := cutNumber(s, 10)
	position := strings.TrimLeft(s, historySpace)
	okTLI = okTLI && len(position) < len(s)
	hi, s, okHi := cutNumber(position, 16)
	s, okSlash := strings.CutPrefix(s, "/")
	lo, s, okLo := cutNumber(s, 16)
	switch {
	case !okTLI || tli == 0:
		return e, false, errors.New("expected a timeline")
	case !okHi || !okSlash || !okLo:
		return e, false, errors.New("expected a WAL position")
	case s != "" && !strings.ContainsRune(historySpace, rune(s[0])):
		return e, false, errors.New("expected white space after the WAL position")
	}
	e.Timeline = Timeline(tli)
	e.End = LSN(hi)<<32 | LSN(lo)
	e.Reason = strings.TrimLeft(s, historySpace)
	return e, true, nil
}

// cutNumber splits the digits of the given base (at most 32 bits) off the front of s.
func cutNumber(s string, base int) (v uint32, rest string, ok bool) {
	digits := "0123456789abcdefABCDEF"
	if base == 10 {
		digits = digits[:10]
	}
	rest = strings.TrimLeft(s, digits)
	u, err := strconv.ParseUint(s[:len(s)-len(rest)], base, 32)
	return uint32(u), rest, err == nil
}

// Begin returns where h.Timeline begins, which is where the one before it was left; zero if
// there are no entries.
func (h History) Begin() LSN {
	if len(h.Entries) == 0 {
		return 0
	}
	return h.Entries[len(h.Entries)-1].End
}

// TimelineOf returns the timeline to which the byte at lsn belongs, in the WAL of a server on h.Timeline.
func (h History) TimelineOf(lsn LSN) Timeline {
	for _, e := range h.Entries {
		if lsn < e.End {
			return e.Timeline
		}
	}
	return h.Timeline
}

// Bytes returns the file as PostgreSQL writes it (writeTimeLineHistory): a line per entry, and an
// empty line before each but the first, because the file of a new timeline begins as a copy of
// its parent's. [ParseHistory] returns an equal History if each reason is one line without space around it.
func (h History) Bytes() []byte {
	var b []byte
	for i, e := range h.Entries {
		if i > 0 {
			b = append(b, '\n')
		}
		b = fmt.Appendf(b, "%d\t%s\t%s\n", e.Timeline, e.End, e.Reason)
	}
	return b
}
