package ship

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/notes"
	"walkeep/common/storage"
	"walkeep/common/wal"
)

// backups are those of the spool, in the eyes of a queue. It is guarded by the queue's mutex.
type backups struct {
	objects int // that wait
	bytes   int64
	whole   map[string]bool // backups that the repository was proven to hold, by their ids
	err     error           // why one cannot be shipped; nil if none
	looked  time.Time       // up to then all is shipped
}

func (b *backups) waiting() (objects int, bytes int64) { return b.objects, b.bytes }

// lookBeside is how often the spool is searched for backups and notes, in looks for WAL.
const lookBeside = 25

// shipBeside ships notes and the finished backups of the spool, beside the WAL.
func (q *queue) shipBeside(ctx context.Context) {
	pause := q.s.Pace.First
	for ctx.Err() == nil {
		var err error
		at, open := time.Now(), q.opened() != nil
		if open {
			if err = q.shipNotes(ctx); err == nil {
				err = q.shipBackups(ctx)
			}
		}
		q.mu.Lock()
		told := q.backups.err != nil
		if q.backups.err = err; open && err == nil {
			q.backups.looked = at
		}
		q.mu.Unlock()
		rest := lookBeside * q.s.Pace.Poll
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if !told {
				q.s.Log.Error("a backup or a note is not shipped yet, and is tried again", "repository", q.Name, "error", err.Error())
			}
			rest = max(rest, pause)
			pause = min(2*pause, q.s.Pace.Longest)
		default:
			pause = q.s.Pace.First
		}
		if !q.s.Follow || sleep(ctx, rest, nil) != nil {
			return
		}
	}
}

// shipBackups ships the finished backups that the spool has now.
func (q *queue) shipBackups(ctx context.Context) error {
	dirs, err := q.s.Spool.Archive.List(ctx, archive.BackupsDir)
	if err != nil {
		return err
	}
	var todo []*backup.Manifest
	objects, bytes := 0, int64(0)
	for _, d := range dirs {
		id := path.Base(d.Name)
		if !d.IsDir() || backup.CheckID(id) != nil || q.holdsBackup(id) {
			continue
		}
		m, err := q.s.Spool.Archive.Manifest(ctx, id)
		if errors.Is(err, storage.ErrNotExist) {
			continue // it is being taken
		}
		if err != nil {
			return err
		}
		todo = append(todo, m)
		objects += len(m.Volumes) + 2
		bytes += m.StoredBytes()
	}
	q.mu.Lock()
	q.backups.objects, q.backups.bytes = objects, bytes
	q.mu.Unlock()
	for _, m := range todo {
		if err := q.shipBackup(ctx, m); err != nil {
			return fmt.Errorf("backup %s: %w", m.ID, err)
		}
		q.mu.Lock()
		q.backups.objects -= len(m.Volumes) + 2
		q.backups.bytes -= m.StoredBytes()
		if q.backups.whole == nil {
			q.backups.whole = make(map[string]bool)
		}
		q.backups.whole[m.ID] = true
		q.mu.Unlock()
		q.s.leave(ctx, m.ID)
	}
	return nil
}

func (q *queue) holdsBackup(id string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.backups.whole[id]
}

// shipBackup copies a backup, its manifest last. A lease in the repository keeps others from taking it for what a killed
// backup has left.
func (q *queue) shipBackup(ctx context.Context, m *backup.Manifest) error {
	var lease *notes.Held
	err := q.call(ctx, 0, func(ctx context.Context, a *archive.Archive) (err error) {
		h, err := a.Notes().Hold(ctx, notes.Lease{Kind: "backup", Backup: m.ID})
		if err == nil {
			lease = h
		}
		return err
	})
	if err != nil {
		return err
	}
	defer q.call(context.WithoutCancel(ctx), 0, func(context.Context, *archive.Archive) error {
		lease.Release() // a credential may not be allowed to; then it ends by its time
		return nil
	})
	dir := backup.Dir(m.ID)
	for _, s := range append(slices.Clone(m.Volumes), m.Index) {
		if err := q.shipPart(ctx, dir+s.Name, s.Stored); err != nil {
			return err
		}
	}
	if err := q.waitForWAL(ctx, m); err != nil {
		return err
	}
	if err := q.shipFindings(ctx, notes.VerifiedName(m.ID)); err != nil {
		return err
	}
	err = q.call(ctx, 0, func(ctx context.Context, _ *archive.Archive) error { return lease.Check(ctx) })
	if err != nil {
		return err
	}
	return q.shipPart(ctx, dir+backup.ManifestName, 0)
}

func (q *queue) shipPart(ctx context.Context, name string, size int64) error {
	done, err := q.copy(ctx, name, size)
	if final(err) {
		q.stop(name, err)
	}
	if err != nil {
		return err
	}
	q.s.progress(size)
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.stuck, name)
	if done.Duplicate {
		q.done.Found++
	} else {
		q.done.Objects++
		q.done.Bytes += done.Stored
	}
	return nil
}

// waitForWAL waits until the repository holds the WAL without which the backup cannot be restored.
func (q *queue) waitForWAL(ctx context.Context, m *backup.Manifest) error {
	for {
		stock, _ := q.s.current()
		q.mu.Lock()
		q.move(stock)
		at := q.mark(m.Timeline)
		q.mu.Unlock()
		if at >= m.Stop || at == 0 && !spoolHas(stock, m.Timeline) {
			return nil
		}
		if !q.s.Follow {
			return fmt.Errorf("its manifest waits: the repository holds the WAL of timeline %d up to %s, and the backup needs it up to %s", m.Timeline, at, m.Stop)
		}
		if err := sleep(ctx, q.s.Pace.Poll, nil); err != nil {
			return err
		}
	}
}

func spoolHas(stock []*listing, tli wal.Timeline) bool {
	return slices.ContainsFunc(stock, func(l *listing) bool { return l.timeline == tli && l.dir != archive.WALDir && len(l.objects) > 0 })
}

// leave removes a backup from the spool, if all repositories hold it and nobody reads it.
func (s *shipper) leave(ctx context.Context, id string) {
	s.leaving.Lock()
	defer s.leaving.Unlock()
	if !s.Remove || slices.ContainsFunc(s.queues, func(q *queue) bool { return !q.holdsBackup(id) }) {
		return
	}
	a := s.Spool.Archive
	leases, faults, err := a.Notes().Leases(ctx)
	held := func(l notes.Lease) bool { return (l.Backup == id || l.Backup == "") && l.Live() }
	if err == nil && (len(faults) > 0 || slices.ContainsFunc(leases, held)) {
		return
	}
	if err == nil {
		err = a.RemoveBackup(ctx, id)
	}
	if err != nil {
		s.Log.Warn("a backup that all repositories hold cannot be removed from the spool", "backup", id, "error", err.Error())
		return
	}
	s.Log.Info("all repositories hold a backup; it was removed from the spool", "backup", id)
}

// sweepBackups removes backups that could not leave the spool when they were shipped, because they were read.
func (s *shipper) sweepBackups(ctx context.Context) {
	dirs, err := s.Spool.Archive.List(ctx, archive.BackupsDir)
	if err != nil {
		return
	}
	for _, d := range dirs {
		if id := path.Base(d.Name); d.IsDir() && backup.CheckID(id) == nil {
			s.leave(ctx, id)
		}
	}
}

// sweepInterval is the time between two sweeps.
const sweepInterval = time.Minute
