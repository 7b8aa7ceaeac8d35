package basebackup

import (
	"context"
	"fmt"
	"strings"

	"walkeep/common/backup"
	"walkeep/common/backup/volume"
	"walkeep/common/notes"
	"walkeep/common/wal"
	"walkeep/supervisor/replication"
)

// A feed is where a backup's files come from. It has begun when it is made.
type feed interface {
	// sources yield the files, and are read at the same time.
	sources() []volume.Source
	// begin returns where the backup begins, its tablespaces, and an estimate of its bytes.
	begin() (replication.Position, []backup.Tablespace, int64)
	// end returns where the backup ended and its backup_label, when all sources have returned io.EOF.
	end() (end replication.Position, label []byte)
	// reason returns the error behind one that the feed has returned, if it knows more.
	reason(err error) error
	// method is what the manifest says about the feed.
	method() string
	close()
}

// open begins a backup by the way that the options choose.
func (t *taker) open(ctx context.Context) (feed, error) {
	if t.From != FromStream {
		f, unfit, err := t.openFiles(ctx)
		switch {
		case err != nil || f != nil:
			return f, err
		case t.From == FromFiles:
			return nil, unfit
		}
		t.Detail(fmt.Sprintf("the server sends the files: %v", unfit))
	}
	// A firewall may drop a connection that is idle while files are sent.
	t.sql.Close(context.WithoutCancel(ctx))
	return t.openStream(ctx)
}

// store stores the files of a feed.
func (t *taker) store(ctx context.Context, w *volume.Writer, f feed) (*backup.Manifest, error) {
	fail := func(err error) error {
		switch broken := t.brokenPages(); {
		case ctx.Err() != nil:
			return ctx.Err()
		case broken != nil && !t.PageErrors:
			return broken
		}
		if strings.Contains(err.Error(), "too long for tar format") {
			return fmt.Errorf("%w: %w", ErrName, err)
		}
		return fmt.Errorf("back up: %w", f.reason(err))
	}
	start, tablespaces, bytes := f.begin()
	if err := t.held.Change(ctx, func(l *notes.Lease) { l.Timeline, l.LSN = start.Timeline, start.LSN }); err != nil {
		return nil, err
	}
	m := &backup.Manifest{
		Type: "full", Method: f.method(), Server: t.server.Version, Major: t.server.Major, Standby: t.server.InRecovery, Checksum: t.server.Checksums,
		SystemID: t.server.SystemID, SegmentSize: t.server.SegmentSize, Timeline: start.Timeline, Start: start.LSN, Began: t.began,
		Tablespaces: append([]backup.Tablespace{}, tablespaces...),
	}
	if backup.LeastIndex(bytes) > backup.MaxIndex {
		return nil, fmt.Errorf("%w: the server has about %d bytes of files", backup.ErrTooLarge, bytes)
	}
	t.Begin(bytes)
	if err := w.Add(ctx, f.sources()...); err != nil {
		return nil, fail(err)
	}
	switch broken := t.brokenPages(); {
	case broken != nil && !t.PageErrors:
		return nil, broken
	case broken != nil:
		t.Notice(broken.Error())
		m.PageErrors = t.broken[:min(len(t.broken), maxPageErrors)]
	}
	end, label := f.end()
	switch {
	case end.Timeline != start.Timeline:
		return nil, fmt.Errorf("the server changed from timeline %d to %d during the backup: take the backup again", start.Timeline, end.Timeline)
	case len(label) == 0:
		return nil, fmt.Errorf("the server has sent no %s", labelFile)
	}
	m.Stop, m.Label = end.LSN, string(label)
	return m, nil
}

// A position in WAL.
func position(at wal.LSN, timeline wal.Timeline) replication.Position {
	return replication.Position{Timeline: timeline, LSN: at}
}
