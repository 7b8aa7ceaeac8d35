package verify

import (
	"fmt"

	"walkeep/common/wal"
)

// newer collects the segments of one unknown version of PostgreSQL.
type newer struct {
	first     string // object
	text      string // a description
	segments  int
	unchecked string // the first thing that could not be checked
}

// noteNewer counts a segment of an unknown version: one problem is reported for all of them.
func (v *verifier) noteNewer(object string, found wal.Result) {
	if !found.Header.Newer() {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.newer == nil {
		v.newer = make(map[uint16]*newer)
	}
	n := v.newer[found.Header.Magic]
	if n == nil {
		n = &newer{first: object, text: found.Header.NewerText()}
		v.newer[found.Header.Magic] = n
	}
	n.segments++
	n.first = min(n.first, object)
	if found.Unchecked != nil && n.unchecked == "" {
		n.unchecked = fmt.Sprintf("; not checked is, in %s, the %s", object, found.Unchecked)
	}
}

func (v *verifier) reportNewer() {
	for _, n := range v.newer {
		more := ""
		if n.segments > 1 {
			more = fmt.Sprintf(", as are %d more objects", n.segments-1)
		}
		v.problem(Problem{Severity: Unchecked, Object: n.first, Text: n.text + more + n.unchecked})
	}
}
