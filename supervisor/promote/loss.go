package promote

import (
	"context"
	"time"

	"walkeep/common/archive"
	"walkeep/common/codec"
	"walkeep/common/wal"
)

// A Loss describes the WAL that the old primary wrote and the standby did not replay, as far as it is known.
type Loss struct {
	// Streamed is set if a stream followed the old timeline. The fields below are what the stream knew.
	Streamed bool
	// Synchronous: a commit that waited for the stream was durable in it before its client heard of it.
	Synchronous bool
	// Written is up to where the old primary is known to have written, at Heard.
	Written wal.LSN
	Heard   time.Time
	// Bytes is how many bytes the old primary is known to have written behind the end of the server's replay.
	Bytes int64
	// Kept is up to where the archive has whole records; those behind the server's own end were not replayed. Some of
	// them may have been confirmed to clients.
	Kept wal.LSN
}

// loss computes the loss from the notes of streams of the timeline that was left.
func (p *promoter) loss() Loss {
	var l Loss
	for _, s := range p.inv.Streams {
		if s.Timeline >= p.done.Timeline || s.Heard.IsZero() || l.Streamed && s.Sent < l.Written {
			continue // it follows the new timeline already, or knows less
		}
		l = Loss{Streamed: true, Synchronous: s.Synchronous, Written: s.Sent, Heard: s.Heard}
	}
	l.Kept = p.kept
	l.Written = max(l.Written, p.kept) // notes may be older than what lies there
	if (l.Streamed || l.Kept > p.done.End) && l.Written > p.done.End {
		l.Bytes = int64(l.Written - p.done.End)
	}
	return l
}

// findKept finds the end of the last whole record that there is for the standby, wherever there are holes before it.
func (p *promoter) findKept(ctx context.Context, goal wal.Timeline) {
	if l := p.inv.Line(goal); l != nil && len(l.Segments) > 0 {
		last := wal.SegmentAt(goal, wal.LSN(l.Segments[len(l.Segments)-1].Last*uint64(p.inv.SegmentSize)), p.inv.SegmentSize)
		if t, err := p.a.Trailer(ctx, last); err == nil && t.WALCheck == codec.Intact {
			p.kept = wal.LSN(t.End)
		}
	}
	for _, e := range p.inv.Streamed {
		n, ok := archive.StreamedOf(e)
		if !ok {
			continue
		}
		number, err := n.Number(p.inv.SegmentSize)
		if err != nil {
			continue
		}
		if found, err := p.inv.StreamedOn(ctx, goal, number); err == nil { // offer warns of a part that cannot be used
			p.kept = max(p.kept, found.End)
		}
	}
}
