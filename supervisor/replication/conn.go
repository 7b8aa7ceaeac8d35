package replication

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"walkeep/common/wal"
	"walkeep/supervisor/pgserver"
)

// Timeout bounds how long a server may take to answer a command that it can answer at once.
const Timeout = 15 * time.Second

// SQLSTATEs that a server uses to refuse a replication command.
const (
	DataCorrupted   = "XX001" // at the end of a base backup: page checksums are wrong
	DuplicateObject = "42710" // a slot of this name exists
	NotInState      = "55000" // object_not_in_prerequisite_state: for example a slot that was invalidated
	UndefinedFile   = "58P01" // a WAL segment or a history file does not exist on the server
)

// HasCode reports whether err is an error of the server with one of these SQLSTATEs.
func HasCode(err error, codes ...string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && slices.Contains(codes, pg.Code)
}

// A Conn is a connection for replication commands. It is not safe for concurrent use, with two exceptions: Abort may be
// called at any time, and [Conn.Receive] may run beside [Conn.Report] and [Conn.EndStream].
type Conn struct{ pg *pgconn.PgConn }

// Connect opens a connection to the server that conninfo names (see [pgserver.Connect]). It calls notice, unless that is
// nil, with the text of each of the server's notices and warnings.
func Connect(ctx context.Context, conninfo string, notice func(message string)) (*Conn, error) {
	pg, err := pgserver.ConnectReplication(ctx, conninfo, func(n *pgconn.Notice) {
		if notice != nil {
			notice(n.Message)
		}
	})
	if err != nil {
		return nil, err
	}
	pg.Frontend().SetMaxBodyLen(maxMessage)
	return &Conn{pg}, nil
}

// maxMessage bounds the length of a message in bytes, so that what is no message cannot take all memory. A server's
// largest hold 128 kB of WAL or a history file.
const maxMessage = 16 << 20

// Close ends the connection in order.
func (c *Conn) Close(ctx context.Context) { c.pg.Close(ctx) }

// Abort ends the connection without waiting for the server. A method that waits for a message returns with an error.
func (c *Conn) Abort() { c.pg.Conn().Close() }

// SetDeadline makes every read and write after t fail.
func (c *Conn) SetDeadline(t time.Time) { c.pg.Conn().SetDeadline(t) }

// Major is the server's major version.
func (c *Conn) Major() int { return pgserver.Major(c.pg.ParameterStatus("server_version")) }

// query runs a command that the server answers at once.
func (c *Conn) query(ctx context.Context, command string) ([][]string, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	results, err := c.pg.Exec(ctx, command).ReadAll()
	if err != nil {
		return nil, err
	}
	var rows [][]string
	for _, r := range results {
		for _, values := range r.Rows {
			rows = append(rows, texts(values))
		}
	}
	return rows, nil
}

// texts converts the values of a row; NULL becomes the empty text.
func texts(values [][]byte) []string {
	row := make([]string, len(values))
	for i, v := range values {
		row[i] = string(v)
	}
	return row
}

// row runs a command whose answer is one row of at least n values.
func (c *Conn) row(ctx context.Context, command string, n int) ([]string, error) {
	rows, err := c.query(ctx, command)
	if err == nil && (len(rows) != 1 || len(rows[0]) < n) {
		err = fmt.Errorf("the server answers %q", rows)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", command, err)
	}
	return rows[0], nil
}

// send writes a message to the server. It does not use the driver's buffer, because the driver itself writes to that in a
// goroutine of its own when a connection has failed.
func (c *Conn) send(m pgproto3.FrontendMessage) error {
	b, err := m.Encode(nil)
	if err != nil {
		return err
	}
	_, err = c.pg.Conn().Write(b)
	return err
}

// receive returns the server's next message. An ErrorResponse is returned as an error; notices and changed parameters are
// skipped. Where messages are many, ctx should be [context.Background], and Abort end the wait: to watch a context for each
// message costs more than to process it.
func (c *Conn) receive(ctx context.Context) (pgproto3.BackendMessage, error) {
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

// A Position is a place in a server's WAL.
type Position struct {
	Timeline wal.Timeline
	LSN      wal.LSN
}

// parsePosition reads a position as the server's rows have it.
func parsePosition(timeline, lsn string) (Position, error) {
	tli, err := strconv.ParseUint(timeline, 10, 32)
	if err != nil || tli == 0 {
		return Position{}, fmt.Errorf("the server gives %q as a timeline", timeline)
	}
	at, err := wal.ParseLSN(lsn)
	if err != nil {
		return Position{}, fmt.Errorf("the server gives %q as a position", lsn)
	}
	return Position{wal.Timeline(tli), at}, nil
}
