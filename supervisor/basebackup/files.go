package basebackup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"walkeep/common/backup"
	"walkeep/common/backup/volume"
	"walkeep/common/cli"
	"walkeep/common/pgdata"
	"walkeep/common/wal"
	"walkeep/supervisor/filebackup"
	"walkeep/supervisor/pgserver"
	"walkeep/supervisor/replication"
)

// ErrNoFiles reports that the files of the server cannot be read here for a backup. It recurs until what its text names is
// changed.
var ErrNoFiles = errors.New("the server's files cannot be read for a backup")

// unfit returns an ErrNoFiles with the reason and what can be done.
func unfit(hint, format string, args ...any) error {
	return cli.Hinted(fmt.Errorf("%w: %w", ErrNoFiles, fmt.Errorf(format, args...)), cli.Expand(hint+"; or let the server send them with --backup-from stream"))
}

// aliveInterval is how often the session is used during a backup, so that a lost connection is noticed and no firewall drops it.
const aliveInterval = 5 * time.Second

// files is a feed of the files in the data directory, which it reads itself.
type files struct {
	*filebackup.Source
	t       *taker
	ctx     context.Context // cancelled with a cause when the session is lost
	cancel  context.CancelCauseFunc
	watched chan struct{} // closed when the session is not used by watch any more
	unwatch context.CancelFunc
	start   replication.Position
	stop    pgserver.BackupEnd
	bytes   int64
	mode    uint32       // permissions of backup_label
	running atomic.Int32 // lanes that have not ended
}

const (
	// maxLanes is how many volumes are written at the same time: two keep the cores busy, because each is compressed by
	// several of them.
	maxLanes = 2
	// laneBytes is the size of a cluster for which a second volume is worth it.
	laneBytes = 16 << 20
)

// A lane is a source of a part of the files. The one that ends last yields what comes behind all others.
type lane struct {
	*filebackup.Lane
	f    *files
	last bool                                     // it has begun with the end
	tail []func() (backup.File, io.Reader, error) // what is left of the end
}

// openFiles begins a backup of files. unfit is the reason if that is not possible here.
func (t *taker) openFiles(ctx context.Context) (_ feed, unfit, err error) {
	dir, unfit, err := t.findFiles(ctx)
	if unfit != nil || err != nil {
		return nil, unfit, err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, nil, err
	}
	layout, err := t.sql.FileLayout(ctx)
	if err != nil {
		return nil, nil, err
	}
	at, timeline, err := t.sql.StartBackup(ctx, t.server.Major, backupLabel, t.Fast)
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	if err != nil {
		return nil, nil, backUp(err)
	}
	f := &files{t: t, watched: make(chan struct{}), start: position(at, timeline), mode: uint32(info.Mode().Perm()) & 0o640}
	f.ctx, f.cancel = context.WithCancelCause(ctx)
	f.Source, err = filebackup.Open(f.ctx, filebackup.Options{
		Dir: dir, Major: t.server.Major, Start: at, Checksums: t.server.Checksums, PageSize: layout.PageSize, FilePages: layout.FilePages,
		StatsDir: layout.StatsDir, Readers: t.Workers, MaxRate: t.MaxRate, Notice: t.Notice, BadPage: t.badPage,
	})
	if err != nil {
		f.cancel(nil)
		return nil, nil, backUp(err)
	}
	watch, unwatch := context.WithCancel(ctx)
	f.unwatch = unwatch
	go f.watch(watch)
	if f.bytes, err = f.Size(); err != nil {
		err = f.reason(err)
		f.close()
		return nil, nil, backUp(err)
	}
	return f, nil, nil
}

// findFiles looks for the data directory of the connected server on this host.
func (t *taker) findFiles(ctx context.Context) (dir string, no, err error) {
	const user = "run {backup} on the server's host as its user, or as a user of its group if the cluster allows group access"
	if dir = t.PGData; dir == "" {
		dir = filepath.FromSlash(t.server.DataDir)
	}
	if dir == "" {
		return "", unfit("name the data directory with --pgdata, or grant pg_monitor to the role", "the server does not say where its data directory is"), nil
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", nil, err
	}
	id, err := pgdata.SystemID(dir)
	switch {
	case err != nil:
		return "", unfit(user, "%w", err), nil
	case id == 0:
		return "", unfit(user, "%s is no data directory of this host", dir), nil
	case id != t.server.SystemID:
		return "", unfit(user+"; and check --pgdata", "%s is the data directory of another cluster", dir), nil
	}
	for _, part := range []string{"", "base", "global", "pg_tblspc", "pg_replslot"} {
		d, err := os.Open(filepath.Join(dir, part))
		if err != nil {
			return "", unfit(user, "%w", err), nil
		}
		d.Close()
	}
	switch role, may, err := t.sql.MayBackUp(ctx, t.server.Major); {
	case err != nil:
		return "", nil, err
	case !may:
		return "", unfit("call "+pgserver.BackupGrant(t.server.Major, role)+" as a superuser, in the database that --conninfo names", "the role %s may not begin a backup", role), nil
	}
	switch lives, err := t.sql.LivesIn(ctx, dir); {
	case ctx.Err() != nil:
		return "", nil, ctx.Err()
	case err != nil:
		return "", unfit("raise max_replication_slots, and let the role have REPLICATION", "whether %s is the server's own data directory cannot be seen: %w", dir, err), nil
	case !lives:
		return "", unfit(user+"; and check --pgdata", "%s is a copy of the server's data directory, or that of another server of the cluster", dir), nil
	}
	return dir, nil, nil
}

