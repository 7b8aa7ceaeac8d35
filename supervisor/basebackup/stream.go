package basebackup

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"walkeep/common/wal"
)

// request is the command BASE_BACKUP for a server of this major version. The server is not to wait until WAL is
// archived: whether the archive has it is for the archive to say. Tablespaces are sent as links and archives of their
// own, not as a tablespace_map, so that they can be restored elsewhere.
//
// Source: [repl_gram.y].
//
// [repl_gram.y]: https://github.com/postgres/postgres/blob/REL_18_STABLE/src/backend/replication/repl_gram.y
func request(major int, fast bool, maxRate int64) string {
	label := "'walkeep'"
	rate := strconv.FormatInt(maxRate>>10, 10) // kB/s
	if major < 15 {
		words := []string{"BASE_BACKUP LABEL", label, "PROGRESS"}
		if fast {
			words = append(words, "FAST")
		}
		words = append(words, "NOWAIT")
		if maxRate > 0 {
			words = append(words, "MAX_RATE", rate)
		}
		if major >= 13 {
			words = append(words, "MANIFEST 'yes'")
		}
		return strings.Join(words, " ")
	}
	checkpoint := "'spread'"
	if fast {
		checkpoint = "'fast'"
	}
	options := []string{"LABEL " + label, "PROGRESS", "CHECKPOINT " + checkpoint, "WAIT 0", "MANIFEST 'yes'"}
	if maxRate > 0 {
		options = append(options, "MAX_RATE "+rate)
	}
	return "BASE_BACKUP (" + strings.Join(options, ", ") + ")"
}

// A position is where in the WAL a backup begins or ends.
type position struct {
	lsn wal.LSN
	tli wal.Timeline
}

// A tablespace is what the server is going to send. The one with OID 0 is the data directory itself.
type tablespace struct {
	oid      uint32
	location string
	bytes    int64 // estimated
}

// A stream is the server's answer to BASE_BACKUP: positions, archives, positions.
type stream struct {
	conn        *pgconn.PgConn
	major       int
	begin       position
	end         position
	tablespaces []tablespace

	data     []byte  // of the message that is being read
	next     int     // up to 14: number of archives that were begun
	manifest bool    // what is being read is the server's backup_manifest
	pending  *string // from 15 on: name of the archive that begins next
	inCopy   bool    // from 15 on: the one COPY was begun
	damaged  bool    // an error about page checksums, which comes after all else, does not count
	done     bool    // the COPY was read to its end
}

// start sends the command and reads what comes before the first archive.
func start(conn *pgconn.PgConn, major int, command string) (*stream, error) {
	s := &stream{conn: conn, major: major}
	conn.Frontend().Send(&pgproto3.Query{String: command})
	if err := conn.Frontend().Flush(); err != nil {
		return nil, err
	}
	rows, err := s.rows()
	if err != nil {
		return nil, err
	}
	if s.begin, err = readPosition(rows); err != nil {
		return nil, err
	}
	if rows, err = s.rows(); err != nil {
		return nil, err
	}
	for _, row := range rows {
		t, err := readTablespace(row)
		if err != nil {
			return nil, err
		}
		s.tablespaces = append(s.tablespaces, t)
	}
	if len(s.tablespaces) == 0 {
		return nil, errors.New("the server sends no data directory")
	}
	return s, nil
}

func readPosition(rows [][]string) (p position, err error) {
	if len(rows) != 1 || len(rows[0]) < 2 {
		return p, fmt.Errorf("the server gives no position: %q", rows)
	}
	if p.lsn, err = wal.ParseLSN(rows[0][0]); err != nil {
		return p, err
	}
	tli, err := strconv.ParseUint(rows[0][1], 10, 32)
	p.tli = wal.Timeline(tli)
	return p, err
}

func readTablespace(row []string) (t tablespace, err error) {
	if len(row) != 3 {
		return t, fmt.Errorf("the server describes a tablespace as %q", row)
	}
	if row[0] != "" {
		oid, err := strconv.ParseUint(row[0], 10, 32)
		if err != nil {
			return t, fmt.Errorf("the server describes a tablespace as %q", row)
		}
		t.oid, t.location = uint32(oid), row[1]
	}
	if kilobytes, err := strconv.ParseInt(row[2], 10, 64); err == nil {
		t.bytes = kilobytes << 10
	}
	return t, nil
}

