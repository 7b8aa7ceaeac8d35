package receive_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"walkeep/common/archive"
	"walkeep/common/wal"
	"walkeep/supervisor/receive"
	"walkeep/supervisor/replication"
	"walkeep/supervisor/replication/replicationtest"
)

// What is streamed is what the server has. No status claims more to be durable than what partial/ and the archive hold.
func TestStream(t *testing.T) {
	r := newRig(t)
	end := nextLSN + 0x60
	r.Flushed = end
	r.Stream = func(s *replicationtest.Session, from replication.Position) {
		r.Send(s, from.Timeline, from.LSN, end)
		for {
			status, ok := s.Status()
			if !ok {
				s.HangUp()
			}
			held := func() wal.LSN {
				if r.archived(first) != nil || isFile(r.path(first)) {
					return nextLSN + wal.LSN(len(r.streamed(next+".partial")))
				}
				return firstLSN + wal.LSN(len(r.streamed(first+".partial")))
			}
			ahead := status.Flushed > held()
			if ahead && status.Flushed > held() { // a segment may get its name during the first look
				t.Errorf("%s is reported to be durable, and %s is here", status.Flushed, held())
			}
			if status.Applied != 0 {
				t.Errorf("%s is reported to be applied", status.Applied)
			}
		}
	}
	r.Start(t)
	stop := r.run()
	r.holds(first)
	r.until("the rest", func() bool { return len(r.streamed(next+".partial")) == 0x60 })
	if !bytes.Equal(r.streamed(next+".partial"), r.WAL[next][:0x60]) {
		t.Error("the partial segment has another content")
	}
	r.startedFrom(replication.Position{Timeline: 1, LSN: firstLSN})
	r.must(stop())
}

// A keepalive that wants a reply is answered at once, with all that came before it made durable; a server that shuts down
// waits for that. Other statuses come only every few seconds here.
func TestKeepalive(t *testing.T) {
	r := newRig(t)
	r.flush = time.Hour
	middle, end := firstLSN+0x2000, firstLSN+0x6000
	reported := make(chan wal.LSN, 1)
	r.Stream = func(s *replicationtest.Session, from replication.Position) {
		s.Status() // at the beginning
		r.Send(s, from.Timeline, from.LSN, middle)
		for status := (replication.StandbyStatusUpdate{}); status.Flushed < middle; { // the first bytes are made durable at once
			status, _ = s.Status()
		}
		r.Send(s, from.Timeline, middle, end)
		s.Copy(&replication.PrimaryKeepalive{End: end})
		s.Copy(&replication.PrimaryKeepalive{End: end, Reply: true})
		status, _ := s.Status()
		reported <- status.Flushed
		s.HangUp()
	}
	r.Start(t)
	stop := r.run()
	if got := <-reported; got != end {
		t.Errorf("the reply reports %s, want %s", got, end)
	}
	r.must(stop())
}

// A server that ends the stream in order is connected to again, and the stream continues behind the last whole record.
func TestServerShutsDown(t *testing.T) {
	for name, end := range map[string]func(*rig, *replicationtest.Session){
		"shutdown": func(r *rig, s *replicationtest.Session) { r.ShutDown(s) },
		"hang-up":  func(_ *rig, s *replicationtest.Session) { s.HangUp() },
		"error": func(_ *rig, s *replicationtest.Session) {
			s.Error("57P01", "terminating connection due to administrator command")
			s.HangUp()
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			middle := firstLSN + size/2 + 3
			r.Stream = func(s *replicationtest.Session, from replication.Position) {
				r.Change(func() { r.Stream = nil })
				r.Send(s, from.Timeline, from.LSN, middle)
				for status := (replication.StandbyStatusUpdate{}); status.Flushed < middle; {
					status, _ = s.Status()
				}
				end(r, s)
			}
			r.Start(t)
			stop := r.run()
			r.holds(first, next)
			r.must(stop())
			started := r.Streams()
			if len(started) != 2 {
				t.Fatalf("streams were started at %v", started)
			}
			// What follows the last whole record cannot be told from what a power cut leaves.
			if at, want := started[1].LSN, wholeRecords(t, r, size/2+3); at != want {
				t.Errorf("the second stream was started at %s, want %s", at, want)
			}
		})
	}
}

