package ship

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"time"

	"walkeep/common/archive"
	"walkeep/common/durable"
	"walkeep/common/wal"
	"walkeep/supervisor/spool"
)

// Pieces say how the segment that is being written is shipped, as far as it was streamed into the spool.
type Pieces struct {
	Interval time.Duration       // 0: never
	Store    archive.PushOptions // how pieces are compressed, and for whom they are encrypted
}

// A tail is the segment that is being written, in the spool.
type tail struct {
	segment wal.Name
	length  int64 // of the file, bytes
}

// walkShare is how much longer than the walk of the streamed segment the time to the next one is, at least.
const walkShare = 50

// A sent is how far a repository has the tail. The queue's goroutine that ships WAL uses it; tail and at are guarded by the mutex.
type sent struct {
	segment wal.Name
	to      int64     // bytes of the segment that pieces make up
	due     time.Time // when the next piece is
	failed  bool      // no pieces of this segment can be stored

	tail tail      // as it was when all of its whole records were sent
	at   time.Time // when that was
}

// lookAtTail finds the segment that is being written; an empty one if nothing is streamed. Of several it is the last one by
// timeline and number.
func (s *shipper) lookAtTail() (tail, error) {
	entries, err := s.Spool.ListPartial()
	if err != nil {
		return tail{}, err
	}
	var last tail
	for _, e := range slices.Backward(entries) { // in the order of names, which is that of timelines and numbers
		n, err := wal.ParseName(e.Name())
		if err != nil || n.Kind != wal.KindPartial {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) { // it was completed meanwhile
			continue
		}
		if err == nil {
			last = tail{n.Segment(), info.Size()}
		}
		return last, err
	}
	return last, nil
}

// shipPiece ships what was streamed since the last time, if that is due. It returns how long nothing is due.
func (q *queue) shipPiece(ctx context.Context) (rest time.Duration, err error) {
	p := q.s.Pieces
	if p.Interval == 0 {
		return q.s.Pace.Ping, nil
	}
	if rest := time.Until(q.sent.due); rest > 0 {
		return rest, nil
	}
	began := time.Now()
	q.sent.due = began.Add(p.Interval)
	t, err := q.s.lookAtTail()
	if err != nil || t.segment == (wal.Name{}) {
		return p.Interval, err
	}
	if t.segment != q.sent.segment {
		if err := q.beginTail(ctx, t.segment); err != nil {
			return 0, err
		}
	}
	if q.sent.failed || t == q.sent.tail {
		q.sentAll(t, began)
		return p.Interval, nil
	}
	path := q.s.Spool.Partial(t.segment.String() + ".partial")
	proven, err := provenLength(path, t.segment)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, archive.ErrNotWAL) {
		return p.Interval, nil
	}
	for err == nil && q.sent.to < proven {
		err = q.putPiece(ctx, path, min(proven-q.sent.to, archive.MaxPiece))
	}
	if errors.Is(err, archive.ErrConflict) {
		q.s.Log.Warn("the segment that is being written is not shipped in pieces: the repository has others", "repository", q.Name, "segment", t.segment.String(), "error", err.Error())
		q.sent.failed, err = true, nil
	} else if err == nil {
		q.sentAll(t, began)
	}
	q.sent.due = began.Add(max(p.Interval, walkShare*time.Since(began)))
	return time.Until(q.sent.due), err
}

func (q *queue) sentAll(t tail, at time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.sent.failed {
		q.sent.tail, q.sent.at = t, at
	}
}

// beginTail continues behind the pieces of a segment that an earlier process has stored. Only a process that begins looks for
// them.
func (q *queue) beginTail(ctx context.Context, segment wal.Name) error {
	var to int64
	if q.sent.segment == (wal.Name{}) {
		err := q.call(ctx, 0, func(ctx context.Context, a *archive.Archive) error {
			n, err := a.Pieces(ctx, segment)
			if err == nil {
				to = n
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	q.sent.segment, q.sent.to, q.sent.failed = segment, to, false
	return nil
}

// provenLength makes a streamed file durable, and returns how many of its bytes are whole records.
func provenLength(path string, segment wal.Name) (int64, error) {
	if err := durable.SyncFile(path); err != nil { // or this host could lose what the repository has
		return 0, err
	}
	f, err := durable.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	_, proven, err := spool.Lengths(f, segment)
	return proven, err
}

// putPiece stores the next bytes of a streamed file as a piece.
func (q *queue) putPiece(ctx context.Context, path string, length int64) error {
	f, err := durable.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	plain := make([]byte, length)
	if _, err := io.ReadFull(io.NewSectionReader(f, q.sent.to, length), plain); err != nil {
		return err
	}
	o := q.s.Pieces.Store
	o.SystemID = q.s.id.SystemID
	err = q.call(ctx, length, func(ctx context.Context, a *archive.Archive) error {
		return a.PutPiece(ctx, o, archive.Piece{Segment: q.sent.segment, Offset: q.sent.to}, plain)
	})
	if err == nil {
		q.sent.to += length
	}
	return err
}
