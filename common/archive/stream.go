package archive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"walkeep/common/storage"
	"walkeep/common/wal"
)

// A Stream is what the supervisor that streams a server's WAL into partial/ knows of it. Its note is replaced about once a
// second, so what lies in partial/ may be newer.
type Stream struct {
	ID       string       `json:"-"` // names its note
	Host     string       `json:"host"`
	Slot     string       `json:"slot"`
	Timeline wal.Timeline `json:"timeline"`
	Flushed  wal.LSN      `json:"flushed"` // durable here up to this position
	Sent     wal.LSN      `json:"sent"`    // the server had written up to this position when it was last heard
	Heard    time.Time    `json:"heard"`   // by this host's clock; zero if it never was
	// Synchronous: a commit that waits for this stream is durable here before its client hears of it.
	Synchronous bool   `json:"synchronous"`
	Ended       bool   `json:"ended"` // it was stopped in order
	Trouble     string `json:"trouble,omitempty"`
}

// NoteStream records how a stream is doing.
func (a *Archive) NoteStream(ctx context.Context, s Stream) error {
	b, ok := a.b.(storage.Replacer)
	if !ok {
		return errors.New("this archive keeps no notes of streams")
	}
	content, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return b.Replace(ctx, streamName(s.Slot), append(content, '\n'))
}

func streamName(slot string) string { return "streams/" + slot + ".json" }

// Streams reads the notes of all streams.
func (a *Archive) Streams(ctx context.Context) ([]Stream, error) {
	var inv Inventory
	err := a.takeStreams(ctx, &inv)
	return inv.Streams, err
}

func (a *Archive) takeStreams(ctx context.Context, inv *Inventory) error {
	return readNotes(ctx, a, inv, "streams/", func(name string, s Stream) error {
		if streamName(s.Slot) != name {
			return fmt.Errorf("%w: it is that of slot %q", ErrDamaged, s.Slot)
		}
		s.ID = strings.TrimSuffix(path.Base(name), ".json")
		inv.Streams = append(inv.Streams, s)
		return nil
	})
}

// LastSegment finds the highest complete segment of a timeline whose number is below limit; false if there is none.
func (a *Archive) LastSegment(ctx context.Context, tli wal.Timeline, size wal.SegmentSize, limit uint64) (wal.Name, bool, error) {
	var last wal.Name
	found := false
	dirs, err := a.b.List(ctx, "wal/"+tli.String())
	if err != nil {
		return last, false, err
	}
	for i := len(dirs) - 1; i >= 0 && !found; i-- {
		if !dirs[i].IsDir() {
			continue
		}
		files, err := a.b.List(ctx, dirs[i].Name)
		if err != nil {
			return last, false, err
		}
		for _, f := range files {
			n, ok := nameOf(f)
			if !ok || n.Kind != wal.KindSegment {
				continue
			}
			if number, err := n.Number(size); err == nil && number < limit {
				last, found = n, true // listings are in the order of names
			}
		}
	}
	return last, found, nil
}
