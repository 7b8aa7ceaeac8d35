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

// HoldBackup finds an id for a backup that begins at this time, which nobody else has, and takes a lease for it. Where
// replay will begin is not known yet, so all WAL is held.
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
// is a [notes.Fault], where a lease cannot be read or understood.
func (a *Archive) SweepBackups(ctx context.Context) error {
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
		switch f, err := a.b.Open(ctx, d.Name+backup.ManifestName); {
		case err == nil:
			f.Close()
		case !errors.Is(err, storage.ErrNotExist):
			return err
		default:
			if err := a.RemoveBackup(ctx, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// RemoveBackup removes what is stored of a backup: the manifest first, so that at no time a part of a backup looks like
// one.
func (a *Archive) RemoveBackup(ctx context.Context, id string) error {
	if err := backup.CheckID(id); err != nil {
		return err
	}
	remove := func(name string) error {
		if err := a.b.Remove(ctx, name); err != nil && !errors.Is(err, storage.ErrNotExist) {
			return fmt.Errorf("remove %s: %w", name, err)
		}
		return nil
	}
	if err := remove(backup.Dir(id) + backup.ManifestName); err != nil {
		return err
	}
	if err := remove(notes.VerifiedName(id)); err != nil {
		return err
	}
	there, err := storage.ListAll(ctx, a.b, backup.Dir(id))
	if err != nil {
		return err
	}
	for _, e := range there {
		if e.IsDir() {
			continue
		}
		if err := remove(e.Name); err != nil {
			return err
		}
	}
	return a.Prune(ctx, backup.Dir(id))
}
