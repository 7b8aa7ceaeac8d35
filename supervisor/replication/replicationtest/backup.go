package replicationtest

import (
	"fmt"

	"github.com/jackc/pgx/v5/pgproto3"

	"walkeep/supervisor/replication"
)

// An Archive is a tar archive of a base backup.
type Archive struct {
	replication.Tablespace
	Tar []byte
}

// A Backup is what a server answers to BASE_BACKUP.
type Backup struct {
	Start, End replication.Position
	Archives   []Archive // the data directory, whose OID is 0, comes last
	Manifest   []byte    // sent from version 13 on
	// Break, unless nil, is called when so many bytes of archives were sent, and may send something else or hang up.
	Break func(s *Session)
	After int

	sent int
}

// chunk is how many bytes of an archive one message holds at most.
const chunk = 32 << 10

// Send sends the backup as a server of a major version does.
func (b *Backup) Send(s *Session, major int) {
	b.sent = 0
	s.Rows([]any{b.Start.LSN.String(), int64(b.Start.Timeline)})
	var rows [][]any
	for _, a := range b.Archives {
		if a.OID == 0 {
			rows = append(rows, []any{nil, nil, a.Bytes >> 10})
			continue
		}
		rows = append(rows, []any{fmt.Sprint(a.OID), a.Location, a.Bytes >> 10})
	}
	s.Rows(rows...)
	if major < 15 {
		for _, a := range b.Archives {
			s.Send(&pgproto3.CopyOutResponse{})
			b.data(s, a.Tar, func(p []byte) { s.Send(&pgproto3.CopyData{Data: p}) })
			s.Send(&pgproto3.CopyDone{})
		}
		if major >= 13 {
			s.Send(&pgproto3.CopyOutResponse{}, &pgproto3.CopyData{Data: b.Manifest}, &pgproto3.CopyDone{})
		}
	} else {
		s.Send(&pgproto3.CopyOutResponse{})
		for _, a := range b.Archives {
			name := replication.NewArchive{Name: "base.tar", Path: a.Location}
			if a.OID != 0 {
				name.Name = fmt.Sprintf("%d.tar", a.OID)
			}
			s.Copy(&name)
			b.data(s, a.Tar, func(p []byte) { s.Copy(&replication.ArchiveData{Data: p}) })
			s.Copy(&replication.BackupProgress{Sent: int64(b.sent)})
		}
		s.Copy(&replication.ManifestStart{})
		s.Copy(&replication.ArchiveData{Data: b.Manifest})
		s.Send(&pgproto3.CopyDone{})
	}
	s.Rows([]any{b.End.LSN.String(), int64(b.End.Timeline)})
	s.Send(&pgproto3.CommandComplete{CommandTag: []byte("BASE_BACKUP")})
}

// data sends an archive in messages, and calls Break in its place.
func (b *Backup) data(s *Session, tar []byte, send func([]byte)) {
	for len(tar) > 0 {
		n := min(len(tar), chunk)
		if b.Break != nil && b.sent <= b.After && b.After < b.sent+n {
			n = b.After - b.sent
			if n > 0 {
				send(tar[:n])
			}
			b.Break(s)
			b.sent, tar = b.sent+n, tar[n:]
			b.Break = nil
			continue
		}
		send(tar[:n])
		b.sent, tar = b.sent+n, tar[n:]
	}
}
