// Package replicationtest is a server for tests that speaks PostgreSQL's protocol without being PostgreSQL, so that a test
// decides what the server sends, byte by byte if need be, and when its connection ends.
//
// [Server] knows the protocol alone and leaves every answer to the test. [Primary] answers as a primary or a standby with
// some WAL would.
package replicationtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"

	"walkeep/supervisor/replication"
)

// A Server accepts connections on a loopback port, for replication and for SQL, and lets everybody in. Its fields must not
// change after Start.
type Server struct {
	Version string // as SHOW server_version has it
	// Command answers a command of a connection for replication. When it returns, the session ends with
	// [Session.Ready], unless the command was COPY or the client has gone.
	Command func(s *Session, command string)
	// SQL answers a query of another connection with the rows of its result. A *pgconn.PgError is sent as it is.
	SQL func(query string, args []string) ([][]any, error)

	conninfo string
}

// Start makes the server listen until the test ends.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.conninfo = fmt.Sprintf("host=127.0.0.1 port=%d user=walkeep dbname=postgres sslmode=disable password=none",
		l.Addr().(*net.TCPAddr).Port)
	var mu sync.Mutex
	open := make(map[net.Conn]bool)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[conn] = true
			mu.Unlock()
			all.Go(func() {
				defer func() {
					mu.Lock()
					delete(open, conn)
					mu.Unlock()
					conn.Close()
				}()
				s.serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for conn := range open {
			conn.Close()
		}
		mu.Unlock()
		all.Wait()
	})
}

// Conninfo leads to the server.
func (s *Server) Conninfo() string { return s.conninfo }

// serve answers one connection until it ends.
func (s *Server) serve(conn net.Conn) {
	session := &Session{conn: conn, backend: pgproto3.NewBackend(conn, conn)}
	parameters := session.startup()
	session.Send(&pgproto3.AuthenticationOk{}, &pgproto3.ParameterStatus{Name: "server_version", Value: s.Version},
		&pgproto3.ParameterStatus{Name: "client_encoding", Value: "UTF8"},
		&pgproto3.ParameterStatus{Name: "standard_conforming_strings", Value: "on"},
		&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{0, 0, 0, 1}})
	session.Ready()
	if parameters["replication"] == "true" {
		s.answerCommands(session)
	} else {
		s.answerSQL(session)
	}
}

func (s *Server) answerCommands(session *Session) {
	for {
		switch m := session.Receive().(type) {
		case *pgproto3.Query:
			s.Command(session, m.String)
			session.Ready()
		case *pgproto3.Terminate:
			return
		}
	}
}

func (s *Server) answerSQL(session *Session) {
	var query string
	var args []string
	for {
		switch m := session.Receive().(type) {
		case *pgproto3.Query: // settings of the session
			session.Send(&pgproto3.CommandComplete{CommandTag: []byte("SET")})
			session.Ready()
		case *pgproto3.Parse:
			query = m.Query
			session.Send(&pgproto3.ParseComplete{})
		case *pgproto3.Bind:
			args = nil
			for _, p := range m.Parameters {
				args = append(args, string(p))
			}
			session.Send(&pgproto3.BindComplete{})
		case *pgproto3.Execute:
			rows, err := s.SQL(query, args)
			if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) {
				session.Error(pg.Code, pg.Message)
			} else if err != nil {
				session.Error("XX000", err.Error())
			} else {
				session.Rows(rows...)
			}
		case *pgproto3.Sync:
			session.Ready()
		case *pgproto3.Terminate:
			return
		}
	}
}

// A Session is the server's side of a connection. Its methods end the goroutine when the client has gone.
type Session struct {
	conn    net.Conn
	backend *pgproto3.Backend
}

func (s *Session) startup() map[string]string {
	for {
		m, err := s.backend.ReceiveStartupMessage()
		s.must(err)
		switch m := m.(type) {
		case *pgproto3.StartupMessage:
			return m.Parameters
		case *pgproto3.SSLRequest, *pgproto3.GSSEncRequest:
			s.Raw([]byte("N"))
		default:
			s.HangUp()
		}
	}
}

func (s *Session) must(err error) {
	if err != nil {
		s.HangUp()
	}
}

// HangUp ends the connection, and the goroutine that calls it.
func (s *Session) HangUp() {
	s.conn.Close()
	runtime.Goexit()
}

// Send sends messages.
func (s *Session) Send(messages ...pgproto3.BackendMessage) {
	for _, m := range messages {
		s.backend.Send(m)
	}
	s.must(s.backend.Flush())
}

// Raw sends bytes as they are.
func (s *Session) Raw(b []byte) {
	_, err := s.conn.Write(b)
	s.must(err)
}

// Receive returns the client's next message, which is valid until the next call.
func (s *Session) Receive() pgproto3.FrontendMessage {
	m, err := s.backend.Receive()
	s.must(err)
	return m
}

// Ready ends the answer to a command.
func (s *Session) Ready() { s.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'}) }

// Error sends an error with a SQLSTATE.
func (s *Session) Error(code, message string) {
	s.Send(&pgproto3.ErrorResponse{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: code, Message: message})
}

// Warn sends a warning.
func (s *Session) Warn(message string) {
	s.Send(&pgproto3.NoticeResponse{Severity: "WARNING", SeverityUnlocalized: "WARNING", Code: "01000", Message: message})
}

// Rows sends a result of rows that have the same number of values: nil, string, bool, int, int64 or time.Time. Without rows it
// has one column.
func (s *Session) Rows(rows ...[]any) {
	first := []any{""}
	if len(rows) > 0 {
		first = rows[0]
	}
	d := &pgproto3.RowDescription{}
	for i := range first {
		f := pgproto3.FieldDescription{Name: fmt.Append(nil, "c", i), DataTypeOID: pgtype.TextOID, DataTypeSize: -1, TypeModifier: -1}
		for _, row := range rows {
			switch row[i].(type) {
			case bool:
				f.DataTypeOID = pgtype.BoolOID
			case int, int64:
				f.DataTypeOID = pgtype.Int8OID
			case time.Time:
				f.DataTypeOID = pgtype.TimestamptzOID
			}
		}
		d.Fields = append(d.Fields, f)
	}
	s.backend.Send(d)
	for _, row := range rows {
		m := &pgproto3.DataRow{}
		for _, v := range row {
			m.Values = append(m.Values, text(v))
		}
		s.backend.Send(m)
	}
	s.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT")})
}

// text is a value in PostgreSQL's text format.
func text(v any) []byte {
	switch v := v.(type) {
	case nil:
		return nil
	case bool:
		if v {
			return []byte("t")
		}
		return []byte("f")
	case time.Time:
		return []byte(v.UTC().Format("2006-01-02 15:04:05.999999-07"))
	}
	return fmt.Append(nil, v)
}

// Copy sends a message of the replication protocol.
func (s *Session) Copy(m replication.Message) {
	s.Send(&pgproto3.CopyData{Data: m.Encode(nil)})
}

// Status waits for the client's next status update. It returns false when the client ends the stream instead.
func (s *Session) Status() (replication.StandbyStatusUpdate, bool) {
	var status replication.StandbyStatusUpdate
	switch m := s.Receive().(type) {
	case *pgproto3.CopyData:
		s.must(status.Decode(m.Data))
		return status, true
	case *pgproto3.CopyDone:
		return status, false
	}
	s.HangUp()
	return status, false
}
