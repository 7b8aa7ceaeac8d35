package replication

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// BackupOptions are the parameters of a base backup.
type BackupOptions struct {
	Label   string // one line without quotes
	Fast    bool   // the server writes its checkpoint at once
	MaxRate int64  // bytes per second that the server sends at most; 0: no limit
}

// command returns the BASE_BACKUP command for a server of this major version. The server does not wait until the WAL is
// archived: only the archive can confirm that. Tablespaces come as archives of their own, not with a tablespace_map, so that they can be
// restored elsewhere.
//
// Source: [repl_gram.y].
//
// [repl_gram.y]: https://github.com/postgres/postgres/blob/REL_18_STABLE/src/backend/replication/repl_gram.y
func (o BackupOptions) command(major int) string {
	label := "'" + o.Label + "'"
	rate := strconv.FormatInt(o.MaxRate>>10, 10) // kB/s
	if major < 15 {
		words := []string{"BASE_BACKUP LABEL", label, "PROGRESS"}
		if o.Fast {
			words = append(words, "FAST")
		}
		words = append(words, "NOWAIT")
		if o.MaxRate > 0 {
			words = append(words, "MAX_RATE", rate)
		}
		if major >= 13 {
			words = append(words, "MANIFEST 'yes'")
		}
		return strings.Join(words, " ")
	}
	checkpoint := "'spread'"
	if o.Fast {
		checkpoint = "'fast'"
	}
	options := []string{"LABEL " + label, "PROGRESS", "CHECKPOINT " + checkpoint, "WAIT 0", "MANIFEST 'yes'"}
	if o.MaxRate > 0 {
		options = append(options, "MAX_RATE "+rate)
	}
	return "BASE_BACKUP (" + strings.Join(options, ", ") + ")"
}

// A Tablespace is one that the server is going to send. OID 0 is the data directory itself.
type Tablespace struct {
	OID      uint32
	Location string // on the server; empty for the data directory
	Bytes    int64  // estimated by the server
}

// A Backup is a base backup while it is received: [Backup.Next] goes to the next part, [Backup.Read] reads it. It is not
// safe for concurrent use. Its methods wait for the server until [Conn.Abort] is called.
type Backup struct {
	Start       Position
	End         Position // set when Next has returned io.EOF
	Tablespaces []Tablespace
	// AcceptBadPages makes Next ignore the error with which the server ends a complete backup that contains pages with wrong
	// checksums.
	AcceptBadPages bool

	conn  *Conn
	major int
	data  []byte // of the message that is being read
	done  bool   // the COPY was read to its end
	begun int    // up to 14: number of COPYs that were begun
	next  *Part  // from 15 on: the part that was announced and is not being read yet
	copy  bool   // from 15 on: the one COPY was begun
}

// A Part is one of those that follow each other in a backup: a tar archive of a tablespace, or the backup manifest.
type Part struct {
	Tablespace Tablespace // of an archive
	Manifest   bool
}

// BaseBackup makes the server begin a base backup, and returns when the server has announced what it is going to send. That
// can take as long as a checkpoint.
func (c *Conn) BaseBackup(o BackupOptions) (*Backup, error) {
	b := &Backup{conn: c, major: c.Major()}
	if err := c.send(&pgproto3.Query{String: o.command(b.major)}); err != nil {
		return nil, err
	}
	var err error
	if b.Start, err = b.position(); err != nil {
		return nil, err
	}
	rows, err := b.rows()
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		t, err := parseTablespace(row)
		if err != nil {
			return nil, err
		}
		b.Tablespaces = append(b.Tablespaces, t)
	}
	if len(b.Tablespaces) == 0 {
		return nil, errors.New("the server sends no data directory")
	}
	return b, nil
}

func parseTablespace(row []string) (t Tablespace, err error) {
	if len(row) != 3 {
		return t, fmt.Errorf("the server describes a tablespace as %q", row)
	}
	if row[0] != "" {
		oid, err := strconv.ParseUint(row[0], 10, 32)
		if err != nil {
			return t, fmt.Errorf("the server describes a tablespace as %q", row)
		}
		t.OID, t.Location = uint32(oid), row[1]
	}
	if kilobytes, err := strconv.ParseInt(row[2], 10, 64); err == nil {
		t.Bytes = kilobytes << 10
	}
	return t, nil
}

func (b *Backup) receive() (pgproto3.BackendMessage, error) {
	return b.conn.receive(context.Background())
}