// badPage is called by several readers.
func (t *taker) badPage(message string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.broken = append(t.broken, message)
}

// watch uses the session from time to time.
func (f *files) watch(ctx context.Context) {
	defer close(f.watched)
	tick := time.NewTicker(aliveInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := f.t.sql.Alive(f.ctx); err != nil {
			f.cancel(fmt.Errorf("the session in which the backup began was lost, and the backup with it: %w", err))
			return
		}
	}
}

// release ends the watching, so that the session can be used.
func (f *files) release() {
	f.unwatch()
	<-f.watched
}

func (f *files) close() {
	f.cancel(nil)
	f.release()
	f.Source.Close()
}

func (f *files) reason(err error) error {
	if cause := context.Cause(f.ctx); cause != nil && errors.Is(err, context.Canceled) {
		return cause
	}
	return err
}

func (f *files) method() string { return FromFiles }

func (f *files) begin() (replication.Position, []backup.Tablespace, int64) {
	return f.start, f.Tablespaces(), f.bytes
}

func (f *files) end() (replication.Position, []byte) {
	return position(f.stop.LSN, f.stop.Timeline), []byte(f.stop.Label)
}

func (f *files) sources() []volume.Source {
	n := min(maxLanes, f.t.Workers)
	if f.bytes < laneBytes {
		n = 1
	}
	f.running.Store(int32(n))
	var all []volume.Source
	for _, l := range f.Lanes(n) {
		all = append(all, &lane{Lane: l, f: f})
	}
	return all
}

// Next implements [volume.Source].
func (l *lane) Next() (backup.File, io.Reader, error) {
	if !l.last {
		file, r, err := l.Lane.Next()
		if !errors.Is(err, io.EOF) {
			if err == nil && backup.CheckPath(file.Path) != nil {
				err = fmt.Errorf("%w: %s", ErrName, file.Path)
			}
			return file, r, err
		}
		if l.f.running.Add(-1) > 0 {
			return file, nil, io.EOF
		}
		l.last, l.tail = true, l.f.tail()
	}
	if len(l.tail) == 0 {
		return backup.File{}, nil, io.EOF
	}
	next := l.tail[0]
	l.tail = l.tail[1:]
	return next()
}

// tail returns what yields the files behind all others: global/pg_control, then, when the server has ended the backup,
// backup_label and from version 13 on backup_manifest.
func (f *files) tail() []func() (backup.File, io.Reader, error) {
	all := []func() (backup.File, io.Reader, error){f.Control, f.label}
	if f.t.server.Major >= 13 {
		all = append(all, f.manifest)
	}
	return all
}

// label ends the backup on the server, and yields backup_label.
func (f *files) label() (file backup.File, _ io.Reader, err error) {
	f.release()
	if f.stop, err = f.t.sql.StopBackup(f.ctx, f.t.server.Major); err != nil {
		return file, nil, err
	}
	if f.stop.Timeline == f.start.Timeline {
		if f.stop.Timeline, err = labelTimeline(f.stop.Label); err != nil {
			return file, nil, err
		}
	}
	b := []byte(f.stop.Label)
	file = backup.File{Path: labelFile, Mode: f.mode, ModTime: time.Now().UTC().Truncate(time.Second), Size: int64(len(b))}
	return file, f.Content(file, b), nil
}

func (f *files) manifest() (backup.File, io.Reader, error) {
	size, r := f.BackupManifest(filebackup.Manifest{SystemID: f.t.server.SystemID, Timeline: f.start.Timeline, Start: f.start.LSN, End: f.stop.LSN})
	return backup.File{Path: manifestFile, Mode: 0o600, ModTime: time.Now().UTC().Truncate(time.Second), Size: size}, r, nil
}

// labelTimeline returns the timeline of the segment that a backup_label names in its first line.
func labelTimeline(label string) (wal.Timeline, error) {
	first, _, _ := strings.Cut(label, "\n")
	_, name, _ := strings.Cut(first, "(file ")
	if name, found := strings.CutSuffix(name, ")"); found {
		if n, err := wal.ParseName(name); err == nil {
			return n.Timeline, nil
		}
	}
	return 0, fmt.Errorf("the server gives a %s that begins with %q", labelFile, first)
}
