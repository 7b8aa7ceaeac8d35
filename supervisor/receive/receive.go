// Package receive streams the WAL that a server writes into the archive, over the replication protocol. It receives a segment
// while the server writes it, so that a lost server loses at most the WAL written since the last fsync here.
//
// # What lies in partial/
//
// The segment that is being written is partial/NAME.partial. Its length is the number of bytes received; bytes are only ever
// appended. A position is reported to the server as flushed after an fsync and never before, so the server may recycle its
// own copy, and a commit that waits for this stream is durable here. At the end of the segment the file is renamed to
// partial/NAME, and is stored in the archive by archive-cmd, even if the server's own archiver has stored it already:
// archive-cmd accepts the same content and refuses another. The file is removed when the archive holds the segment.
//
// When a stream begins again, it reads the records of the last partial segment. Bytes behind the last whole record may be
// what a power failure left, so the stream receives them again, compares them, and replaces those that differ. It never
// truncates them before that, because the server that it is connected to now may not have them.
//
// # Timelines
//
// Where the server changes to another timeline, the stream follows it as recovery would: a segment in which a timeline was
// left is streamed once more, from its beginning, under the new timeline's name. What was streamed of the old timeline
// behind that point exists nowhere else, and stays.
package receive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"

	"walkeep/common/archive"
	"walkeep/common/cli"
	"walkeep/common/durable"
	"walkeep/common/notes"
	"walkeep/common/recovery"
	"walkeep/common/storage"
	"walkeep/common/wal"
	"walkeep/supervisor/pgserver"
	"walkeep/supervisor/replication"
	"walkeep/supervisor/spool"
)

// ErrSlot reports that the slot exists and cannot be used.
var ErrSlot = cli.NewError("the replication slot cannot be used",
	"name another one with --slot; a slot that does not exist is created")

// Options are the parameters of [Run].
type Options struct {
	Conninfo      string
	Slot          string // a physical one; it is made where it is missing
	Spool         *spool.Spool
	FlushInterval time.Duration
	Synchronous   bool // fsync whenever there is nothing more to receive
	Log           *slog.Logger
}

const (
	// statusInterval is how often the stream reports to the server and asks it to answer.
	statusInterval = 5 * time.Second
	// silence is how long a server may send nothing before the connection counts as broken.
	silence = 3 * statusInterval
	// stopTimeout is how long the last report and the end of the stream may take.
	stopTimeout = 2 * time.Second
)

// A receiver streams from one server.
type receiver struct {
	Options
	a *archive.Archive

	// Only the session uses the fields from here to doubtful.

	size wal.SegmentSize
	// skipTo is the number of the segment before which the server has nothing any more.
	skipTo uint64
	slotAt wal.LSN // from where on the server kept WAL for the slot when the session began
	// settled is the segment that was received a second time, because a standby may have sent bytes that it had not
	// received itself.
	settled wal.Name
	// doubtful is a segment whose last fsync failed and that could not be truncated yet. The next session truncates it
	// first.
	doubtful *spool.Segment

	wake chan struct{} // wakes the keeper when there is a file to store

	mu        sync.Mutex
	state     notes.Stream
	trouble   string // the keeper's
	archiving bool   // the server archives by itself
	system    wal.SystemID
	standby   bool // the server was one when the session began
	major     int  // the server's version; 0 before the first session
	way       way  // to the server's timeline
}

// Run streams until ctx ends, and then returns nil. It connects again whenever the connection ends. It returns an error
// only if a retry cannot help: [archive.ErrForeign], [ErrSlot], [spool.ErrStreaming], or a spool that cannot be used at the start.
func Run(ctx context.Context, o Options) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	r := &receiver{
		Options: o, a: o.Spool.Archive, wake: make(chan struct{}, 1),
		state: notes.Stream{Host: host, Slot: o.Slot, Synchronous: o.Synchronous},
	}
	if err := o.Spool.MakePartial(); err != nil {
		return err
	}
	lock, err := o.Spool.LockPartial()
	if err != nil {
		return err
	}
	defer lock.Close()
	if !durable.HasLocks(lock) {
		if err := r.alone(ctx); err != nil {
			return err
		}
	}
	if err := r.remember(ctx); err != nil {
		return err
	}
	keeping, stop := context.WithCancel(ctx)
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		r.keep(keeping)
	}()
	err = r.streamAgain(ctx)
	stop()
	<-kept
	r.update(func(s *notes.Stream) { s.Ended = true })
	r.note(context.WithoutCancel(ctx))
	return err
}

