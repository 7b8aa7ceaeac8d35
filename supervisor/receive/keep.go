package receive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"walkeep/common/archive"
	"walkeep/common/durable"
	"walkeep/common/wal"
)

const (
	// keepInterval is how often the keeper looks by itself.
	keepInterval = time.Second
	// patience is how long a server's own archiver has to store a segment before it is stored from here: compressing it
	// twice would be a waste. Until then restore-cmd takes it for missing, which it does not do for longer by itself than its
	// retry-time.
	patience = 3 * time.Second
	// differing is the ending of what was streamed and is not what the archive holds.
	differing = ".differs"
)

// keep brings complete segments to the archive, and notes how it goes, until ctx ends. A segment that cannot be stored
// stays, and does not stop the stream.
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
		err := storeComplete(ctx, r.a, r.dir, func(segment string) bool {
			if _, ok := seen[segment]; !ok {
				seen[segment] = time.Now()
			}
			return archiving && time.Since(seen[segment]) < patience
		}, r.Store)
		maps.DeleteFunc(seen, func(segment string, _ time.Time) bool {
			_, err := os.Lstat(filepath.Join(r.dir, segment))
			return errors.Is(err, fs.ErrNotExist)
		})
		if err == nil {
			err = r.dropSuperseded(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		first, trouble := inShort(err)
		if first != "" && first != said { // one that stays is reported once
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

// inShort gives the first of the errors that are joined, and the same with how many more there are.
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

// StoreComplete brings the segments to the archive that were streamed to their ends, in their order. spool is the archive's
// directory, and store as in [Options].
func StoreComplete(ctx context.Context, a *archive.Archive, spool string, store func(context.Context, string) error) error {
	return storeComplete(ctx, a, filepath.Join(spool, Dir), func(string) bool { return false }, store)
}

// storeComplete is StoreComplete, for segments that wait does not hold back. No file's time counts: clocks can be wrong.
func storeComplete(ctx context.Context, a *archive.Archive, dir string, wait func(segment string) bool, store func(context.Context, string) error) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(dir); err == nil {
			return fmt.Errorf("the link %s leads nowhere", dir)
		}
		return nil
	}
	if err != nil {
		return err
	}
	var failed error
	for _, e := range entries {
		n, err := wal.ParseName(e.Name())
		if err != nil || n.Kind != wal.KindSegment && n.Kind != wal.KindHistory {
			continue
		}
		// Segments of a timeline are of no use without its history, which does not wait.
		if n.Kind == wal.KindSegment && wait(e.Name()) {
			if there, err := a.HasName(ctx, n); err == nil && !there {
				continue
			}
		}
		if err := storeOne(ctx, filepath.Join(dir, e.Name()), store); err != nil {
			failed = errors.Join(failed, err) // one that is refused must not keep back those behind it
		}
	}
	return failed
}

// storeOne stores one segment, and removes it when the archive holds it.
func storeOne(ctx context.Context, path string, store func(context.Context, string) error) error {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil // another one was quicker
	}
	if err := store(ctx, path); err != nil { // which compares what is there already
		if _, gone := os.Lstat(path); errors.Is(gone, fs.ErrNotExist) {
			return nil // a promotion and a stream both store, and the other one was quicker
		}
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// dropSuperseded removes the partial segments of which the archive holds all: it has the complete segment, or that of a
// later timeline, which goes on from behind the partial one's end.
func (r *receiver) dropSuperseded(ctx context.Context) error {
	entries, err := os.ReadDir(r.dir)
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
		path := filepath.Join(r.dir, e.Name())
		in, err := r.holder(ctx, path, n, start, w)
		if err != nil {
			return err
		}
		if in == (wal.Name{}) {
			continue
		}
		same, err := contains(ctx, r.a, in, path)
		if err != nil {
			return err
		}
		if same {
			err = os.Remove(path)
		} else {
			aside := fmt.Sprintf("%s%s-%d", path, differing, time.Now().UnixNano())
			r.Log.Error("what was streamed differs from what is archived, and is kept as it is", "file", aside, "archived", in.String())
			err = durable.Replace(path, aside)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// holder is the archived segment that holds all bytes of a partial one; no name if there is none.
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

// contains tells whether an archived segment begins with what a partial one holds: its whole records, for what follows them
// may be anything after a power cut.
func contains(ctx context.Context, a *archive.Archive, n wal.Name, path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	partial, err := wal.ParseName(filepath.Base(path))
	if err != nil {
		return false, err
	}
	_, proven, err := lengths(f, partial)
	if err != nil {
		if errors.Is(err, archive.ErrNotWAL) {
			return false, nil
		}
		return false, err
	}
	c := archive.NewComparison(f)
	if _, err := a.Fetch(ctx, n, 0, c); err != nil {
		return false, err
	}
	first, differs, err := c.Result()
	return !differs || first >= proven, err
}
