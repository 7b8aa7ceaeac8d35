package replication_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"walkeep/common/wal"
	"walkeep/supervisor/replication"
	"walkeep/supervisor/replication/replicationtest"
)

func connect(t *testing.T, p *replicationtest.Primary) *replication.Conn {
	t.Helper()
	p.Start(t)
	c, err := replication.Connect(t.Context(), p.Conninfo(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Abort)
	return c
}

func newPrimary() *replicationtest.Primary {
	return &replicationtest.Primary{
		Server: replicationtest.Server{Version: "18.4 (Debian 18.4-1)"}, SystemID: 1<<63 + 5, SegmentSize: 64 << 20, Timeline: 1<<31 + 7, Flushed: 0x12_34000000,
		Histories: map[wal.Timeline]string{2: "1\t0/3000000\tno recovery target specified\n"},
	}
}

func TestCommands(t *testing.T) {
	p := newPrimary()
	c := connect(t, p)
	ctx := t.Context()
	system, err := c.IdentifySystem(ctx)
	want := replication.System{ID: 1<<63 + 5, Flushed: replication.Position{Timeline: 1<<31 + 7, LSN: 0x12_34000000}, SegmentSize: 64 << 20, Major: 18}
	if err != nil || system != want || c.Major() != 18 {
		t.Errorf("got %+v (%v), want %+v", system, err, want)
	}
	if text, err := c.TimelineHistory(ctx, 2); err != nil || string(text) != p.Histories[2] {
		t.Errorf("got %q (%v)", text, err)
	}
	// The connection is of use after an error.
	if _, err := c.TimelineHistory(ctx, 3); !replication.HasCode(err, replication.UndefinedFile) || !strings.Contains(err.Error(), "00000003.history") {
		t.Errorf("got %v", err)
	}
	if err := c.CreatePhysicalSlot(ctx, "a_slot"); err != nil {
		t.Error(err)
	}
	if err := c.CreatePhysicalSlot(ctx, "a_slot"); !replication.HasCode(err, replication.DuplicateObject) {
		t.Errorf("got %v", err)
	}
	if err := c.DropSlot(ctx, "a_slot"); err != nil || len(p.Slots) != 0 {
		t.Errorf("%d slots (%v)", len(p.Slots), err)
	}
}

func TestStream(t *testing.T) {
	p := newPrimary()
	next := replication.Position{Timeline: 3, LSN: 0x3000028}
	statuses := make(chan replication.StandbyStatusUpdate, 1)
	p.Stream = func(s *replicationtest.Session, from replication.Position) {
		s.Copy(&replication.XLogData{Start: from.LSN, End: 99, Data: []byte("some")})
		s.Warn("a warning is skipped")
		s.Copy(&replication.PrimaryKeepalive{End: 99, Reply: true})
		status, _ := s.Status()
		statuses <- status
		p.Leave(s, next)
	}
	c := connect(t, p)
	from := replication.Position{Timeline: 2, LSN: 0x3000000}
	if to, err := c.StartPhysical(t.Context(), "a_slot", from); to != nil || err != nil {
		t.Fatalf("got %v (%v)", to, err)
	}
	m, err := c.Receive()
	if data, ok := m.(*replication.XLogData); err != nil || !ok || data.Start != from.LSN || data.End != 99 || string(data.Data) != "some" {
		t.Errorf("got %+v (%v)", m, err)
	}
	m, err = c.Receive()
	if k, ok := m.(*replication.PrimaryKeepalive); err != nil || !ok || k.End != 99 || !k.Reply {
		t.Errorf("got %+v (%v)", m, err)
	}
	report := replication.StandbyStatusUpdate{Written: 3, Flushed: 2, Time: time.UnixMicro(1_790_000_000_123_456).UTC(), Reply: true}
	if err := c.Report(report); err != nil {
		t.Fatal(err)
	}
	if got := <-statuses; got != report {
		t.Errorf("the server got %+v, want %+v", got, report)
	}
	if m, err := c.Receive(); err != io.EOF {
		t.Errorf("got %v (%v)", m, err)
	}
	if to, err := c.EndStream(t.Context()); err != nil || *to != next {
		t.Errorf("got %v (%v), want %v", to, err, next)
	}
	if got := p.Streams(); !slices.Equal(got, []replication.Position{from}) {
		t.Errorf("the server was asked for %v", got)
	}
}

// The timeline ends where the stream would begin.
func TestStreamOfNothing(t *testing.T) {
	p := newPrimary()
	p.Answer = func(s *replicationtest.Session, text string) ([][]any, bool) {
		if !strings.HasPrefix(text, "START_REPLICATION") {
			return nil, false
		}
		s.Rows([]any{int64(3), "0/03000028"}) // 19 pads positions
		return nil, true
	}
	c := connect(t, p)
	next, err := c.StartPhysical(t.Context(), "a_slot", replication.Position{Timeline: 2, LSN: 0x3000028})
	if want := (replication.Position{Timeline: 3, LSN: 0x3000028}); err != nil || *next != want {
		t.Errorf("got %v (%v), want %v", next, err, want)
	}
}

func TestShutDown(t *testing.T) {
	p := newPrimary()
	p.Stream = func(s *replicationtest.Session, _ replication.Position) { p.ShutDown(s) }
	c := connect(t, p)
	if _, err := c.StartPhysical(t.Context(), "a_slot", replication.Position{Timeline: 2, LSN: 8}); err != nil {
		t.Fatal(err)
	}
	if m, err := c.Receive(); !errors.Is(err, replication.ErrShutDown) {
		t.Errorf("got %v (%v)", m, err)
	}
}

// Abort ends a Receive that waits.
func TestAbort(t *testing.T) {
	p := newPrimary()
	p.Stream = func(s *replicationtest.Session, _ replication.Position) { s.Status() }
	c := connect(t, p)
	if _, err := c.StartPhysical(t.Context(), "a_slot", replication.Position{Timeline: 2, LSN: 8}); err != nil {
		t.Fatal(err)
	}
	received := make(chan error)
	go func() {
		_, err := c.Receive()
		received <- err
	}()
	c.Abort()
	if err := <-received; err == nil {
		t.Error("Receive has returned without an error")
	}
}

// A server that does not answer a command is not waited for longer than the context allows.
func TestNoAnswer(t *testing.T) {
	p := newPrimary()
	p.Answer = func(s *replicationtest.Session, text string) ([][]any, bool) {
		if text == "IDENTIFY_SYSTEM" {
			s.Receive() // nothing comes
		}
		return nil, false
	}
	c := connect(t, p)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.IdentifySystem(ctx); err == nil {
		t.Error("got no error")
	}
}
