package replicationtest

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"walkeep/common/wal"
	"walkeep/supervisor/replication"
)

// A Slot is a replication slot of a [Primary].
type Slot struct {
	Logical bool
	Restart wal.LSN // 0: the server keeps no WAL for it
	Lost    bool
}

// A Primary is a server with WAL. Change it with [Primary.Change] after Start.
type Primary struct {
	Server

	SystemID    wal.SystemID
	SegmentSize wal.SegmentSize
	Standby     bool   // it is one
	ArchiveMode string // off if empty
	Timeline    wal.Timeline
	Flushed     wal.LSN                 // how far its WAL reaches
	Oldest      wal.LSN                 // before it, segments were removed
	Histories   map[wal.Timeline]string // content of its history files
	WAL         map[string][]byte       // its segments by name
	Slots       map[string]Slot
	// Stream answers START_REPLICATION, after the CopyBothResponse was sent. Nil: [Primary.Serve].
	Stream func(s *Session, from replication.Position)
	// Backup answers BASE_BACKUP.
	Backup func(s *Session, command string)
	// Answer may answer a command or a query before the server does; it returns false to leave it to the server. Rows
	// answer a query, and are nil for a command, which Answer has answered on s.
	Answer func(s *Session, text string) (rows [][]any, answered bool)

	mu      sync.Mutex
	streams []replication.Position // that were asked for
}

// Start makes the server listen until the test ends.
func (p *Primary) Start(t testing.TB) {
	t.Helper()
	p.Server.Command, p.Server.SQL = p.command, p.sql
	if p.Slots == nil {
		p.Slots = make(map[string]Slot)
	}
	p.Server.Start(t)
}

// Change changes the server while it runs.
func (p *Primary) Change(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

// Streams returns the positions from which streams were started.
func (p *Primary) Streams() []replication.Position {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]replication.Position(nil), p.streams...)
}

var startForm = regexp.MustCompile(`^START_REPLICATION SLOT "(.*)" PHYSICAL (\S+) TIMELINE (\d+)$`)

func (p *Primary) command(s *Session, command string) {
	if p.Answer != nil {
		if _, answered := p.Answer(s, command); answered {
			return
		}
	}
	p.mu.Lock()
	unlock := sync.OnceFunc(p.mu.Unlock)
	defer unlock()
	word, rest, _ := strings.Cut(command, " ")
	name, _, _ := strings.Cut(strings.TrimPrefix(rest, `"`), `"`)
	switch word {
	case "IDENTIFY_SYSTEM":
		s.Rows([]any{p.SystemID.String(), int(p.Timeline), p.Flushed.String(), nil})
	case "SHOW":
		s.Rows([]any{p.setting(rest)})
	case "TIMELINE_HISTORY":
		p.history(s, rest)
	case "CREATE_REPLICATION_SLOT":
		if _, ok := p.Slots[name]; ok {
			s.Error(replication.DuplicateObject, "replication slot already exists")
			return
		}
		p.Slots[name] = Slot{Restart: max(p.Oldest, p.Flushed-p.Flushed%wal.LSN(p.SegmentSize))}
		s.Rows([]any{name, nil, nil, nil})
	case "DROP_REPLICATION_SLOT":
		delete(p.Slots, name)
		s.Rows()
	case "BASE_BACKUP":
		unlock()
		p.Backup(s, command)
	case "START_REPLICATION":
		m := startForm.FindStringSubmatch(command)
		if m == nil {
			s.Error("42601", "syntax error")
			return
		}
		from := replication.Position{}
		from.LSN, _ = wal.ParseLSN(m[2])
		tli, _ := strconv.ParseUint(m[3], 10, 32)
		from.Timeline = wal.Timeline(tli)
		p.streams = append(p.streams, from)
		removed := from.LSN < p.Oldest
		stream := p.Stream
		unlock()
		if removed {
			s.Error(replication.UndefinedFile, "requested WAL segment has already been removed")
			return
		}
		s.Send(&pgproto3.CopyBothResponse{})
		if stream == nil {
			stream = p.Serve
		}
		stream(s, from)
	default:
		s.Error("42601", "syntax error")
	}
}

func (p *Primary) history(s *Session, timeline string) {
	tli, _ := strconv.ParseUint(timeline, 10, 32)
	text, ok := p.Histories[wal.Timeline(tli)]
	name := wal.Name{Kind: wal.KindHistory, Timeline: wal.Timeline(tli)}.String()
	if !ok {
		s.Error(replication.UndefinedFile, fmt.Sprintf("could not open file %q: No such file or directory", "pg_wal/"+name))
		return
	}
	s.Rows([]any{name, text})
}

