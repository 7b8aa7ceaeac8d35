package report

import (
	"fmt"
	"slices"
	"time"

	"walkeep/common/recovery"
	"walkeep/supervisor/progress"
)

// A Stream is the state of a stream of the segment that is being written, by the stream's own last note.
type Stream struct {
	Slot        string    `json:"slot"`
	Host        string    `json:"host"` // of the stream
	Timeline    uint32    `json:"timeline"`
	FlushedLSN  string    `json:"flushed_lsn"` // durable in the archive up to here
	SentLSN     string    `json:"server_lsn"`  // the server had written up to here
	Behind      int64     `json:"behind_bytes"`
	Heard       time.Time `json:"heard"` // when the server last answered
	Synchronous bool      `json:"synchronous"`
	Running     bool      `json:"running"` // it was not ended, and its server has just answered
	Ended       bool      `json:"ended"`   // it was ended by a command
	Trouble     string    `json:"trouble"` // the stream's current problem; empty if there is none
	// Gone is why the stream will not come back and needs no attention: another stream has replaced it, or its slot
	// does not exist any more. Otherwise it is empty.
	Gone string `json:"gone"`

	// Skipped lists the WAL that the server had removed before it was streamed, as long as the archive lacks it and
	// no backup begins behind it.
	Skipped []string `json:"skipped"`

	fromStandby bool
}

// silence is the time after which a stream whose server does not answer counts as broken. The stream requests an
// answer every few seconds.
const silence = 30 * time.Second

func (r *Report) takeStreams(inv *recovery.Inventory) {
	for _, s := range inv.Streams {
		skipped := []string{}
		for _, one := range s.Skipped {
			if inv.Lacks(one) {
				skipped = append(skipped, one.String())
			}
		}
		r.Streams = append(r.Streams, Stream{
			Slot: s.Slot, Host: s.Host, Timeline: uint32(s.Timeline), FlushedLSN: s.Flushed.String(), SentLSN: s.Sent.String(),
			Behind: int64(max(s.Sent, s.Flushed) - s.Flushed), Heard: s.Heard.UTC(), Synchronous: s.Synchronous,
			Running: !s.Ended && r.Time.Sub(s.Heard) < silence, Ended: s.Ended, Trouble: s.Trouble, Skipped: skipped, fromStandby: s.FromStandby,
		})
	}
}

// settleStreams finds the streams that will not come back. Only one stream at a time can stream into an archive.
func (r *Report) settleStreams() {
	running := slices.IndexFunc(r.Streams, func(s Stream) bool { return s.Running })
	for i := range r.Streams {
		s := &r.Streams[i]
		if s.Running || s.Ended {
			continue
		}
		v := r.Server
		switch {
		case running >= 0:
			s.Gone = "stream " + r.Streams[running].Slot + " has taken its place"
		case v != nil && !v.Standby && !s.fromStandby && !v.Awaited && !slices.ContainsFunc(v.Slots, func(one Slot) bool { return one.Name == s.Slot }):
			s.Gone = "its slot does not exist on the server"
		}
	}
}

// stream returns a stream by its slot; nil if there is none.
func (r *Report) stream(slot string) *Stream {
	for i := range r.Streams {
		if r.Streams[i].Slot == slot {
			return &r.Streams[i]
		}
	}
	return nil
}

// streams reports whether the server's WAL is streamed.
func (r *Report) streams() bool {
	for _, s := range r.Streams {
		if s.Running {
			return true
		}
	}
	return false
}

func (f *findings) streams() {
	for _, s := range f.r.Streams {
		for _, skipped := range s.Skipped {
			f.add(Warning, "the server had removed %s before stream %s received it: take a new backup", skipped, s.Slot).help(newBackup, "backup")
		}
		why := ""
		if s.Trouble != "" {
			why = ": " + s.Trouble
		}
		switch {
		case s.Ended || s.Gone != "":
		case !s.Running && s.Synchronous && (f.r.Server == nil || f.r.Server.Standby || f.r.Server.Awaited):
			f.add(Critical, "stream %s has not heard its server for %s, so commits that wait for it do not return%s", s.Slot, Round(f.r.Time.Sub(s.Heard)), why).since(&s.Heard).
				help("Start the stream again. Until it runs, remove walkeep from synchronous_standby_names if clients must not wait", "run")
		case !s.Running:
			f.add(Warning, "stream %s has not heard its server for %s%s (if it will not come back, cleanup --forget-stream %s removes its note)", s.Slot, Round(f.r.Time.Sub(s.Heard)), why, s.Slot).since(&s.Heard).help(restart, "run")
		case s.Trouble != "":
			f.add(Warning, "stream %s is in trouble%s", s.Slot, why).help("The stream repeats what failed by itself; the service's log has the details")
		}
	}
}

// text describes the stream in one line.
func (s Stream) text() string {
	state := "heard " + s.Heard.Format(second)
	switch {
	case s.Ended:
		state = "ended, " + state
	case s.Gone != "":
		state = "gone: " + s.Gone + ", " + state
	case !s.Running:
		state = "BROKEN, " + state
	case s.Synchronous:
		state = "synchronous, " + state
	}
	return fmt.Sprintf("timeline %d up to %s, %s behind the server when last heard (%s, on %s)", s.Timeline, s.FlushedLSN, progress.Bytes(s.Behind), state, s.Host)
}
