package promote

import (
	"time"

	"walkeep/common/wal"
)

// A Loss is what is known of WAL that the old primary wrote and that was not replayed.
type Loss struct {
	// Streamed: a stream followed the old timeline, and what follows is what it knew.
	Streamed bool
	// Synchronous: a commit that waited for the stream was durable in it before its client heard of it.
	Synchronous bool
	// Written is up to where the old primary is known to have written, at Heard.
	Written wal.LSN
	Heard   time.Time
	// Bytes that are known to have been written and are not there.
	Bytes int64
}

// loss is what streams have noted of the timeline that was left.
func (p *promoter) loss() Loss {
	var l Loss
	for _, s := range p.streams {
		if s.Timeline >= p.done.Timeline || s.Heard.IsZero() || l.Streamed && s.Sent < l.Written {
			continue // it follows the new timeline already, or knows less
		}
		l = Loss{Streamed: true, Synchronous: s.Synchronous, Written: s.Sent, Heard: s.Heard}
	}
	l.Written = max(l.Written, p.received) // notes may be older than what lies there
	if l.Streamed && l.Written > p.done.End {
		l.Bytes = int64(l.Written - p.done.End)
	}
	return l
}
