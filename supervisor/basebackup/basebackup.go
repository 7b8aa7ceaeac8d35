// Package basebackup takes base backups of a primary or a standby: over the replication protocol, or by reading the server's
// files.
package basebackup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/backup/volume"
	"walkeep/common/cli"
	"walkeep/common/codec"
	"walkeep/common/notes"
	"walkeep/common/sealed"
	"walkeep/common/wal"
	"walkeep/supervisor/pgserver"
)

// Errors of Take, to be found with errors.Is. ErrNotArchived can pass by itself; the others
// recur until the server's state is changed.
var (
	// ErrArchivingOff reports that the server does not archive and no supervisor streams, so that a backup could not
	// be restored.
	ErrArchivingOff = cli.NewError("archive_mode is off on the server and no supervisor streams from it, so the WAL that a backup needs would never be archived",
		"set archive_mode = on and an archive_command that calls archive-cmd with this spool, and restart the server; or run {sync}")
	// ErrNotArchived reports that the WAL that the backup needs was not archived in time.
	ErrNotArchived = cli.NewError("the WAL that the backup needs is not in the archive",
		"check that the server's archive_command calls archive-cmd with this spool, and read what the server's log reports about it; or raise --archive-timeout")
	// ErrName reports that a file in the server's data directory has a name that a backup cannot contain.
	ErrName = cli.NewError("a file in the server's data directory has a name that cannot be backed up, with a backslash or too long",
		"move it out of the data directory, or rename it: no file of PostgreSQL's own has such a name")
	// ErrChecksum reports that pages are damaged on the server.
	ErrChecksum = cli.NewError("page checksums are wrong on the server",
		"the database is damaged: keep the older backups, and look for the cause before it spreads; --page-errors warn takes a backup that is marked")
)

// The ways by which files come, as values of [Options.From].
const (
	FromFiles  = "files"  // the files of the data directory are read on this host
	FromStream = "stream" // the server sends them
	FromAuto   = "auto"   // files where that is possible
)

// Options describe how to take a backup.
type Options struct {
	Conninfo       string
	From           string        // one of FromFiles, FromStream and FromAuto
	PGData         string        // the server's data directory on this host; empty: where the server says that it is
	Fast           bool          // checkpoint at once
	PageErrors     bool          // take a backup despite pages with wrong checksums, and mark it
	MaxRate        int64         // bytes per second that are read at most; 0: no limit
	ArchiveTimeout time.Duration // how long to wait for WAL after the last file
	Codec          codec.Codec
	Level          int
	Workers        int // cores that compress, and readers of files
	Tool           string
	Recipients     *sealed.Recipients // for whom the files are encrypted; nil: they are not
	// Begin is called when the first file is about to come, with an estimate of the bytes of all; Progress with the plain
	// bytes that were stored since the last call; Notice with warnings of the server or about its files; Detail with the reason
	// why FromAuto does not read files; Waiting when all files are
	// stored and Take waits for WAL; Newer with a warning about a server of an unknown version. All are optional.
	Begin    func(bytes int64)
	Progress func(bytes int64)
	Notice   func(message string)
	Detail   func(message string)
	Waiting  func(last wal.Name)
	Newer    func(message string)
	// Spool is the archive into which the server archives, if WAL comes from there into the one that Take stores the backup in;
	// nil if it is the same.
	Spool *archive.Archive
	// Ship copies what Spool holds into the archive. It is called as long as WAL is missing there; nil: another process ships.
	Ship func(ctx context.Context) error
	// Histories archives the histories of the server's timelines. It is called when the archive is bound to the
	// cluster. Optional.
	Histories func(ctx context.Context, conninfo string) error
}

// A taker takes one backup.
type taker struct {
	Options
	a      *archive.Archive
	sql    *pgserver.Conn
	server pgserver.Info
	held   *notes.Held
	began  time.Time
	id     string
	here   string // the conninfo of the connected server, of those that Conninfo may name

	mu     sync.Mutex
	broken []string // warnings about page checksums
}

// Take takes a full backup. It returns when everything that a restore needs is in the archive. If it fails, it
// removes what it has stored of the backup; in a repository that is left to cleanup. Backups may be taken concurrently.
func Take(ctx context.Context, a *archive.Archive, o Options) (*backup.Manifest, error) {
	t := &taker{Options: o, a: a}
	for _, f := range []*func(int64){&t.Begin, &t.Progress} {
		if *f == nil {
			*f = func(int64) {}
		}
	}
	for _, f := range []*func(string){&t.Notice, &t.Detail} {
		if *f == nil {
			*f = func(string) {}
		}
	}
	if t.Waiting == nil {
		t.Waiting = func(wal.Name) {}
	}
	var err error
	if t.sql, err = pgserver.Connect(ctx, o.Conninfo); err != nil {
		return nil, err
	}
	t.here = t.sql.Here()
	defer func() { t.sql.Close(context.WithoutCancel(ctx)) }()
	if err := t.prepare(ctx); err != nil {
		return nil, err
	}
	defer t.held.Release()
	m, err := t.take(ctx)
	if err != nil {
		switch left := a.RemoveBackup(context.WithoutCancel(ctx), t.id); {
		case errors.Is(left, archive.ErrLeft):
			err = fmt.Errorf("%w (what was stored of backup %s stays until cleanup removes it)", err, t.id)
		case left != nil:
			err = fmt.Errorf("%w (and its stored files could not be removed: %w)", err, left)
		}
		return nil, err
	}
	return m, nil
}