// receive gives the next message that is not a notice, and turns the server's errors into Go's.
func (s *stream) receive() (pgproto3.BackendMessage, error) {
	for {
		// Whoever reads the stream ends the wait by ending the connection: to watch a context for each of so many messages
		// costs more than their contents.
		m, err := s.conn.ReceiveMessage(context.Background())
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

// rows reads one result set; NULL is the empty text.
func (s *stream) rows() ([][]string, error) {
	var rows [][]string
	for {
		m, err := s.receive()
		if err != nil {
			return nil, err
		}
		switch m := m.(type) {
		case *pgproto3.RowDescription:
		case *pgproto3.DataRow:
			row := make([]string, len(m.Values))
			for i, v := range m.Values {
				row[i] = string(v)
			}
			rows = append(rows, row)
		case *pgproto3.CommandComplete:
			return rows, nil
		default:
			return nil, fmt.Errorf("the server sends %T among rows", m)
		}
	}
}

// A part is one of those that follow each other in the stream.
type part struct {
	tablespace tablespace
	manifest   bool // it is no tar archive but the server's backup_manifest
}

// nextPart comes to the next part; io.EOF when all were read, and the end position is known.
func (s *stream) nextPart() (part, error) {
	if s.major < 15 {
		return s.nextCopy()
	}
	if !s.inCopy {
		m, err := s.receive()
		if err != nil {
			return part{}, err
		}
		if _, ok := m.(*pgproto3.CopyOutResponse); !ok {
			return part{}, fmt.Errorf("the server sends %T instead of the backup", m)
		}
		s.inCopy = true
	}
	for s.pending == nil {
		if s.done {
			return part{}, s.finish()
		}
		if _, err := s.message(); err != nil && !errors.Is(err, io.EOF) {
			return part{}, err
		}
	}
	name := *s.pending
	s.pending = nil
	if s.manifest {
		return part{manifest: true}, nil
	}
	if name == "base.tar" {
		return part{}, nil
	}
	for _, t := range s.tablespaces {
		if t.oid != 0 && name == fmt.Sprintf("%d.tar", t.oid) {
			return part{tablespace: t}, nil
		}
	}
	return part{}, fmt.Errorf("the server sends an archive %q that it has not announced", name)
}

// nextCopy is nextPart up to 14: each archive, and the manifest, is a COPY of its own.
func (s *stream) nextCopy() (part, error) {
	if s.next == len(s.tablespaces) && s.major < 13 || s.next == len(s.tablespaces)+1 {
		return part{}, s.finish()
	}
	m, err := s.receive()
	if err != nil {
		return part{}, err
	}
	if _, ok := m.(*pgproto3.CopyOutResponse); !ok {
		return part{}, fmt.Errorf("the server sends %T instead of an archive", m)
	}
	s.next++
	s.done = false
	if s.next > len(s.tablespaces) {
		return part{manifest: true}, nil
	}
	return part{tablespace: s.tablespaces[s.next-1]}, nil
}

// Read reads the current archive; io.EOF at its end.
func (s *stream) Read(p []byte) (int, error) {
	for len(s.data) == 0 {
		var err error
		if s.data, err = s.message(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.data)
	s.data = s.data[n:]
	return n, nil
}

// message reads the archive's next bytes, which may be none; io.EOF at its end.
func (s *stream) message() ([]byte, error) {
	if s.pending != nil || s.done {
		return nil, io.EOF
	}
	m, err := s.receive()
	if err != nil {
		return nil, err
	}
	switch m := m.(type) {
	case *pgproto3.CopyData:
		if s.major < 15 {
			return m.Data, nil
		}
		return s.typed(m.Data)
	case *pgproto3.CopyDone:
		s.done = true
		return nil, io.EOF
	}
	return nil, fmt.Errorf("the server sends %T in the middle of the backup", m)
}

// typed takes a message of the one COPY that 15 and later send.
func (s *stream) typed(b []byte) ([]byte, error) {
	if len(b) == 0 {
		return nil, errors.New("the server sends an empty message")
	}
	switch b[0] {
	case 'd':
		return b[1:], nil
	case 'n':
		name, _, ok := bytes.Cut(b[1:], []byte{0})
		if !ok {
			return nil, errors.New("the server sends an archive without a name")
		}
		begun := string(name)
		s.pending, s.manifest = &begun, false
		return nil, io.EOF
	case 'm':
		var none string
		s.pending, s.manifest = &none, true
		return nil, io.EOF
	case 'p':
		if len(b) != 1+binary.Size(int64(0)) {
			return nil, errors.New("the server sends a broken message of progress")
		}
		return nil, nil
	}
	return nil, fmt.Errorf("the server sends a message of unknown type %q", b[0])
}

// dataCorrupted is the SQLSTATE with which a server ends a backup that it has sent to its end, some pages of which have wrong
// checksums (perform_base_backup in PostgreSQL's basebackup.c).
const dataCorrupted = "XX001"

// finish reads the end position and what is left of the answer, and gives io.EOF.
func (s *stream) finish() error {
	rows, err := s.rows()
	if err != nil {
		return err
	}
	if s.end, err = readPosition(rows); err != nil {
		return err
	}
	for {
		m, err := s.receive()
		if failed := new(pgconn.PgError); s.damaged && errors.As(err, &failed) && failed.Code == dataCorrupted {
			continue
		}
		if err != nil {
			return err
		}
		if _, ok := m.(*pgproto3.ReadyForQuery); ok {
			return io.EOF
		}
	}
}
