package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"walkeep/common/backup"
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

// Lacks reports whether it still matters that a stream has skipped WAL: segments of it are missing in the archive, and no
// backup that can be restored begins behind it.
func (inv *Inventory) Lacks(s Skip) bool {
	behind := func(b *backup.Manifest) bool {
		if b.Start < s.To {
			return false
		}
		_, err := inv.Restorable(b)
		return err == nil
	}
	w, err := inv.way(s.Timeline)
	if err != nil {
		return !slices.ContainsFunc(inv.Backups, behind)
	}
	first, size := uint64(s.From)/uint64(inv.SegmentSize), uint64(inv.SegmentSize)
	return wal.LSN(w.contiguous(first)*size) < s.To && !slices.ContainsFunc(inv.Backups, behind)
}

// NoteStream records how a stream is doing.
func (a *Archive) NoteStream(ctx context.Context, s Stream) error {
	return a.replaceNote(ctx, StreamNote(s.Slot), s)
}

// StreamNote is where the note of a stream is.
func StreamNote(slot string) string { return "streams/" + slot + ".json" }

// Streams reads the notes of all streams.
func (a *Archive) Streams(ctx context.Context) ([]Stream, error) {
	var inv Inventory
	err := a.takeStreams(ctx, &inv)
	return inv.Streams, err
}

func (a *Archive) takeStreams(ctx context.Context, inv *Inventory) error {
	err := readNotes(ctx, a, inv, "streams/", func(name string, s Stream) error {
		if StreamNote(s.Slot) != name {
			return fmt.Errorf("%w: it is that of slot %q", ErrDamaged, s.Slot)
		}
		s.ID = strings.TrimSuffix(path.Base(name), ".json")
		inv.Streams = append(inv.Streams, s)
		return nil
	})
	if err == nil {
		err = inv.cannotRead("streams/") // it may show that WAL is missing
	}
	return err
}

// partialDir is the directory of what is streamed.
const partialDir = "partial/"

// StreamedObject is where the part of a segment is that was streamed so far.
func StreamedObject(segment wal.Name) string {
	return partialDir + segment.Segment().String() + ".partial"
}

// Streamed walks the records of the part of a segment that was streamed so far, and gives its length; storage.ErrNotExist if there
// is none, [ErrNotWAL] if it is no such part, [ErrForeign] if it is another cluster's. Where it holds nothing but the rest of a record
// that began in the segment before, that counts as whole, although it was not checked: replay will. Last is zero then.
func (a *Archive) Streamed(ctx context.Context, segment wal.Name) (found wal.Result, length int64, err error) {
	return a.streamedTo(ctx, segment, ^wal.LSN(0))
}

// A Part is what was streamed of a segment that is not complete.
type Part struct {
	wal.Result
	Source string // the object in partial/
	Length int64  // its bytes that count
}

// StreamedOn finds what was streamed of the segment with a number on the way to a timeline: of the timelines that have a
// part in that segment, what goes farthest, and nothing of a timeline behind the point where it was left. Errors are those
// of Streamed for the timeline itself, if no other one helps.
func (a *Archive) StreamedOn(ctx context.Context, inv *Inventory, tli wal.Timeline, number uint64) (Part, error) {
	size := uint64(inv.SegmentSize)
	steps := []step{{tli: tli, end: ^wal.LSN(0)}}
	if w, err := inv.way(tli); err == nil { // else nothing of it is archived yet
		steps = w.steps
	}
	var best Part
	var failed error
	for i, s := range slices.Backward(steps) {
		if s.end <= wal.LSN(number*size) || uint64(s.begin) >= (number+1)*size {
			continue
		}
		n := wal.SegmentAt(s.tli, wal.LSN(number*size), inv.SegmentSize)
		found, length, err := a.streamedTo(ctx, n, s.end)
		switch {
		case err == nil && found.End > best.End:
			best = Part{found, StreamedObject(n), length}
		case err != nil && i == len(steps)-1:
			failed = err
		case err != nil && !errors.Is(err, storage.ErrNotExist) && errors.Is(failed, storage.ErrNotExist):
			failed = err
		}
	}
	if best.Source != "" {
		return best, nil
	}
	return best, failed
}

// streamedTo is Streamed for what lies before a position.
func (a *Archive) streamedTo(ctx context.Context, segment wal.Name, end wal.LSN) (found wal.Result, length int64, err error) {
	o, err := a.b.Open(ctx, StreamedObject(segment))
	if err != nil {
		return found, 0, err
	}
	defer o.Close()
	length = o.Size()
	if id, err := a.Identity(ctx); err == nil {
		if start, err := segment.Segment().Start(id.SegmentSize); err == nil && end > start {
			length = min(length, int64(min(end-start, wal.LSN(id.SegmentSize))))
		}
	}
	found, err = WalkStreamed(o, length, segment)
	if err != nil || found.Header == (wal.Header{}) { // too short to say anything
		return found, length, err
	}
	id, err := a.Identity(ctx)
	if err == nil && id.SystemID != found.Header.SystemID {
		err = fmt.Errorf("it is %w: its system identifier is %s, that of the archive %s", ErrForeign, found.Header.SystemID, id.SystemID)
	}
	if err != nil || found.Records > 0 {
		return found, length, err
	}
	if rest := found.Header.Continued(); rest <= length {
		found.End = max(found.End, found.Start+wal.LSN(rest))
	}
	return found, length, nil
}

// WalkStreamed walks the records of a part of a segment, of this many bytes; [ErrNotWAL] if it is none. Where its end is
// not that of a record, what follows the last whole one may be anything.
func WalkStreamed(r io.ReaderAt, size int64, segment wal.Name) (wal.Result, error) {
	if size < wal.HeaderSize {
		return wal.Result{}, nil
	}
	var w wal.Walker
	partial := segment.Segment()
	partial.Kind = wal.KindPartial
	w.Reset(partial)
	if _, err := io.Copy(&w, io.NewSectionReader(r, 0, size)); err != nil {
		return wal.Result{}, err
	}
	found := w.Finish()
	if found.HeaderErr != nil && !errors.Is(found.HeaderErr, wal.ErrSize) {
		return found, fmt.Errorf("%w: %w", ErrNotWAL, found.HeaderErr)
	}
	return found, nil
}

// LastSegment finds the highest complete segment of a timeline whose number is below limit; false if there is none.
func (a *Archive) LastSegment(ctx context.Context, tli wal.Timeline, size wal.SegmentSize, limit uint64) (wal.Name, bool, error) {
	var last wal.Name
	found := false
	dirs, err := a.logDirs(ctx, tli)
	if err != nil {
		return last, false, err
	}
	for i := len(dirs) - 1; i >= 0 && !found; i-- {
		files, err := storage.ListAll(ctx, a.b, dirs[i].Name)
		if err != nil {
			return last, false, err
		}
		for _, f := range files {
			n, s, ok := parseObject(f)
			if !ok || s.bad != nil || n.Kind != wal.KindSegment {
				continue
			}
			if number, err := n.Number(size); err == nil && number < limit {
				last, found = n, true // listings are in the order of names
			}
		}
	}
	return last, found, nil
}