// streamAgain runs sessions, one after the other.
func (r *receiver) streamAgain(ctx context.Context) error {
	pauses := backoff.NewExponentialBackOff(backoff.WithInitialInterval(50*time.Millisecond), backoff.WithMaxInterval(time.Second),
		backoff.WithMultiplier(2), backoff.WithRandomizationFactor(0.1), backoff.WithMaxElapsedTime(0))
	last := ""
	for {
		begun := time.Now()
		streamed, err := r.session(ctx)
		if errors.Is(err, errUnsettled) {
			continue
		}
		streamed = streamed && time.Since(begun) > pauses.MaxInterval // or one that cannot write would be begun again without a pause
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, archive.ErrForeign), errors.Is(err, ErrSlot):
			return err
		case streamed:
			pauses.Reset()
			last = ""
		}
		if text := err.Error(); text != last { // a server that is down is reported once
			r.Log.Warn("the stream has ended, and is begun again", "error", text)
			last = text
		}
		r.update(func(s *notes.Stream) { s.Trouble = wal.ShortLSNs(err.Error()) })
		r.wakeKeeper() // a promotion waits for the note
		select {
		case <-time.After(pauses.NextBackOff()):
		case <-ctx.Done():
			return nil
		}
	}
}

// session streams over one connection. It reports whether it received anything.
func (r *receiver) session(ctx context.Context) (streamed bool, err error) {
	if r.doubtful != nil {
		if err := r.doubtful.CutBack(); err != nil {
			return false, err
		}
		r.doubtful = nil
	}
	c, err := connect(ctx, r.Conninfo)
	if err != nil {
		return false, err
	}
	defer c.Abort()
	id, err := c.IdentifySystem(ctx)
	if err != nil {
		return false, err
	}
	if err := r.a.Bind(ctx, archive.Identity{SystemID: id.ID, SegmentSize: id.SegmentSize}); err != nil {
		return false, err
	}
	if newer := pgserver.Newer(id.Major); newer != "" && id.Major != r.major {
		r.Log.Warn(newer)
	}
	r.major = id.Major
	r.mu.Lock()
	r.size, r.system = id.SegmentSize, id.ID
	r.mu.Unlock()
	lineage, err := r.learn(ctx, c, id.Flushed.Timeline)
	if err != nil {
		return false, err
	}
	slot, err := r.slot(ctx, c)
	if err != nil {
		return false, err
	}
	w := way{lineage, uint64(id.SegmentSize)}
	r.slotAt = slot
	number, err := r.next(ctx, w)
	if err != nil {
		return false, err
	}
	if number == 0 {
		if slot == 0 {
			slot = id.Flushed.LSN
		}
		number = uint64(slot) / w.size
	}
	return r.follow(ctx, c, w, max(number, r.skipTo))
}

// follow streams from the segment with this number on, along the way to the server's timeline and from there to those
// that the server changes to.
func (r *receiver) follow(ctx context.Context, c *replication.Conn, w way, number uint64) (streamed bool, err error) {
	for {
		s, err := r.Spool.OpenSegment(w.name(number), r.size)
		if err != nil {
			return streamed, err
		}
		t := &tail{receiver: r, c: c, s: s}
		end, err := t.stream(ctx)
		streamed = streamed || t.received
		if err == nil {
			err = t.s.Close()
		}
		if err != nil {
			r.abandon(t.s)
		}
		if errors.Is(err, spool.ErrDiffers) { // it may be the only copy of what another server wrote
			return streamed, errors.Join(err, t.s.PutAside("differs"))
		}
		if gone := (*goneError)(nil); errors.As(err, &gone) {
			return streamed, r.skip(ctx, w, gone)
		}
		if err != nil {
			return streamed, err
		}
		lineage, err := r.learn(ctx, c, end.Timeline)
		if err != nil {
			return streamed, err
		}
		r.Log.Info("the server has changed to another timeline", "timeline", end.Timeline, "at", end.LSN.String())
		w.lineage = lineage
		number = uint64(end.LSN) / w.size
	}
}

// learn reads the history of a timeline, and stores it and those of the timelines on the way if the archive lacks them.
func (r *receiver) learn(ctx context.Context, c *replication.Conn, tli wal.Timeline) (wal.History, error) {
	h := wal.History{Timeline: tli}
	for of := tli; of > 1; {
		text, err := c.TimelineHistory(ctx, of)
		if of != tli && replication.HasCode(err, replication.UndefinedFile) {
			break // the server began on a later timeline, and never had it
		}
		if err != nil {
			return h, err
		}
		parsed, err := wal.ParseHistory(of, text)
		if err != nil {
			return h, err
		}
		if of == tli {
			h = parsed
		}
		if err := r.storeHistory(ctx, parsed, text); err != nil {
			return h, err
		}
		of = parsed.Entries[len(parsed.Entries)-1].Timeline
	}
	r.mu.Lock()
	r.way = way{h, uint64(r.size)}
	r.mu.Unlock()
	return h, nil
}

// storeHistory lets the keeper archive a history, if the archive lacks it. A history that the archive has must be the same:
// otherwise the WAL that was streamed of the timeline and the WAL to come would not belong together.
func (r *receiver) storeHistory(ctx context.Context, h wal.History, text []byte) error {
	name := wal.Name{Kind: wal.KindHistory, Timeline: h.Timeline}
	if there, err := r.a.HasName(ctx, name); err == nil && there { // where that is not known, archive-cmd will compare
		archived, err := r.a.History(ctx, h.Timeline)
		if err == nil && !slices.Equal(archived.Entries, h.Entries) {
			err = fmt.Errorf("the server came to its timeline %d in another way than the archive's, which was another server's", h.Timeline)
		}
		return err
	}
	if _, err := r.Spool.WriteHistory(h.Timeline, text); err != nil {
		return err
	}
	r.wakeKeeper()
	return nil
}

