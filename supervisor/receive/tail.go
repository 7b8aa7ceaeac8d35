package receive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"walkeep/common/notes"
	"walkeep/common/wal"
	"walkeep/supervisor/replication"
	"walkeep/supervisor/spool"
)

// A tail streams one timeline, from a segment on, until the server leaves it.
type tail struct {
	*receiver
	c        *replication.Conn
	s        *spool.Segment
	received bool // anything at all

	at     wal.LSN   // of the next byte
	sent   wal.LSN   // up to where the server has written
	heard  time.Time // when the server was last heard
	synced time.Time // when the segment was made durable last

	// unanswered counts status requests without an answer. Counting is safer than measuring time: if this process was
	// suspended, answers may be waiting unread.
	unanswered int
}

// A goneError reports that the server no longer has the WAL.
type goneError struct {
	at  wal.LSN
	err error
}

func (e *goneError) Error() string { return e.err.Error() }
func (e *goneError) Unwrap() error { return e.err }

// removed reports whether the server's file is gone, and not only the slot invalid.
func (e *goneError) removed() bool { return replication.HasCode(e.err, replication.UndefinedFile) }

// explain returns a goneError for WAL that is gone, or that the server does not keep because the slot was invalidated,
// and other errors as they are.
func (t *tail) explain(err error) error {
	if replication.HasCode(err, replication.UndefinedFile, replication.NotInState) {
		return &goneError{t.at, err}
	}
	return err
}

const (
	// buffered is how many messages, of at most 128 kB each, can be received while earlier ones are made durable.
	buffered = 32
	// batch is how many bytes are written at most before the segment is made durable, even if more messages wait.
	batch = 16 << 20
)

// stream receives until the timeline ends.
func (t *tail) stream(ctx context.Context) (*replication.Position, error) {
	t.at = t.s.Position()
	t.sent = t.at
	end, err := t.c.StartPhysical(ctx, t.Slot, replication.Position{Timeline: t.s.Name.Timeline, LSN: t.at})
	if end != nil || err != nil {
		return end, t.explain(err)
	}
	t.Log.Info("streaming", "slot", t.Slot, "timeline", uint32(t.s.Name.Timeline), "from", t.at.String())
	t.heard = time.Now()
	t.note()
	if t.s.End() > t.slotAt { // else the server may lack the WAL, and must not move the slot back to it
		t.report(false) // a commit may wait for what is here already
	}
	t.wakeKeeper() // to note it
	in := make(chan replication.Message, buffered)
	free := make(chan []byte, buffered)
	ended := make(chan error, 1)
	go func() {
		ended <- read(t.c, in, free)
		close(in)
	}()
	err = t.loop(ctx, in, free)
	if err == nil {
		err = <-ended
	}
	if err != nil {
		t.c.Abort() // ends the reading goroutine, if it still runs
		for range in {
		}
		return nil, t.explain(err)
	}
	return t.c.EndStream(ctx)
}

// read receives messages until the copy ends; then it returns nil. WAL goes into buffers that come back through free, because
// the connection uses its own again.
func read(c *replication.Conn, in chan<- replication.Message, free <-chan []byte) error {
	for {
		m, err := c.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if m, ok := m.(*replication.XLogData); ok {
			var b []byte
			select {
			case b = <-free:
			default:
			}
			m.Data = append(b[:0], m.Data...)
		}
		in <- m
	}
}

// loop writes what was received, makes it durable, and reports that to the server. It returns nil when in is closed and
// everything is durable.
func (t *tail) loop(ctx context.Context, in <-chan replication.Message, free chan<- []byte) error {
	status := time.NewTicker(statusInterval)
	defer status.Stop()
	due := time.NewTimer(time.Hour)
	defer due.Stop()
	for {
		select {
		case m, ok := <-in:
			if !ok { // the reading goroutine returns the reason
				return t.s.Flush()
			}
			if err := t.take(ctx, m, in, free); err != nil {
				return err
			}
			if wait := t.FlushInterval - time.Since(t.synced); t.Synchronous || wait <= 0 {
				if err := t.flush(); err != nil {
					return err
				}
			} else {
				due.Reset(wait)
			}
		case <-due.C:
			if err := t.flush(); err != nil {
				return err
			}
		case <-status.C:
			if len(in) == 0 && time.Duration(t.unanswered)*statusInterval >= silence { // else it is the disk that takes so long
				return fmt.Errorf("the server has been silent for %s", time.Since(t.heard).Round(time.Second))
			}
			t.unanswered++
			t.report(true)
		case <-ctx.Done():
			return t.farewell(ctx)
		}
	}
}

