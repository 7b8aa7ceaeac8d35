package report

import (
	"context"
	"fmt"
	"slices"
	"time"

	"walkeep/common/recovery"
	"walkeep/common/wal"
	"walkeep/supervisor/pgserver"
	"walkeep/supervisor/progress"
)

// A Replay is the state of a server in recovery.
type Replay struct {
	Received  string `json:"received_lsn"` // by streaming; empty if it never did
	Replayed  string `json:"replayed_lsn"` // empty if there is none yet
	Paused    bool   `json:"paused"`
	Streaming *bool  `json:"streaming"` // null if the role may not see it
	// Lag is the archived WAL that the server has not replayed, along the timeline that it follows; null if unknown.
	Lag *ReplayLag `json:"lag"`
}

// A ReplayLag is how far a standby is behind the archive.
type ReplayLag struct {
	Bytes    int64 `json:"bytes"`
	Segments int64 `json:"segments"` // whole ones
	// Seconds is the time since the end of the last replayed transaction, or 0 if nothing waits to be replayed; null
	// if no transaction was replayed.
	Seconds *float64 `json:"seconds"`
}

// readReplay queries a server in recovery.
func (s *Server) readReplay(ctx context.Context, conn *pgserver.Conn, major int, inv *recovery.Inventory, windows []Window) error {
	found, err := conn.Replay(ctx, major)
	if err != nil {
		return err
	}
	s.Replay = &Replay{Received: position(found.Received), Replayed: position(found.Replayed), Paused: found.Paused, Streaming: found.Streaming}
	s.LSN = s.Replay.Replayed
	if found.Timeline > wal.Timeline(s.Timeline) {
		s.Timeline = uint32(found.Timeline)
	}
	along, end, ok := inv.Follow(wal.Timeline(s.Timeline), found.Latest)
	if !ok || found.Replayed == 0 {
		return nil
	}
	if n := len(windows); n > 0 && windows[n-1].Timeline == uint32(along) && windows[n-1].Gap == nil {
		// The last segment may end in a part of a record, which cannot be replayed yet.
		if records, err := wal.ParseLSN(windows[n-1].ToLSN); err == nil {
			end = min(end, records)
		}
	}
	lag := &ReplayLag{Bytes: int64(max(end, found.Replayed) - found.Replayed)}
	lag.Segments = lag.Bytes / int64(inv.SegmentSize)
	var seconds float64
	switch {
	case lag.Bytes == 0 && found.Received <= found.Replayed:
		lag.Seconds = &seconds
	case !found.Committed.IsZero():
		seconds = max(0, found.Now.Sub(found.Committed).Seconds())
		lag.Seconds = &seconds
	}
	s.Replay.Lag = lag
	return nil
}

func position(lsn wal.LSN) string {
	if lsn == 0 {
		return ""
	}
	return lsn.String()
}

// behind returns how many segments a standby's restartpoint is behind the end of the WAL that it follows; nil if
// unknown.
func behind(inv *recovery.Inventory, restartpoint string) *int64 {
	n, err := wal.ParseName(restartpoint)
	if err != nil {
		return nil
	}
	start, err := n.Start(inv.SegmentSize)
	if err != nil {
		return nil
	}
	_, end, ok := inv.Follow(n.Timeline, true)
	if !ok {
		return nil
	}
	segments := int64(max(end, start)-start) / int64(inv.SegmentSize)
	return &segments
}

// held returns how many segments are kept only for a standby, and for no backup; nil if unknown.
func held(inv *recovery.Inventory, restartpoint string) *int64 {
	n, err := wal.ParseName(restartpoint)
	if err != nil || len(inv.Backups) == 0 {
		return nil
	}
	start, err := n.Start(inv.SegmentSize)
	if err != nil {
		return nil
	}
	first := inv.Backups[0].Start
	for _, b := range inv.Backups {
		first = min(first, b.Start)
	}
	segments := int64(max(first, start)-start) / int64(inv.SegmentSize)
	return &segments
}

func (f *findings) replay(l Limits) {
	r := f.r.Server.Replay
	if r == nil || r.Lag == nil || r.Lag.Seconds == nil || *r.Lag.Seconds <= l.StandbyLag.Seconds() {
		return
	}
	why := ""
	if r.Paused {
		why = "; its replay is paused"
	}
	late := f.add(Warning, "the standby is %s behind, for %s, more than %s%s", count(int(r.Lag.Segments), "segment"), Round(fromSeconds(*r.Lag.Seconds)), Round(l.StandbyLag), why).since(f.ago(*r.Lag.Seconds))
	if r.Paused {
		late.help("Let it replay again", "continue")
	} else {
		late.help("The standby's log says what its restore_command waits for")
	}
}

// received judges the WAL that a standby has received by streaming. Its primary has written at least that far.
func (f *findings) received(l Limits) {
	s := f.r.Server
	i := slices.IndexFunc(f.r.Timelines, func(t Timeline) bool { return t.Timeline == s.Timeline })
	if s.Replay == nil || i < 0 || len(f.r.Timelines[i].Ranges) == 0 {
		return
	}
	ranges := f.r.Timelines[i].Ranges
	at, err := wal.ParseLSN(s.Replay.Received)
	end, bad := wal.ParseLSN(ranges[len(ranges)-1].EndLSN)
	if lacks := int64(max(at, end) - end); err == nil && bad == nil && lacks > f.lagSize(l) {
		f.add(Warning, "the archive lacks %s of what the standby has received from its primary, all WAL from %s on", progress.Bytes(lacks), end).help("See why the primary's WAL does not come here: the primary's log has the message of archive_command")
	}
}

func fromSeconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// figures returns the performance data of monitoring plugins.
func (r *Replay) figures(l Limits) []string {
	if r == nil || r.Lag == nil {
		return nil
	}
	list := []string{fmt.Sprintf("standby_lag_bytes=%dB", r.Lag.Bytes)}
	if r.Lag.Seconds != nil {
		list = append(list, fmt.Sprintf("standby_lag=%.0fs;%.0f", *r.Lag.Seconds, l.StandbyLag.Seconds()))
	}
	return list
}

func (r *Replay) rows(row func(...any)) {
	if r == nil {
		return
	}
	how := "unknown whether it streams"
	if r.Streaming != nil {
		how = map[bool]string{true: "streaming", false: "not streaming"}[*r.Streaming]
	}
	if r.Received != "" {
		how += ", received up to " + r.Received
	}
	state := "replaying"
	if r.Paused {
		state = "PAUSED"
	}
	replayed := r.Replayed
	if replayed == "" {
		replayed = "nothing yet"
	}
	row("replay", fmt.Sprintf("%s, up to %s; %s", state, replayed, how))
	if r.Lag == nil {
		return
	}
	text := fmt.Sprintf("%s (%s) of what the archive holds", progress.Bytes(r.Lag.Bytes), count(int(r.Lag.Segments), "segment"))
	if r.Lag.Seconds != nil {
		text += ", for " + Round(fromSeconds(*r.Lag.Seconds))
	}
	row("behind", text)
}