func (r *receiver) wakeKeeper() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// abandon leaves a segment after a failure.
func (r *receiver) abandon(s *spool.Segment) {
	if s.Abandon() {
		r.doubtful = s
	}
}

// alone returns [spool.ErrStreaming] if another stream works in a spool without locks; it recognises that by a changed note.
// Two streams that begin at the same time do not see each other.
func (r *receiver) alone(ctx context.Context) error {
	r.Log.Warn("the file system of the spool has no locks: make sure that no other stream writes into it", "spool", r.Spool.Dir)
	before, _, err := r.a.Notes().Streams(ctx)
	if err != nil {
		return err
	}
	if len(before) == 0 {
		return nil
	}
	select {
	case <-time.After(2 * statusInterval): // the server is heard more often, and the note then changes
	case <-ctx.Done():
		return nil
	}
	now, _, err := r.a.Notes().Streams(ctx)
	if err != nil {
		return err
	}
	for _, s := range now {
		at := slices.IndexFunc(before, func(b notes.Stream) bool { return b.Slot == s.Slot })
		if at < 0 || !s.Heard.Equal(before[at].Heard) {
			return fmt.Errorf("%s: %w: that with slot %s on %s", r.Spool.Dir, spool.ErrStreaming, s.Slot, s.Host)
		}
	}
	return nil
}

// remember reads from the stream's own note which WAL it skipped earlier and the archive still lacks.
func (r *receiver) remember(ctx context.Context) error {
	streams, _, err := r.a.Notes().Streams(ctx)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(streams, func(s notes.Stream) bool { return s.Slot == r.Slot })
	if at < 0 || len(streams[at].Skipped) == 0 {
		return nil
	}
	r.state.Skipped = streams[at].Skipped
	if inv, err := recovery.ReadInventory(ctx, r.a); err == nil { // else all of it stays
		r.state.Skipped = slices.DeleteFunc(r.state.Skipped, func(s notes.Skip) bool { return !inv.Lacks(s) })
	}
	return nil
}

// skip makes the next session begin behind WAL that the server no longer has, and logs what is missing.
func (r *receiver) skip(ctx context.Context, w way, gone *goneError) error {
	slot, err := r.keptFrom(ctx, gone)
	if err != nil {
		return errors.Join(gone, err)
	}
	number := uint64(slot) / w.size
	if wal.LSN(number*w.size) <= gone.at {
		return gone
	}
	r.skipTo = number
	skip := notes.Skip{Timeline: w.on(number), From: gone.at, To: wal.LSN(number * w.size)}
	r.update(func(s *notes.Stream) {
		s.Timeline, s.Flushed, s.Sent, s.Heard, s.Ended = skip.Timeline, gone.at, skip.To, time.Now().UTC(), false
		if !slices.Contains(s.Skipped, skip) {
			s.Skipped = append(s.Skipped, skip)
		}
	})
	r.note(ctx) // before anything is streamed that hides it
	return fmt.Errorf("WAL from %s to %s is gone from the server before it was streamed; where its archiver has not stored it, take a new backup: %w",
		gone.at, wal.LSN(number*w.size), gone)
}

func (r *receiver) update(change func(*notes.Stream)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.state)
}

// A look is the newest timeline that the archive was seen to hold. It is noted with what the server reports after it.
type look struct {
	newest wal.Timeline
	at     time.Time
}

// noteServer notes in the archive which timeline the server is on, unless it is a standby.
func (r *receiver) noteServer(ctx context.Context, l *look) {
	r.mu.Lock()
	s := notes.Server{SystemID: r.system, Timeline: r.way.lineage.Timeline, LSN: r.state.Sent, Newest: l.newest}
	heard, standby := r.state.Heard, r.standby
	r.mu.Unlock()
	if s.Timeline == 0 || standby || s.LSN == 0 || !l.at.IsZero() && time.Since(l.at) < statusInterval {
		return
	}
	if !l.at.IsZero() && heard.After(l.at) {
		if err := r.a.Notes().NoteServer(ctx, s); err != nil {
			r.Log.Debug("cannot note what the server says", "error", err.Error())
		}
	}
	if newest, err := r.a.Newest(ctx); err == nil {
		*l = look{newest, time.Now()}
	}
}

// note writes the stream's state into the archive.
func (r *receiver) note(ctx context.Context) {
	r.mu.Lock()
	s := r.state
	if r.trouble != "" {
		s.Trouble, s.Unstored = strings.TrimPrefix(s.Trouble+"; "+r.trouble, "; "), r.trouble
	}
	r.mu.Unlock()
	if s.Timeline == 0 {
		return // it has never streamed
	}
	if err := r.a.Notes().NoteStream(ctx, s); err != nil && !errors.Is(err, storage.ErrUnavailable) {
		r.Log.Debug("cannot note how streaming goes", "error", err.Error())
	}
}
