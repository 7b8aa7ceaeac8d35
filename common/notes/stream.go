package notes

import (
	"context"
	"errors"
	"fmt"
	"time"
	"walkeep/common/codec"
	"walkeep/common/wal"
)

// A Stream is the state of a stream, recorded by the supervisor that streams a server's WAL into partial/. The note is
// replaced about once a second, so that partial/ may hold more.
type Stream struct {
	ID       string       `json:"-"` // names its note
	Host     string       `json:"host"`
	Slot     string       `json:"slot"`
	Timeline wal.Timeline `json:"timeline"`
	Flushed  wal.LSN      `json:"flushed"` // durable here up to this position
	Sent     wal.LSN      `json:"sent"`    // the server had written up to this position when it was last heard
	Heard    time.Time    `json:"heard"`   // by this host's clock; zero if it never was
	// Synchronous: a commit that waits for this stream is durable here before its client hears of it.
	Synchronous bool `json:"synchronous"`
	Ended       bool `json:"ended"` // it was stopped in order
	// FromStandby: the server that it streams from was a standby when the stream was begun last.
	FromStandby bool   `json:"from_standby,omitempty"`
	Trouble     string `json:"trouble,omitempty"`
	// Unstored says why segments that were streamed to their ends cannot be stored; it is part of Trouble, too.
	Unstored string `json:"unstored,omitempty"`
	// Skipped is the WAL that the server did not have any more before it was streamed, and that the archive lacks.
	Skipped []Skip `json:"skipped,omitempty"`
}

// A Skip is WAL on the way to a timeline that a stream could not have, because the server had removed it.
type Skip struct {
	Timeline wal.Timeline `json:"timeline"`
	From     wal.LSN      `json:"from"`
	To       wal.LSN      `json:"to"` // the beginning of a segment
}

func (s Skip) String() string {
	return fmt.Sprintf("WAL of timeline %d from %s to %s", s.Timeline, s.From, s.To)
}

// NoteStream records how a stream is doing.
func (n Notes) NoteStream(ctx context.Context, s Stream) error {
	return n.replace(ctx, StreamName(s.Slot), s)
}

// StreamName is the name of the note of a stream.
func StreamName(slot string) string { return streamsDir + slot + ".json" }

const streamsDir = "streams/"

// Streams reads the notes of all streams. One that is there and cannot be read is an error, because it may show that WAL is
// missing.
func (n Notes) Streams(ctx context.Context) ([]Stream, []Fault, error) {
	all, faults, err := collect(ctx, n, streamsDir, func(name string, s *Stream) error {
		if StreamName(s.Slot) != name {
			return fmt.Errorf("%w: it is that of slot %q", codec.ErrDamaged, s.Slot)
		}
		s.ID = id(name)
		return nil
	})
	for _, f := range faults {
		if err == nil && errors.Is(f, ErrUnread) {
			err = f
		}
	}
	return all, faults, err
}