// What is no message of the protocol ends the session with a reason, and leaves nothing behind in the archive or in partial/.
func TestGarbage(t *testing.T) {
	data := func(b []byte) func(*rig, *replicationtest.Session) {
		return func(_ *rig, s *replicationtest.Session) { s.Send(&pgproto3.CopyData{Data: b}) }
	}
	xlog := func(at wal.LSN) []byte {
		return (&replication.XLogData{Start: at, End: endLSN, Data: []byte("garbage")}).Encode(nil)
	}
	for name, test := range map[string]struct {
		send func(*rig, *replicationtest.Session)
		want string
	}{
		"empty":           {data(nil), "an empty message"},
		"unknown type":    {data([]byte("zebra")), `a message of type 'z' with 5 bytes`},
		"short WAL":       {data(xlog(firstLSN)[:24]), `a message of type 'w' with 24 bytes`},
		"short keepalive": {data([]byte("k1234567")), `a message of type 'k' with 8 bytes`},
		"long keepalive":  {data(append((&replication.PrimaryKeepalive{}).Encode(nil), 0)), `a message of type 'k' with 19 bytes`},
		"a gap":           {data(xlog(firstLSN + size/2)), "the server sends WAL of 0/980000 where"},
		"an overlap":      {data(xlog(firstLSN)), "the server sends WAL of 0/900000 where"},
		"rows":            {func(_ *rig, s *replicationtest.Session) { s.Rows([]any{"a row"}) }, "in the middle of the stream"},
		"no message":      {func(_ *rig, s *replicationtest.Session) { s.Raw([]byte("GET / HTTP/1.1\r\n\r\n")) }, "msg="},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.Stream = func(s *replicationtest.Session, from replication.Position) {
				r.Change(func() { r.Stream = nil })
				r.Send(s, from.Timeline, from.LSN, firstLSN+0x4000)
				test.send(r, s)
				for {
					s.Status()
				}
			}
			r.Start(t)
			stop := r.run()
			r.holds(first, next)
			r.must(stop())
			if said := strings.ReplaceAll(r.said(), `\"`, `"`); !strings.Contains(said, test.want) || !strings.Contains(said, "the stream has ended") {
				t.Errorf("the log does not say %q:\n%s", test.want, said)
			}
			if left := r.partial(); len(left) != 1 || len(r.streamed(left[0])) != 0 { // the segment that comes next
				t.Errorf("partial/ holds %q", left)
			}
		})
	}
}

// Answers to commands that cannot be understood end the session before anything is streamed.
func TestGarbledAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		command string
		row     []any
		want    string
	}{
		"system identifier": {"IDENTIFY_SYSTEM", []any{"none", 1, "0/1", nil}, `"none" as its system identifier`},
		"timeline":          {"IDENTIFY_SYSTEM", []any{"1", 0, "0/1", nil}, `"0" as a timeline`},
		"position":          {"IDENTIFY_SYSTEM", []any{"1", 1, "here", nil}, `"here" as a position`},
		"too few values":    {"IDENTIFY_SYSTEM", []any{"1", 1}, "IDENTIFY_SYSTEM: the server answers"},
		"segment size":      {"SHOW wal_segment_size", []any{"much"}, "much"},
		"version":           {"SHOW server_version_num", []any{"new"}, `"new" as its version`},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.Answer = func(s *replicationtest.Session, text string) ([][]any, bool) {
				if text != test.command {
					return nil, false
				}
				s.Rows(test.row)
				return nil, true
			}
			r.Start(t)
			stop := r.run()
			r.until("the log", func() bool { return strings.Contains(strings.ReplaceAll(r.said(), `\"`, `"`), test.want) })
			r.must(stop())
			if n := len(r.Streams()); n != 0 {
				t.Errorf("%d streams were started", n)
			}
		})
	}
}

// Where the server leaves its timeline the stream follows: the segment in which that happens is streamed once more under
// the new timeline's name, from its beginning. What was streamed of the old timeline stays.
func TestTimelineSwitch(t *testing.T) {
	r := newRig(t)
	const number = "0000000000000010"
	start := wal.LSN(0x1000000)
	r.Histories = map[wal.Timeline]string{2: string(r.WAL["00000002.history"]), 3: string(r.WAL["00000003.history"])}
	left := make(map[wal.Timeline]wal.LSN)
	history, err := wal.ParseHistory(3, r.WAL["00000003.history"])
	r.must(err)
	for _, e := range history.Entries {
		left[e.Timeline] = e.End
		r.WAL[e.Timeline.String()+number] = append(r.WAL[e.Timeline.String()+number+".partial"], make([]byte, size)...)[:size]
	}
	r.Flushed, r.Slots = start+size, map[string]replicationtest.Slot{slot: {Restart: start}}
	r.Stream = func(s *replicationtest.Session, from replication.Position) {
		if end, ok := left[from.Timeline]; ok {
			r.Send(s, from.Timeline, from.LSN, end)
			r.Change(func() { r.Timeline++ })
			r.Leave(s, replication.Position{Timeline: from.Timeline + 1, LSN: end})
			return
		}
		r.Serve(s, from)
	}
	r.Start(t)
	stop := r.run()
	r.holds("00000002.history", "00000003.history", "00000003"+number)
	r.must(stop())
	r.startedFrom(replication.Position{Timeline: 1, LSN: start}, replication.Position{Timeline: 2, LSN: start}, replication.Position{Timeline: 3, LSN: start})
	for tli, end := range left {
		name := tli.String() + number
		if got := r.streamed(name + ".partial"); got != nil && !bytes.Equal(got, r.WAL[name][:end-start]) {
			t.Errorf("partial/%s.partial has another content", name)
		}
		if r.archived(name) != nil {
			t.Errorf("%s is archived although its timeline was left in it", name)
		}
	}
}

