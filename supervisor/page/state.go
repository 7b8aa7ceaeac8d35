package page

import (
	"fmt"
	"strings"

	"walkeep/supervisor/progress"
)

// noServer says why nothing is known of the server; empty if something is.
func (b *builder) noServer() string {
	switch {
	case b.r.Server != nil:
		return ""
	case b.r.ServerError != "":
		return "The server did not answer: " + b.r.ServerError
	}
	return "The server was not asked: conninfo in the configuration says where it is."
}

func (b *builder) server() table {
	s := b.r.Server
	if s == nil {
		return table{}
	}
	var rows [][]cell
	row := func(name string, c cell) { rows = append(rows, []cell{{Text: name}, c}) }
	role := "primary"
	if s.Standby {
		role = "standby"
	}
	row("Server", cell{Text: "PostgreSQL " + s.Version, More: fmt.Sprintf("%s on timeline %d at %s", role, s.Timeline, s.LSN)})
	archiver := cell{Text: "archive_mode " + s.ArchiveMode, More: fmt.Sprintf("%d files archived, %s", s.Archived, count(int(s.Failed), "failure"))}
	if s.Failing {
		archiver.Class, archiver.Text = bad, archiver.Text+", and the last attempt failed"
	}
	row("Archiver", archiver)
	if s.LastArchivedTime != nil {
		row("Last archived", cell{Text: s.LastArchived, More: utc(*s.LastArchivedTime) + ", " + ago(*s.LastArchivedTime, b.now)})
	}
	if s.LastFailedTime != nil {
		row("Last failure", cell{Text: s.LastFailed, More: utc(*s.LastFailedTime) + ", " + ago(*s.LastFailedTime, b.now)})
	}
	if s.Lag != nil {
		lag := cell{Text: progress.Bytes(s.Lag.Bytes), More: "no complete segment waits", Class: good}
		if s.Lag.Segments > 0 {
			lag = cell{Text: lag.Text, More: fmt.Sprintf("%s, from %s on, for %s", count(int(s.Lag.Segments), "complete segment"), s.Lag.First, duration(s.Lag.Seconds)), Class: warn}
		}
		row("Not in the archive", lag)
	}
	if s.Ready != nil {
		row("Files that wait", cell{Text: number(int(*s.Ready))})
	}
	if p := s.Replay; p != nil {
		state := cell{Text: "replays", More: "up to " + p.Replayed, Class: good}
		if p.Replayed == "" {
			state.More = "nothing yet"
		}
		if p.Paused {
			state.Text, state.Class = "replay is paused", warn
		}
		row("Replay", state)
		stream := cell{Text: "unknown"}
		if p.Streaming != nil {
			stream.Text = map[bool]string{true: "streams from its primary", false: "does not stream"}[*p.Streaming]
		}
		if p.Received != "" {
			stream.More = "received up to " + p.Received
		}
		row("Received", stream)
		if p.Lag != nil {
			lag := cell{Text: progress.Bytes(p.Lag.Bytes), More: count(int(p.Lag.Segments), "segment")}
			if p.Lag.Seconds != nil {
				lag.More += ", for " + duration(*p.Lag.Seconds)
			}
			row("Not replayed", lag)
		}
	}
	if s.Advice != "" {
		row("Advice", cell{Text: s.Advice})
	}
	return newTable("The server and its archiver, by its own answers", "rows", []string{"What", "State"}, rows)
}

func (b *builder) slots() table {
	if b.r.Server == nil {
		return table{}
	}
	var rows [][]cell
	for _, s := range b.r.Server.Slots {
		state := cell{Text: "not in use", Class: warn}
		switch {
		case s.Lost:
			state = cell{Text: "lost", More: s.Reason, Class: bad}
		case s.Active:
			state = cell{Text: "in use", Class: good}
		}
		room := ""
		if s.Room != nil {
			room = "room for " + progress.Bytes(*s.Room) + " more"
		}
		rows = append(rows, []cell{{Text: s.Name}, state, {Text: progress.Bytes(s.Held), More: room}})
	}
	return newTable("Replication slots", "slots", []string{"Slot", "State", "WAL kept for it"}, rows)
}

func (b *builder) streams() table {
	var rows [][]cell
	for _, s := range b.r.Streams {
		state := cell{Text: "runs", Class: good}
		switch {
		case s.Ended:
			state = cell{Text: "was stopped", Class: mute}
		case s.Gone != "":
			state = cell{Text: "is gone", More: s.Gone, Class: mute}
		case !s.Running:
			state = cell{Text: "is broken", More: s.Trouble, Class: bad}
		case s.Trouble != "":
			state = cell{Text: "is in trouble", More: s.Trouble, Class: warn}
		case s.Synchronous:
			state.More = "synchronous"
		}
		rows = append(rows, []cell{{Text: s.Slot, More: "on " + s.Host}, state, {Text: progress.Bytes(s.Behind)},
			{Text: s.FlushedLSN, More: fmt.Sprintf("timeline %d", s.Timeline)}, {Text: utc(s.Heard), More: ago(s.Heard, b.now)}})
	}
	return newTable("Streams of the segment that is being written", "streams", []string{"Slot", "State", "Behind the server", "Durable up to", "Heard"}, rows)
}

