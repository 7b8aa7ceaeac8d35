package archive

import (
	"context"
	"errors"
	"fmt"
	"time"

	"walkeep/common/backup"
	"walkeep/common/storage"
)

// Bind makes the archive that of a cluster, if it is nobody's, and fails with [ErrForeign] if it is another's.
func (a *Archive) Bind(ctx context.Context, id Identity) error { return a.bind(ctx, id) }

// ReserveBackup finds an id for a backup that begins at this time, which nobody else has, and notes it in the lease of
// the one who takes it.
func (a *Archive) ReserveBackup(ctx context.Context, h *Held, began time.Time) (string, error) {
	for n := 1; n < 1000; n++ {
		id := backup.NewID(began, n)
		there, err := a.b.List(ctx, backup.Dir(id))
		if err != nil {
			return "", err
		}
		if len(there) > 0 {
			continue
		}
		if err := h.Change(ctx, func(l *Lease) { l.Backup = id }); err != nil {
			return "", err
		}
		// Of several that begin in the same second, all see each other's leases, or the later ones do.
		first, err := a.firstWith(ctx, id)
		if err != nil {
			return "", err
		}
		if first == h.lease.ID {
			return id, nil
		}
	}
	return "", fmt.Errorf("find an id for the backup: too many began at %s", began)
}

// firstWith is the id of the first lease, by ids, that names a backup.
func (a *Archive) firstWith(ctx context.Context, backupID string) (string, error) {
	leases, err := a.Leases(ctx)
	if err != nil {
		return "", err
	}
	for _, l := range leases {
		if l.Backup == backupID && l.Kind == "backup" {
			return l.ID, nil
		}
	}
	return "", errors.New("the lease that was just taken is not there")
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
	there, err := a.b.List(ctx, backup.Dir(id))
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
	return nil
}
