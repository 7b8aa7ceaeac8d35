package replication

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5/pgproto3"
)

// ErrShutDown is returned when the server has ended the stream because it shuts down.
var ErrShutDown = errors.New("the server has shut down")

// StartPhysical starts to stream WAL from a position through a physical slot. If the timeline has no WAL behind that
// position because the server has left it there, StartPhysical returns where the server's next timeline begins, and no
// stream was started; otherwise next is nil. The error has the code [UndefinedFile] or [NotInState] if the server does not
// have the WAL any more.
func (c *Conn) StartPhysical(ctx context.Context, slot string, from Position) (next *Position, err error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	command := fmt.Sprintf(`START_REPLICATION SLOT "%s" PHYSICAL %s TIMELINE %d`, slot, from.LSN, from.Timeline)
	if err := c.send(&pgproto3.Query{String: command}); err != nil {
		return nil, err
	}
	m, err := c.receive(ctx)
	if err != nil {
		return nil, err
	}
	switch m.(type) {
	case *pgproto3.CopyBothResponse:
		return nil, nil
	case *pgproto3.RowDescription:
		return c.readNext(ctx)
	}
	return nil, fmt.Errorf("the server sends %T instead of a stream", m)
}

// Receive returns the next message of the stream, an [*XLogData] or a [*PrimaryKeepalive]; the data of the former is valid
// until the next call. It returns [io.EOF] when the server has sent the timeline to its end, after which [Conn.EndStream]
// returns where the next one begins, and [ErrShutDown] when the server shuts down. It has no time limit; [Conn.Abort] ends it.
func (c *Conn) Receive() (Message, error) {
	m, err := c.receive(context.Background())
	if err != nil {
		return nil, err
	}
	switch m := m.(type) {
	case *pgproto3.CopyData:
		return decodeStream(m.Data)
	case *pgproto3.CopyDone:
		return nil, io.EOF
	case *pgproto3.CommandComplete:
		return nil, ErrShutDown
	}
	return nil, fmt.Errorf("the server sends %T in the middle of the stream", m)
}

// Report sends a status update.
func (c *Conn) Report(s StandbyStatusUpdate) error {
	return c.send(&pgproto3.CopyData{Data: s.Encode(nil)})
}

// StopStream asks the server to end the stream, and does not wait for its answer.
func (c *Conn) StopStream() error { return c.send(&pgproto3.CopyDone{}) }

// EndStream answers a server that has ended the stream, and returns where its next timeline begins. It returns [ErrShutDown]
// if the server names no timeline.
func (c *Conn) EndStream(ctx context.Context) (*Position, error) {
	if err := c.StopStream(); err != nil {
		return nil, err
	}
	return c.readNext(ctx)
}

// readNext reads what follows the end of a stream: a row that names the next timeline, if there is one.
func (c *Conn) readNext(ctx context.Context) (*Position, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	var next *Position
	for {
		m, err := c.receive(ctx)
		if err != nil {
			return nil, err
		}
		switch m := m.(type) {
		case *pgproto3.DataRow:
			row := texts(m.Values)
			if len(row) < 2 {
				return nil, fmt.Errorf("the server gives %q as the next timeline", row)
			}
			p, err := parsePosition(row[0], row[1])
			if err != nil {
				return nil, err
			}
			next = &p
		case *pgproto3.ReadyForQuery:
			if next == nil {
				return nil, ErrShutDown
			}
			return next, nil
		}
	}
}
