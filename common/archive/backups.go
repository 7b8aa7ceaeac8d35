package archive

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"walkeep/common/backup"
	"walkeep/common/notes"
	"walkeep/common/storage"
)

// HoldBackup finds an unused id for a backup that begins at this time, and takes a lease for it. The lease covers all
// WAL, because it is not known yet where replay will begin.
func (a *Archive) HoldBackup(ctx context.Context, began time.Time) (*notes.Held, error) {
	for n := 1; n < 1000; n++ {
		id := backup.NewID(began, n)
		there, err := storage.ListAll(ctx, a.b, backup.Dir(id))
		if err != nil {
			return nil, err
		}
		if len(there) > 0 {
			continue
		}
		// The lease has the backup's id as its own: of several that begin in the same second, one gets it.
		h, err := a.Notes().Hold(ctx, notes.Lease{ID: id, Kind: "backup", Backup: id})
		if !errors.Is(err, storage.ErrExist) {
			return h, err
		}
	}
	return nil, fmt.Errorf("find an id for the backup: too many began at %s", began)
}

// SweepBackups removes what killed backups have left: leases, and files without a manifest. It removes nothing, and the error
// is a [notes.Fault], where a lease cannot be read or understood. In a repository that is left to cleanup, and SweepBackups does
// nothing.
func (a *Archive) SweepBackups(ctx context.Context) error {
	if a.AppendOnly {
		return nil
	}
	dirs, err := storage.ListAll(ctx, a.b, BackupsDir)
	if err != nil {
		return err
	}
	// Who takes a backup has a lease from before its first file until after its manifest. So the leases are read after
	// the directories, and the manifests after the leases.
	leases, faults, err := a.Notes().Leases(ctx)
	if err != nil {
		return err
	}
	if len(faults) > 0 {
		return faults[0]
	}
	live := make(map[string]bool)
	for _, l := range leases {
		switch {
		case l.Live():
			live[l.Backup] = true
		case l.Kind == "backup":
			if err := a.Notes().DropLease(ctx, l.ID); err != nil {
				return err
			}
		}
	}
	for _, d := range dirs {
		id := path.Base(d.Name)
		if !d.IsDir() || backup.CheckID(id) != nil || live[id] || live[""] { // who has not chosen yet may be reading any
			continue
		}
		finished, err := a.Finished(ctx, id)
		if err == nil && !finished {
			err = a.RemoveBackup(ctx, id)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Finished reports whether a backup has a manifest. It does not read the manifest.
func (a *Archive) Finished(ctx context.Context, id string) (bool, error) {
	f, err := a.b.Open(ctx, backup.Dir(id)+backup.ManifestName)
	if errors.Is(err, storage.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, f.Close()
}

// BackupObjects lists what is stored of a backup, in the order in which it is to be removed: the manifest first, so that at no
// time a part of a backup looks like one. The manifest is listed even if it is not there; files that are not walkeep's
// are not.
func (a *Archive) BackupObjects(ctx context.Context, id string) ([]storage.Entry, error) {
	if err := backup.CheckID(id); err != nil {
		return nil, err
	}
	entries, err := storage.ListAll(ctx, a.b, backup.Dir(id))
	if err != nil {
		return nil, err
	}
	found := []storage.Entry{{Name: backup.Dir(id) + backup.ManifestName}}
	for _, e := range entries {
		switch {
		case e.Name == found[0].Name:
			found[0] = e
		case !e.IsDir() && backup.IsObject(path.Base(e.Name)):
			found = append(found, e)
		}
	}
	return found, nil
}

// ErrLeft says that objects of a failed backup stay in a repository until cleanup removes them.
var ErrLeft = errors.New("in a repository only cleanup removes objects")

// RemoveBackup removes what is stored of a backup, and its note. In a repository it removes nothing: the error is [ErrLeft] if there
// is anything of the backup.
func (a *Archive) RemoveBackup(ctx context.Context, id string) error {
	objects, err := a.BackupObjects(ctx, id)
	if err != nil {
		return err
	}
	if a.AppendOnly {
		if len(objects) > 1 {
			return ErrLeft
		}
		return nil
	}
	for _, e := range append(objects, storage.Entry{Name: notes.VerifiedName(id)}) {
		if err := a.b.Remove(ctx, e.Name); err != nil && !errors.Is(err, storage.ErrNotExist) {
			return fmt.Errorf("remove %s: %w", e.Name, err)
		}
	}
	return a.Prune(ctx, backup.Dir(id))
}
