package ship

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"time"

	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/wal"
	"walkeep/supervisor/spool"
)

// takeLock makes this process the one that ships to the repository. Where Run follows or waits, it waits for another process that does.
// Where Run waits, it returns without the lock if that process has shipped what is there.
func (q *queue) takeLock(ctx context.Context) error {
	for waited := false; ; waited = true {
		f, err := q.s.Spool.LockShipping(q.Name)
		if err == nil {
			q.mu.Lock()
			q.lock = f
			q.mu.Unlock()
			if waited { // the other process has shipped, and removed from the spool
				if _, err = q.s.scan(ctx); err == nil {
					err = q.recall(ctx)
				}
			}
			return err
		}
		if !errors.Is(err, spool.ErrShipping) || !q.s.Follow && !q.s.Wait {
			return err
		}
		pause := 25 * q.s.Pace.Poll
		if !q.s.Follow {
			pause = q.s.Pace.Poll
			if q.elsewhere, err = q.shippedElsewhere(ctx); err != nil || q.elsewhere {
				return err
			}
		}
		if !waited {
			q.s.Log.Info("waiting: another process ships to the repository", "repository", q.Name)
		}
		if err := sleep(ctx, pause, nil); err != nil {
			return err
		}
	}
}

// shippedElsewhere reports whether the process that ships to the repository has shipped what the spool held when it was listed. It fails
// if an object cannot be shipped, or if that process has failed since then.
func (q *queue) shippedElsewhere(ctx context.Context) (bool, error) {
	n, err := q.noted(ctx)
	if err != nil {
		return false, err
	}
	stock, at := q.s.current()
	switch {
	case len(n.Stuck) > 0:
		return false, fmt.Errorf("%s: %s; the process that ships tries it again every %s", n.Stuck[0].Object, n.Stuck[0].Text, stuckPause)
	case n.Error != "" && n.Failed.After(at):
		return false, errors.New(n.Error)
	}
	if n.Recoverable.Before(at) {
		if n.Updated.IsZero() || n.Objects > 0 {
			return false, nil
		}
		for _, l := range stock {
			for _, o := range l.objects {
				if o.wal.Kind == wal.KindSegment && q.s.position(o.number+1) > n.Mark(o.wal.Timeline) {
					return false, nil
				}
			}
		}
	}
	dirs, err := q.s.Spool.Archive.List(ctx, archive.BackupsDir)
	if err != nil {
		return false, err
	}
	for _, d := range dirs {
		info, err := os.Stat(filepath.Join(q.s.Spool.Dir, filepath.FromSlash(backup.Dir(path.Base(d.Name))), backup.ManifestName))
		if err == nil && info.ModTime().After(n.Looked.Add(-time.Second)) && info.ModTime().Before(at) {
			return false, nil
		}
	}
	return true, nil
}
