package receive

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"walkeep/common/wal"
	"walkeep/supervisor/pgserver"
)

// A conn is a connection for replication commands.
//
// Source: the chapter on the streaming replication protocol, and [walsender.c].
//
// [walsender.c]: https://github.com/postgres/postgres/blob/REL_18_STABLE/src/backend/replication/walsender.c
type conn struct{ pg *pgconn.PgConn }

func connect(ctx context.Context, conninfo string) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	pg, err := pgserver.ConnectReplication(ctx, conninfo, func(*pgconn.Notice) {})
	if err != nil {
		return nil, err
	}
	return &conn{pg}, nil
}

// close ends the connection without waiting for the server.
func (c *conn) close() { c.pg.Conn().Close() }

// query runs a command that answers with rows, and at once.
func (c *conn) query(ctx context.Context, command string) ([][]string, error) {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	results, err := c.pg.Exec(ctx, command).ReadAll()
	if err != nil {
		return nil, err
	}
	var rows [][]string
	for _, r := range results {
		for _, values := range r.Rows {
			row := make([]string, len(values))
			for i, v := range values {
				row[i] = string(v)
			}
			rows = append(rows, row)
		}
	}
	return rows, nil
}

// row runs a command that answers with one row of at least that many values.
func (c *conn) row(ctx context.Context, command string, values int) ([]string, error) {
	rows, err := c.query(ctx, command)
	if err == nil && (len(rows) != 1 || len(rows[0]) < values) {
		err = fmt.Errorf("the server answers %q", rows)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", command, err)
	}
	return rows[0], nil
}

// An identity is what a server says of itself.
type identity struct {
	system   wal.SystemID
	timeline wal.Timeline
	end      wal.LSN // up to where it has flushed its WAL
	size     wal.SegmentSize
	major    int // version
}

func (c *conn) identify(ctx context.Context) (id identity, err error) {
	row, err := c.row(ctx, "IDENTIFY_SYSTEM", 3)
	if err != nil {
		return id, err
	}
	system, err := strconv.ParseUint(row[0], 10, 64)
	if err != nil {
		return id, fmt.Errorf("the server's system identifier is %q", row[0])
	}
	id.system = wal.SystemID(system)
	if id.timeline, id.end, err = parsePosition(row[1], row[2]); err != nil {
		return id, err
	}
	if row, err = c.row(ctx, "SHOW wal_segment_size", 1); err != nil {
		return id, err
	}
	if id.size, err = wal.ParseSegmentSize(row[0]); err != nil {
		return id, err
	}
	if row, err = c.row(ctx, "SHOW server_version_num", 1); err != nil {
		return id, err
	}
	number, err := strconv.Atoi(row[0])
	id.major = number / 10000
	return id, err
}

func parsePosition(timeline, lsn string) (wal.Timeline, wal.LSN, error) {
	tli, err := strconv.ParseUint(timeline, 10, 32)
	if err != nil {
		return 0, 0, fmt.Errorf("the server's timeline is %q", timeline)
	}
	at, err := wal.ParseLSN(lsn)
	return wal.Timeline(tli), at, err
}

// history is the text of a timeline's history.
func (c *conn) history(ctx context.Context, tli wal.Timeline) ([]byte, error) {
	row, err := c.row(ctx, fmt.Sprintf("TIMELINE_HISTORY %d", tli), 2)
	if err != nil {
		return nil, err
	}
	return []byte(row[1]), nil
}

// isMissing tells whether the server lacks a file (undefined_file).
func isMissing(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "58P01"
}

// start begins to stream. If the timeline ends at the position already, it gives where the server goes on instead.
func (c *conn) start(ctx context.Context, slot string, tli wal.Timeline, at wal.LSN) (*timelineEnd, error) {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	command := fmt.Sprintf(`START_REPLICATION SLOT "%s" PHYSICAL %s TIMELINE %d`, slot, at, tli)
	c.pg.Frontend().Send(&pgproto3.Query{String: command})
	if err := c.pg.Frontend().Flush(); err != nil {
		return nil, err
	}
	for {
		m, err := c.receive(ctx)
		if err != nil {
			return nil, err
		}
		switch m.(type) {
		case *pgproto3.CopyBothResponse:
			return nil, nil
		case *pgproto3.RowDescription:
			return c.readEnd(ctx)
		}
	}
}

// receive gives the next message, and turns the server's errors into Go's.
func (c *conn) receive(ctx context.Context) (pgproto3.BackendMessage, error) {
	for {
		m, err := c.pg.ReceiveMessage(ctx)
		if err != nil {
			return nil, err
		}
		switch m := m.(type) {
		case *pgproto3.ErrorResponse:
			return nil, pgconn.ErrorResponseToPgError(m)
		case *pgproto3.NoticeResponse, *pgproto3.ParameterStatus:
			continue
		}
		return m, nil
	}
}

// A timelineEnd is where the server goes on when a timeline ends.
type timelineEnd struct {
	timeline wal.Timeline
	lsn      wal.LSN
}

// errShutDown says that the server has ended the stream in order.
var errShutDown = errors.New("the server has shut down")

// readEnd reads what follows the end of the copy: the next timeline and where it begins. A server that shuts down sends
// none.
func (c *conn) readEnd(ctx context.Context) (*timelineEnd, error) {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	var end *timelineEnd
	for {
		m, err := c.receive(ctx)
		if err != nil {
			return nil, err
		}
		switch m := m.(type) {
		case *pgproto3.DataRow:
			if len(m.Values) < 2 {
				return nil, fmt.Errorf("the server says that the timeline ends with %q", m.Values)
			}
			tli, at, err := parsePosition(string(m.Values[0]), string(m.Values[1]))
			if err != nil {
				return nil, err
			}
			end = &timelineEnd{tli, at}
		case *pgproto3.ReadyForQuery:
			if end == nil {
				return nil, errShutDown
			}
			return end, nil
		}
	}
}

func (c *conn) send(m pgproto3.FrontendMessage) error {
	c.pg.Frontend().Send(m)
	return c.pg.Frontend().Flush()
}

// pgEpoch is the zero of PostgreSQL's timestamps.
var pgEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// report sends a standby status update: what is durable here, and no claim that anything is applied.
func (c *conn) report(written, flushed wal.LSN, answer bool) error {
	b := make([]byte, 0, 34)
	b = append(b, 'r')
	b = binary.BigEndian.AppendUint64(b, uint64(written))
	b = binary.BigEndian.AppendUint64(b, uint64(flushed))
	b = binary.BigEndian.AppendUint64(b, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(time.Since(pgEpoch).Microseconds()))
	if answer {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	return c.send(&pgproto3.CopyData{Data: b})
}

// A message is one of a running stream: bytes of WAL, or a sign of life.
type message struct {
	start  wal.LSN // of data
	data   []byte  // nil for a sign of life
	end    wal.LSN // up to where the server has written
	answer bool    // it wants to hear at once
}

// parse reads a message; its data stays that of b.
func parse(b []byte) (m message, err error) {
	switch {
	case len(b) >= 25 && b[0] == 'w':
		m.start, m.end = wal.LSN(binary.BigEndian.Uint64(b[1:])), wal.LSN(binary.BigEndian.Uint64(b[9:]))
		m.data = b[25:]
	case len(b) >= 18 && b[0] == 'k':
		m.end, m.answer = wal.LSN(binary.BigEndian.Uint64(b[1:])), b[17] != 0
	default:
		return m, fmt.Errorf("the server sends a message of %d bytes that is none of a stream", len(b))
	}
	return m, nil
}