// rows reads one result set.
func (b *Backup) rows() ([][]string, error) {
	var rows [][]string
	for {
		m, err := b.receive()
		if err != nil {
			return nil, err
		}
		switch m := m.(type) {
		case *pgproto3.RowDescription:
		case *pgproto3.DataRow:
			rows = append(rows, texts(m.Values))
		case *pgproto3.CommandComplete:
			return rows, nil
		default:
			return nil, fmt.Errorf("the server sends %T among rows", m)
		}
	}
}

// position reads a result set that holds a position.
func (b *Backup) position() (Position, error) {
	rows, err := b.rows()
	if err != nil {
		return Position{}, err
	}
	if len(rows) != 1 || len(rows[0]) < 2 {
		return Position{}, fmt.Errorf("the server gives %q as a position", rows)
	}
	return parsePosition(rows[0][1], rows[0][0])
}

// Next goes to the next part, after the current one was read to its end. It returns [io.EOF] when all parts were read; then
// End is set.
func (b *Backup) Next() (Part, error) {
	if b.major < 15 {
		return b.nextCopy()
	}
	if !b.copy {
		if err := b.beginCopy(); err != nil {
			return Part{}, err
		}
		b.copy = true
	}
	for b.next == nil {
		if b.done {
			return Part{}, b.finish()
		}
		if data, err := b.message(); err != nil && !errors.Is(err, io.EOF) {
			return Part{}, err
		} else if len(data) > 0 {
			return Part{}, errors.New("the server sends bytes of an archive that it has not begun")
		}
	}
	p := *b.next
	b.next = nil
	return p, nil
}

// nextCopy is Next up to version 14, where each part is a COPY.
func (b *Backup) nextCopy() (Part, error) {
	parts := len(b.Tablespaces)
	if b.major >= 13 {
		parts++
	}
	if b.begun == parts {
		return Part{}, b.finish()
	}
	if err := b.beginCopy(); err != nil {
		return Part{}, err
	}
	b.begun++
	b.done = false
	if b.begun > len(b.Tablespaces) {
		return Part{Manifest: true}, nil
	}
	return Part{Tablespace: b.Tablespaces[b.begun-1]}, nil
}

func (b *Backup) beginCopy() error {
	m, err := b.receive()
	if err != nil {
		return err
	}
	if _, ok := m.(*pgproto3.CopyOutResponse); !ok {
		return fmt.Errorf("the server sends %T instead of an archive", m)
	}
	return nil
}

// Read reads the current part. It returns [io.EOF] at its end.
func (b *Backup) Read(p []byte) (int, error) {
	for len(b.data) == 0 {
		var err error
		if b.data, err = b.message(); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.data)
	b.data = b.data[n:]
	return n, nil
}

// message returns the next bytes of the current part, which may be none; io.EOF at its end.
func (b *Backup) message() ([]byte, error) {
	if b.next != nil || b.done {
		return nil, io.EOF
	}
	m, err := b.receive()
	if err != nil {
		return nil, err
	}
	switch m := m.(type) {
	case *pgproto3.CopyData:
		if b.major < 15 {
			return m.Data, nil
		}
		return b.typed(m.Data)
	case *pgproto3.CopyDone:
		b.done = true
		return nil, io.EOF
	}
	return nil, fmt.Errorf("the server sends %T in the middle of the backup", m)
}

// typed is message for the one COPY of version 15 and later.
func (b *Backup) typed(data []byte) ([]byte, error) {
	m, err := decodeBackup(data)
	if err != nil {
		return nil, err
	}
	switch m := m.(type) {
	case *ArchiveData:
		return m.Data, nil
	case *NewArchive:
		if b.next, err = b.part(m.Name); err != nil {
			return nil, err
		}
		return nil, io.EOF
	case *ManifestStart:
		b.next = &Part{Manifest: true}
		return nil, io.EOF
	}
	return nil, nil // progress
}

// part returns the part whose archive has this name.
func (b *Backup) part(name string) (*Part, error) {
	for _, t := range b.Tablespaces {
		if t.OID == 0 && name == "base.tar" || t.OID != 0 && name == fmt.Sprintf("%d.tar", t.OID) {
			return &Part{Tablespace: t}, nil
		}
	}
	return nil, fmt.Errorf("the server sends an archive %q that it has not announced", name)
}

// finish reads the end position and the rest of the answer, and returns io.EOF. A server that has found wrong checksums
// reports them as an error behind the end position (perform_base_backup in PostgreSQL's basebackup.c).
func (b *Backup) finish() error {
	var err error
	if b.End, err = b.position(); err != nil {
		return err
	}
	for {
		m, err := b.receive()
		if b.AcceptBadPages && HasCode(err, DataCorrupted) {
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