// prepare examines the server and the archive, and takes an id and a lease.
func (t *taker) prepare(ctx context.Context) error {
	var err error
	if t.server, err = t.sql.Info(ctx); err != nil {
		return err
	}
	if newer := pgserver.Newer(t.server.Major); newer != "" && t.Newer != nil {
		t.Newer(newer)
	}
	if t.server.ArchiveMode == "off" && !t.server.InRecovery {
		if streams, err := t.streams(ctx); err != nil || !streams {
			return errors.Join(err, ErrArchivingOff)
		}
	}
	if err := t.a.Bind(ctx, archive.Identity{SystemID: t.server.SystemID, SegmentSize: t.server.SegmentSize}); err != nil {
		return err
	}
	if t.Histories != nil && t.server.Timeline > 1 {
		if err := t.Histories(ctx, t.here); err != nil {
			return err
		}
	}
	if t.began, err = t.sql.Clock(ctx); err != nil {
		return err
	}
	var lease notes.Fault
	if err := t.a.SweepBackups(ctx); errors.As(err, &lease) {
		t.Notice("the files of earlier, failed backups stay, because of a lease that cannot be read: " + lease.Error())
	} else if err != nil {
		return err
	}
	if t.held, err = t.a.HoldBackup(ctx, t.began); err != nil {
		return err
	}
	t.id = t.held.Lease().Backup
	return nil
}

// streamAge is the age of a stream's last note up to which the stream counts as running.
const streamAge = time.Minute

// streams reports whether a supervisor streams the server's WAL into the archive.
func (t *taker) streams(ctx context.Context) (bool, error) {
	streams, _, err := t.archives()[0].Notes().Streams(ctx)
	return slices.ContainsFunc(streams, func(s notes.Stream) bool { return !s.Ended && time.Since(s.Heard) < streamAge }), err
}

func (t *taker) take(ctx context.Context) (*backup.Manifest, error) {
	w := volume.NewWriter(t.a.Backend(), t.id, volume.Options{
		Codec: t.Codec, Level: t.Level, Workers: t.Workers, Tool: t.Tool, Progress: t.Progress, Held: t.held.Check,
		Recipients: t.Recipients,
	})
	t.note(ctx)
	f, err := t.open(ctx)
	if err != nil {
		return nil, err
	}
	m, err := t.store(ctx, w, f)
	f.close()
	if err != nil {
		return nil, err
	}
	if t.sql.IsClosed() {
		if t.sql, err = pgserver.Connect(ctx, t.here); err != nil {
			return nil, err
		}
	}
	if m.Ended, err = t.sql.Clock(ctx); err != nil {
		return nil, err
	}
	if err := t.waitArchived(ctx, m); err != nil {
		return nil, err
	}
	return m, w.Commit(ctx, m)
}

// archives returns those that the server's WAL comes to, in this order.
func (t *taker) archives() []*archive.Archive {
	if t.Spool != nil {
		return []*archive.Archive{t.Spool, t.a}
	}
	return []*archive.Archive{t.a}
}

// note records in the archives which timeline the server is on, unless it is a standby. A failure does not prevent the
// backup.
func (t *taker) note(ctx context.Context) {
	for _, a := range t.archives() {
		newest, err := a.Newest(ctx)
		if err != nil || t.server.InRecovery {
			return
		}
		if tli, at, err := t.sql.WritesTo(ctx); err == nil {
			_ = a.Notes().NoteServer(ctx, notes.Server{SystemID: t.server.SystemID, Timeline: tli, LSN: at, Newest: newest})
		}
	}
}

// backupLabel names the backup in backup_label.
const backupLabel = "walkeep"

// backUp says what has failed.
func backUp(err error) error { return fmt.Errorf("back up: %w", err) }

// checksumWarning begins the server's warnings about pages, which name the file. The later error does not.
const checksumWarning = "checksum verification failed"

func (t *taker) notice(message string) {
	if strings.HasPrefix(message, checksumWarning) {
		t.badPage(message)
		return
	}
	t.Notice("the server reports: " + message)
}

// maxPageErrors limits the messages about pages in a manifest.
const maxPageErrors = 100

// brokenPages returns an error that names the first file with broken pages; nil if there is none.
func (t *taker) brokenPages() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch n := len(t.broken); n {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("%w: %s", ErrChecksum, t.broken[0])
	default:
		return fmt.Errorf("%w: %s, and %d more", ErrChecksum, t.broken[0], n-1)
	}
}