// A server whose timeline ends exactly where the stream begins sends nothing and names the next timeline.
func TestTimelineEndsAtOnce(t *testing.T) {
	r := newRig(t)
	r.Histories = map[wal.Timeline]string{2: "1\t0/A00000\tno recovery target specified\n"}
	r.WAL["00000002"+next[8:]] = r.WAL[next]
	r.Timeline, r.Flushed = 2, endLSN
	r.put(first+".partial", r.WAL[first])
	r.Start(t)
	stop := r.run()
	r.until("the stream", func() bool { return len(r.Streams()) > 0 })
	r.must(stop())
	r.startedFrom(replication.Position{Timeline: 1, LSN: r.Streams()[0].LSN})
	if at := r.Streams()[0].LSN; at > nextLSN || at < firstLSN {
		t.Errorf("the stream was started at %s", at)
	}
}

// Nothing is streamed from a server of another cluster, nor through a slot that is none for WAL; neither passes by itself.
func TestRefused(t *testing.T) {
	t.Run("cluster", func(t *testing.T) {
		r := newRig(t)
		r.must(r.a.Bind(t.Context(), archive.Identity{SystemID: r.SystemID + 1, SegmentSize: size}))
		r.Start(t)
		if err := r.runToEnd(); !errors.Is(err, archive.ErrForeign) {
			t.Errorf("got %v, want %v", err, archive.ErrForeign)
		}
	})
	t.Run("slot", func(t *testing.T) {
		r := newRig(t)
		r.Slots[slot] = replicationtest.Slot{Logical: true}
		r.Start(t)
		if err := r.runToEnd(); !errors.Is(err, receive.ErrSlot) {
			t.Errorf("got %v, want %v", err, receive.ErrSlot)
		}
	})
}

// A server that came to its timeline in another way than the archive's is not streamed from.
func TestOtherHistory(t *testing.T) {
	r := newRig(t)
	r.archive("00000002.history", []byte("1\t0/400028\tanother promotion\n"))
	r.Timeline, r.Histories = 2, map[wal.Timeline]string{2: "1\t0/500028\tno recovery target specified\n"}
	r.Start(t)
	stop := r.run()
	r.logged("came to its timeline 2 in another way")
	r.must(stop())
	if n := len(r.Streams()); n != 0 {
		t.Errorf("%d streams were started", n)
	}
}

// A slot that is missing, or for which the server keeps nothing any more, is made, and the stream begins where it does.
func TestSlots(t *testing.T) {
	for name, slots := range map[string]map[string]replicationtest.Slot{
		"missing": {},
		"lost":    {slot: {Lost: true}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.Slots, r.Flushed = slots, nextLSN+0x60
			r.Start(t)
			stop := r.run()
			r.startedFrom(replication.Position{Timeline: 1, LSN: nextLSN})
			r.must(stop())
			r.logged("is created again")
			r.Change(func() {
				if s := r.Slots[slot]; s.Lost || s.Restart != nextLSN {
					t.Errorf("the slot is %+v", s)
				}
			})
		})
	}
}

// WAL that the server has removed is passed over, and that is reported.
func TestGone(t *testing.T) {
	r := newRig(t)
	r.put(first+".partial", r.WAL[first][:size/2])
	r.Oldest, r.Slots[slot] = nextLSN, replicationtest.Slot{Restart: nextLSN}
	r.Start(t)
	stop := r.run()
	r.holds(next)
	r.must(stop())
	r.logged("is gone from the server before it was streamed")
	if got := r.streamed(first + ".partial"); !bytes.Equal(got, r.WAL[first][:size/2]) {
		t.Error("what was streamed before was changed")
	}
}