// take writes a message, and those that wait behind it.
func (t *tail) take(ctx context.Context, m replication.Message, in <-chan replication.Message, free chan<- []byte) error {
	answer, begun := false, t.at
	for {
		t.heard, t.unanswered = time.Now(), 0
		switch m := m.(type) {
		case *replication.PrimaryKeepalive:
			t.sent = max(t.sent, m.End)
			answer = answer || m.Reply
		case *replication.XLogData:
			t.sent = max(t.sent, m.End)
			if err := t.write(ctx, m); err != nil {
				return err
			}
			select {
			case free <- m.Data:
			default:
			}
		}
		if t.at-begun < batch {
			select {
			case next, ok := <-in:
				if ok {
					m = next
					continue
				}
			default:
			}
		}
		break
	}
	t.note()
	if answer {
		// A server that shuts down waits until it hears that all it has sent is durable.
		return t.flushAndReport()
	}
	return nil
}

// write writes the bytes of a message to their segments.
func (t *tail) write(ctx context.Context, m *replication.XLogData) error {
	if m.Start != t.at || t.at != t.s.Position() {
		return fmt.Errorf("the server sends WAL of %s where %s comes next, and %s in %s", m.Start, t.at, t.s.Position(), t.s.Name)
	}
	t.received = true
	for data := m.Data; len(data) > 0; {
		rest, err := t.s.Append(data)
		t.at += wal.LSN(len(data) - len(rest))
		if err != nil {
			return err
		}
		data = rest
		if !t.s.Full() {
			continue
		}
		if err := t.settle(ctx); err != nil {
			return err
		}
		if err := t.s.Complete(); err != nil {
			return err
		}
		t.wakeKeeper()
		next, err := t.Spool.OpenSegment(t.s.Name.Next(t.size), t.size)
		if err != nil {
			return err
		}
		next.Rewind() // an earlier stream may have left bytes there
		t.s = next
	}
	return nil
}

// flush makes what was written durable and reports it to the server, if there is anything new.
func (t *tail) flush() error {
	if !t.s.Dirty() && t.flushed() == t.s.Durable() {
		return nil
	}
	return t.flushAndReport()
}

func (t *tail) flushAndReport() error {
	if err := t.s.Flush(); err != nil {
		return err
	}
	t.synced = time.Now()
	t.report(false)
	return nil
}

// report sends the server what is durable. If that fails, the server is gone, and what it had sent may still arrive:
// the reading goroutine finds the end of the stream.
func (t *tail) report(answer bool) {
	t.update(func(s *notes.Stream) { s.Timeline, s.Flushed = t.s.Name.Timeline, t.s.Durable() })
	// Applied stays 0: nothing is applied here.
	_ = t.c.Report(replication.StandbyStatusUpdate{Written: t.at, Flushed: t.s.Durable(), Time: time.Now(), Reply: answer})
}

// flushed returns the position that was last reported as durable.
func (t *tail) flushed() wal.LSN {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state.Flushed
}

// note records what the stream knows of the server, for its note in the archive.
func (t *tail) note() {
	t.update(func(s *notes.Stream) { s.Sent, s.Heard, s.Trouble, s.Ended = t.sent, t.heard.UTC(), "", false })
}

// farewell sends a last report and ends the stream in order.
func (t *tail) farewell(ctx context.Context) error {
	t.c.SetDeadline(time.Now().Add(stopTimeout))
	return errors.Join(ctx.Err(), t.flushAndReport(), t.c.StopStream())
}