func (b *builder) standbys() table {
	var rows [][]cell
	for _, s := range b.r.Standbys {
		segments := func(n *int64) cell {
			if n == nil {
				return cell{Text: "unknown"}
			}
			return cell{Text: count(int(*n), "segment")}
		}
		held := segments(s.Held)
		if s.Held != nil && *s.Held > 32 {
			held.Class = warn
		}
		rows = append(rows, []cell{{Text: s.Host, More: s.DataDirectory}, segments(s.Behind), held, {Text: s.Restartpoint}, {Text: utc(s.Noted), More: ago(s.Noted, b.now)}})
	}
	return newTable("Standbys that read WAL from the archive", "standbys", []string{"Standby", "Behind", "Kept for it alone", "Needs WAL from", "Last report"}, rows)
}

func (b *builder) shipping() table {
	var rows [][]cell
	for _, s := range b.r.Shipping {
		state := cell{Text: "ships", Class: good}
		switch {
		case s.Noted == nil:
			state = cell{Text: "never shipped", Class: bad}
		case s.Error != "":
			state = cell{Text: "fails", More: s.Error, Class: bad}
			if s.Failing != nil {
				state.Text += " since " + utc(*s.Failing)
			}
		case !s.Running:
			state = cell{Text: "no process ships", More: "since " + utc(*s.Noted), Class: bad}
		}
		waiting := cell{Text: "nothing", Class: good}
		if s.Objects > 0 {
			waiting = cell{Text: fmt.Sprintf("%s, %s", count(s.Objects, "object"), progress.Bytes(s.Bytes)), More: "the oldest for " + duration(s.Lag), Class: warn}
		}
		upTo, recoverable := cell{Text: "unknown"}, cell{Text: "unknown"}
		if n := len(s.Positions); n > 0 {
			upTo = cell{Text: s.Positions[n-1].LSN, More: fmt.Sprintf("timeline %d", s.Positions[n-1].Timeline)}
		}
		if s.Recoverable != nil {
			recoverable = cell{Text: utc(*s.Recoverable), More: ago(*s.Recoverable, b.now)}
		}
		requests := cell{Text: count(s.Requests, "request"), More: progress.Bytes(s.Sent) + " sent"}
		if s.Answered != nil {
			requests.More += ", answered " + ago(*s.Answered, b.now)
		}
		rows = append(rows, []cell{{Text: s.Repository}, state, waiting, upTo, recoverable, requests})
	}
	return newTable("What was shipped from the spool to each repository", "repositories",
		[]string{"Repository", "State", "Waits in the spool", "WAL without a gap up to", "Recoverable up to what was there at", "Since the process began"}, rows)
}

func (b *builder) places() table {
	var rows [][]cell
	for _, m := range b.r.Archives {
		state := cell{Text: "answers", More: strings.Join(m.Lacks, "; "), Class: good}
		if len(m.Lacks) > 0 {
			state.Class = warn
		}
		holds := cell{Text: count(len(m.Backups), "backup"), More: "WAL to " + m.Last}
		if m.Last == "" {
			holds.More = "no WAL"
		}
		if m.Error != "" {
			state, holds = cell{Text: "cannot be reached", More: m.Error, Class: bad}, cell{Text: "unknown", Class: mute}
		}
		rows = append(rows, []cell{{Text: m.Name}, {Text: m.URL}, state, holds})
	}
	return newTable("The archives that are described here together", "archives", []string{"Archive", "Place", "State", "Holds"}, rows)
}

func (b *builder) stuck() table {
	var rows [][]cell
	for _, s := range b.r.Shipping {
		for _, one := range s.Stuck {
			rows = append(rows, []cell{{Text: one.Object}, {Text: s.Repository}, {Text: one.Error, Class: bad}})
		}
	}
	return newTable("Objects that cannot be shipped", "objects", []string{"Object", "To", "Why"}, rows)
}

func (b *builder) leases() table {
	var rows [][]cell
	for _, l := range b.r.Leases {
		state := cell{Text: "at work", Class: good}
		if !l.Live {
			state = cell{Text: "left over", Class: mute}
		}
		rows = append(rows, []cell{{Text: l.Kind}, {Text: l.Backup}, {Text: l.Host, More: "process " + number(l.PID)}, state, {Text: utc(l.Renewed), More: ago(l.Renewed, b.now)}})
	}
	return newTable("Leases of running backups, restores and drills", "leases", []string{"Kind", "Backup", "Host", "State", "Renewed"}, rows)
}

func (b *builder) faults() table {
	var rows [][]cell
	add := func(object, text string) { rows = append(rows, []cell{{Text: object}, {Text: text, Class: bad}}) }
	for _, f := range b.r.Faults {
		add(f.Object, f.Error)
	}
	for _, problem := range b.r.Config {
		add("configuration", problem)
	}
	return newTable("Faults", "faults", []string{"Object", "Fault"}, rows)
}
