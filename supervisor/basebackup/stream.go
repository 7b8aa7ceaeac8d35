package basebackup

import (
	"context"

	"walkeep/common/backup"
	"walkeep/common/backup/volume"
	"walkeep/supervisor/replication"
)

// A stream is a feed of the files that the server sends over the replication protocol.
type stream struct {
	source
	conn        *replication.Conn
	stop        func() bool
	tablespaces []backup.Tablespace
	bytes       int64
}

// openStream makes the server begin to send.
func (t *taker) openStream(ctx context.Context) (_ feed, err error) {
	conn, err := replication.Connect(ctx, t.here, t.notice)
	if err != nil {
		return nil, err
	}
	f := &stream{conn: conn}
	// Reading the stream ignores ctx; closing the connection ends the reading, and the server's side.
	f.stop = context.AfterFunc(ctx, conn.Abort)
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	s, err := conn.BaseBackup(replication.BackupOptions{Label: backupLabel, Fast: t.Fast, MaxRate: t.MaxRate})
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, backUp(err)
	}
	s.AcceptBadPages = t.PageErrors
	f.source = source{s: s, known: make(map[string]bool)}
	for _, ts := range s.Tablespaces {
		f.bytes += ts.Bytes
		if ts.OID != 0 {
			at := backup.Tablespace{OID: ts.OID, Location: ts.Location}
			if err := at.Check(); err != nil {
				return nil, err
			}
			f.tablespaces = append(f.tablespaces, at)
		}
	}
	return f, nil
}

func (f *stream) sources() []volume.Source { return []volume.Source{&f.source} }

func (f *stream) begin() (replication.Position, []backup.Tablespace, int64) {
	return f.s.Start, f.tablespaces, f.bytes
}

func (f *stream) end() (replication.Position, []byte) { return f.s.End, f.label }

func (f *stream) reason(err error) error { return err }

func (f *stream) method() string { return FromStream }

func (f *stream) close() {
	f.stop()
	f.conn.Close(context.Background())
}
