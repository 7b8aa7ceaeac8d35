package promote

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"time"

	"walkeep/common/archive"
	"walkeep/common/notes"
	"walkeep/common/wal"
)

// A server that Run cannot reach leaves traces in the archive: streams hear it, and more WAL of its timeline arrives. Run
// compares two readings of one trace, never two clocks.

const (
	// noted is how long a running stream may take to replace its note. It replaces it about once a second.
	noted = fenceTimeout
	// hearing is the time within which a stream hears a living server twice: the stream asks for an answer every five
	// seconds.
	hearing = 12 * time.Second
)

// A listener is a stream that may still hear the old primary.
type listener struct {
	note    notes.Stream
	file    os.FileInfo // the note's
	changed time.Time   // when listen last saw the note replaced
	moved   int         // how often listen saw that the stream had heard the server again
}

// checkStreams fails if a stream of the archive hears an open server. A stream may note later what it heard before its
// last note, so it must be seen to hear twice. A stream that reads from a standby counts only if it has more WAL than
// the standby that is promoted and still receives more: then a living server feeds that other standby.
func (p *promoter) checkStreams(ctx context.Context) error {
	begun := time.Now()
	watched, err := p.listen(ctx, nil)
	if len(watched) > 0 {
		p.Step("a stream of the archive may still receive from the old primary: waiting until this is known")
	}
	for err == nil && len(watched) > 0 {
		for id, w := range watched {
			switch {
			case w.moved >= 2 && w.note.FromStandby:
				return fmt.Errorf("%w: stream %s (on %s) continues, to %s, beyond what this standby has: a server feeds the standby that it reads from",
					ErrUnchecked, w.note.Slot, w.note.Host, w.note.Sent)
			case w.moved >= 2:
				return fmt.Errorf("%w: stream %s (on %s) receives from it, last at %s", ErrPrimaryLives, w.note.Slot, w.note.Host, w.note.Heard.Format(time.RFC3339))
			case time.Since(w.changed) > noted, // no stream replaces it
				w.note.FromStandby && time.Since(begun) > noted:
				delete(watched, id)
			case time.Since(begun) > hearing:
				p.Warn(seeThatItIsDown, fmt.Sprintf("stream %s (on %s) is connected to its server and receives nothing: the server hangs or cannot be reached", w.note.Slot, w.note.Host))
				delete(watched, id)
			}
		}
		if sleep(ctx) != nil {
			return fmt.Errorf("%w: a stream of the archive may receive from it: %w", ErrUnchecked, ctx.Err())
		}
		watched, err = p.listen(ctx, watched)
	}
	return err
}

// listen reads the notes of the streams that may hear the old primary, and compares them with what they were: those of all
// streams if before is nil, else of the ones in it that still may.
func (p *promoter) listen(ctx context.Context, before map[string]*listener) (map[string]*listener, error) {
	streams, _, err := p.a.Notes().Streams(ctx)
	after := make(map[string]*listener)
	for _, s := range streams {
		w := before[s.ID]
		if !p.mayHear(s) || w == nil && before != nil {
			continue
		}
		file, err := os.Stat(filepath.Join(p.Spool.Dir, notes.StreamName(s.Slot)))
		if w == nil {
			w = &listener{note: s, file: file, changed: time.Now()}
		}
		if err == nil && (w.file == nil || !os.SameFile(file, w.file) || !file.ModTime().Equal(w.file.ModTime())) {
			w.file, w.changed = file, time.Now()
		}
		if s.FromStandby && s.Sent > w.note.Sent || !s.FromStandby && s.Heard.After(w.note.Heard) {
			w.moved++
		}
		w.note = s
		after[s.ID] = w
	}
	return after, err
}

// mayHear reports whether, according to its note, a stream is connected to an open server that the standby may have
// followed, or to another standby that has more WAL than this one.
func (p *promoter) mayHear(s notes.Stream) bool {
	return !s.Ended && (!s.FromStandby || s.Sent > p.trace.has) && s.Trouble == s.Unstored && !s.Heard.IsZero() && s.Timeline >= p.trace.timeline
}

// A trace is how far the WAL of the standby's timeline went when the promotion began.
type trace struct {
	timeline wal.Timeline // 0 if the standby does not report it
	end      wal.LSN      // of the last segment that the archive held, or of which a part was streamed
	has      wal.LSN      // what the standby had received or replayed
}

// takeTrace records how far the WAL of the standby's timeline goes.
func (p *promoter) takeTrace(ctx context.Context) error {
	s, err := p.replayed(ctx)
	if err != nil {
		return err
	}
	along, err := p.c.RecoversAlong(ctx)
	if err != nil {
		return err
	}
	p.trace = trace{timeline: max(s.Timeline, along), has: max(s.Received, s.Replayed)}
	archived, err := p.archivedTo(ctx)
	if err != nil {
		return err
	}
	if s.Received != 0 && archived > s.Received && (s.Streaming == nil || !*s.Streaming) {
		p.Warn(seeThatItIsDown, fmt.Sprintf("the archive has WAL up to %s, and the standby's stream ended at %s: another server than the one the standby streamed from may have written that",
			archived, s.Received))
	}
	p.trace.end = max(archived, p.streamedTo(ctx))
	return nil
}

// archivedTo returns the end of the last complete segment of the standby's timeline in the archive.
func (p *promoter) archivedTo(ctx context.Context) (wal.LSN, error) {
	n, there, err := p.a.LastSegment(ctx, p.trace.timeline, p.info.SegmentSize, ^uint64(0))
	if err != nil || !there {
		return 0, err
	}
	start, err := n.Start(p.info.SegmentSize)
	return start + wal.LSN(p.info.SegmentSize), err
}

// streamedTo returns the end of the last segment of the standby's timeline that is in partial/ in whole or in part.
func (p *promoter) streamedTo(ctx context.Context) (end wal.LSN) {
	entries, _ := p.a.List(ctx, archive.PartialDir) // nothing was streamed where it cannot be read
	for _, e := range entries {
		n, err := wal.ParseName(path.Base(e.Name))
		if err != nil || n.Kind != wal.KindSegment && n.Kind != wal.KindPartial || n.Timeline != p.trace.timeline {
			continue
		}
		if start, err := n.Segment().Start(p.info.SegmentSize); err == nil {
			end = max(end, start+wal.LSN(p.info.SegmentSize))
		}
	}
	return end
}

// checkTrace fails if the archive received, since the promotion began, WAL of the standby's timeline that neither the
// standby nor a stream had received. It must be called before WAL that only the standby has is stored.
func (p *promoter) checkTrace(ctx context.Context) error {
	s, err := p.replayed(ctx)
	if err != nil {
		return err
	}
	archived, err := p.archivedTo(ctx)
	if err != nil {
		return err
	}
	if had := max(p.trace.end, s.Received); archived > had { // it replays what comes
		return fmt.Errorf("%w: since the promotion began, the archive has received WAL of timeline %d from %s to %s, which another server has written",
			ErrUnchecked, p.trace.timeline, had, archived)
	}
	return nil
}