func (p *Primary) setting(name string) string {
	switch name {
	case "server_version_num":
		return fmt.Sprintf("%d0000", p.major())
	case "wal_segment_size":
		return fmt.Sprintf("%dMB", p.SegmentSize>>20)
	case "archive_mode":
		if p.ArchiveMode != "" {
			return p.ArchiveMode
		}
		return "off"
	}
	return "0"
}

func (p *Primary) major() int {
	major, _, _ := strings.Cut(p.Version, ".")
	n, _ := strconv.Atoi(major)
	return n
}

// sql answers the questions of packages receive and basebackup.
func (p *Primary) sql(query string, args []string) ([][]any, error) {
	if p.Answer != nil {
		if rows, answered := p.Answer(nil, query); answered {
			return rows, nil
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case strings.Contains(query, "current_setting('server_version_num')"):
		return [][]any{{p.Version, p.setting("server_version_num"), p.setting("archive_mode"), "off", p.setting("wal_segment_size"), p.Standby,
			int64(p.SystemID), int64(p.Timeline)}}, nil
	case strings.Contains(query, "pg_last_wal_receive_lsn"):
		return [][]any{{p.Standby, true}}, nil
	case strings.Contains(query, "pg_is_in_recovery"):
		return [][]any{{p.Standby}}, nil
	case strings.Contains(query, "clock_timestamp"):
		return [][]any{{time.Now()}}, nil
	case strings.Contains(query, "pg_walfile_name"):
		return [][]any{{wal.SegmentAt(p.Timeline, p.Flushed, p.SegmentSize).String(), p.Flushed.String()}}, nil
	case strings.Contains(query, "pg_replication_slots"):
		slot, ok := p.Slots[args[0]]
		if !ok {
			return nil, nil
		}
		return [][]any{{!slot.Logical, false, false, slot.Restart.String(), slot.Lost}}, nil
	case strings.Contains(query, "data_directory"):
		return nil, nil
	case strings.Contains(query, "pg_stat_archiver"):
		return [][]any{{int64(0), int64(0), "", "", nil, nil}}, nil
	}
	return nil, fmt.Errorf("this server does not know the query %s", query)
}

// maxData is how many bytes of WAL one message holds at most (MAX_SEND_SIZE in PostgreSQL's walsender.c).
const maxData = 128 << 10

// Send sends the WAL of a timeline between two positions, and an error where there is none.
func (p *Primary) Send(s *Session, tli wal.Timeline, from, to wal.LSN) {
	for from < to {
		p.mu.Lock()
		content := p.WAL[wal.SegmentAt(tli, from, p.SegmentSize).String()]
		size := wal.LSN(p.SegmentSize)
		p.mu.Unlock()
		if content == nil {
			s.Error(replication.UndefinedFile, "requested WAL segment does not exist")
			s.HangUp()
		}
		n := min(to-from, size-from%size, maxData)
		s.Copy(&replication.XLogData{Start: from, End: to, Time: time.Now(), Data: content[from%size : from%size+n]})
		from += n
	}
}

// Serve sends all WAL behind a position, asks for a status, and waits for the client to end the stream.
func (p *Primary) Serve(s *Session, from replication.Position) {
	p.mu.Lock()
	end := p.Flushed
	p.mu.Unlock()
	p.Send(s, from.Timeline, from.LSN, end)
	s.Copy(&replication.PrimaryKeepalive{End: end, Time: time.Now(), Reply: true})
	for {
		if _, ok := s.Status(); !ok {
			break
		}
	}
	s.Send(&pgproto3.CopyDone{}, &pgproto3.CommandComplete{CommandTag: []byte("COPY 0")}, &pgproto3.CommandComplete{CommandTag: []byte("START_STREAMING")})
}

// Leave ends a stream because the server has left the timeline, and names the next one.
func (p *Primary) Leave(s *Session, next replication.Position) {
	s.Send(&pgproto3.CopyDone{})
	for {
		if _, ok := s.Status(); !ok {
			break
		}
	}
	s.Rows([]any{int64(next.Timeline), next.LSN.String()})
	s.Send(&pgproto3.CommandComplete{CommandTag: []byte("START_STREAMING")})
}

// ShutDown ends a stream as a server that shuts down does.
func (p *Primary) ShutDown(s *Session) {
	s.Send(&pgproto3.CommandComplete{CommandTag: []byte("COPY 0")})
	s.HangUp()
}
