package archive

import (
	"context"
	"errors"
	"fmt"
	"io"

	"walkeep/common/storage"
	"walkeep/common/wal"
)

// StreamedObject is where the part of a segment is that was streamed so far. In a repository it is in pieces; see [PieceDir].
func StreamedObject(segment wal.Name) string {
	return PartialDir + segment.Segment().String() + ".partial"
}

// Streamed walks the records of the part of a segment that was streamed so far, and gives its length; storage.ErrNotExist if there
// is none, [ErrNotWAL] if it is no such part, [ErrForeign] if it is another cluster's. Where it holds nothing but the rest of a record
// that began in the segment before, that counts as whole, although it was not checked: replay will. Last is zero then.
func (a *Archive) Streamed(ctx context.Context, segment wal.Name) (found wal.Result, length int64, err error) {
	return a.StreamedTo(ctx, segment, ^wal.LSN(0))
}

// StreamedTo is Streamed for what lies before a position.
func (a *Archive) StreamedTo(ctx context.Context, segment wal.Name, end wal.LSN) (found wal.Result, length int64, err error) {
	o, err := a.OpenStreamed(ctx, segment)
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
	r, err := o.Reader(ctx, 0, length)
	if err != nil {
		return found, length, err
	}
	defer r.Close()
	found, err = WalkStreamed(r, segment)
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

// WalkStreamed reads r to its end and walks the records of this part of a segment. It returns [ErrNotWAL] if r holds something
// else, and an empty result if r is shorter than the segment's header. Bytes behind the last whole record may be anything.
func WalkStreamed(r io.Reader, segment wal.Name) (wal.Result, error) {
	var w wal.Walker
	partial := segment.Segment()
	partial.Kind = wal.KindPartial
	w.Reset(partial)
	if size, err := io.Copy(&w, r); err != nil || size < wal.HeaderSize {
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
	dirs, err := a.LogDirs(ctx, tli)
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
