package receive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"strings"
	"time"

	"walkeep/common/sealed"
	"walkeep/common/wal"
)

const (
	// keepInterval is how often the keeper looks by itself.
	keepInterval = time.Second
	// patience is how long the server's own archiver has to store a segment before the stream stores it: compressing it
	// twice would be a waste. Until then restore-cmd reports the segment as missing; restore-cmd itself retries no
	// longer than its retry-time.
	patience = 3 * time.Second
)

// keep stores complete segments in the archive and replaces the stream's note, until ctx ends. A segment that cannot be stored
// stays in partial/, and does not stop the stream.
func (r *receiver) keep(ctx context.Context) {
	tick := time.NewTicker(keepInterval)
	defer tick.Stop()
	said := ""
	seen := make(map[string]time.Time) // when a segment was first seen to be complete
	var looked look
	for {
		r.mu.Lock()
		archiving := r.archiving
		r.mu.Unlock()
		err := r.Spool.StoreComplete(ctx, func(segment string) bool {
			if _, ok := seen[segment]; !ok {
				seen[segment] = time.Now()
			}
			return archiving && time.Since(seen[segment]) < patience
		})
		maps.DeleteFunc(seen, func(segment string, _ time.Time) bool {
			_, err := os.Lstat(r.Spool.Partial(segment))
			return errors.Is(err, fs.ErrNotExist)
		})
		if err == nil {
			err = r.dropSuperseded(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		first, trouble := inShort(err)
		if first != "" && first != said { // a failure that persists is reported once
			r.Log.Error("a streamed segment cannot be archived; it stays in partial/", "error", trouble)
		}
		said = first
		r.mu.Lock()
		r.trouble = trouble
		r.mu.Unlock()
		r.note(ctx)
		r.noteServer(ctx, &looked)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-r.wake:
		}
	}
}

// inShort returns the text of the first of several joined errors, and the same text with the number of the others.
func inShort(err error) (first, text string) {
	if err == nil {
		return "", ""
	}
	first, rest, more := strings.Cut(err.Error(), "\n")
	if !more {
		return first, first
	}
	return first, fmt.Sprintf("%s; and %d more", first, strings.Count(rest, "\n")+1)
}

// dropSuperseded removes the partial segments whose bytes the archive holds in full: it has the complete segment, or
// the segment of a later timeline that begins behind the end of the partial one.
func (r *receiver) dropSuperseded(ctx context.Context) error {
	entries, err := r.Spool.ListPartial()
	if err != nil {
		return err
	}
	r.mu.Lock()
	w, at := r.way, r.state.Flushed
	r.mu.Unlock()
	if w.size == 0 {
		return nil // nothing is known of the server yet
	}
	for _, e := range entries {
		n, err := wal.ParseName(e.Name())
		if err != nil || n.Kind != wal.KindPartial {
			continue
		}
		start, err := n.Start(wal.SegmentSize(w.size))
		if err != nil || start+wal.LSN(w.size) > at {
			continue // it is being written, or comes later
		}
		in, err := r.holder(ctx, r.Spool.Partial(e.Name()), n, start, w)
		if err != nil {
			return err
		}
		if in == (wal.Name{}) {
			continue
		}
		aside, err := r.Spool.DropPartial(ctx, n, in)
		if errors.Is(err, sealed.ErrNoKey) {
			r.Log.Warn("what was streamed cannot be compared with the encrypted segment in the archive, and is kept: remove it if the server has not lost anything",
				"file", r.Spool.Partial(e.Name()), "archived", in.String())
			continue
		}
		if err != nil {
			return err
		}
		if aside != "" {
			r.Log.Error("what was streamed differs from what is archived, and is kept as it is", "file", aside, "archived", in.String())
		}
	}
	return nil
}

// holder returns the archived segment that holds all bytes of a partial one; an empty name if there is none.
func (r *receiver) holder(ctx context.Context, path string, n wal.Name, start wal.LSN, w way) (wal.Name, error) {
	full := n.Segment()
	if there, err := r.a.HasName(ctx, full); err != nil || there {
		return full, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return wal.Name{}, err
	}
	for _, e := range w.lineage.Entries {
		if e.Timeline != n.Timeline || start+wal.LSN(info.Size()) > e.End {
			continue
		}
		later := w.name(uint64(start) / w.size)
		if there, err := r.a.HasName(ctx, later); err != nil || there {
			return later, err
		}
	}
	return wal.Name{}, nil
}
