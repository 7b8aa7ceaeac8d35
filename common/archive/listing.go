package archive

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"walkeep/common/backup"
	"walkeep/common/storage"
	"walkeep/common/wal"
)

// Directories of an archive, as [Archive.List] takes them.
const (
	WALDir     = "wal/"     // what is archived
	PartialDir = "partial/" // what is streamed
	BackupsDir = "backups/" // base backups, each in a directory of its own
)

// List lists what begins with a prefix; see [storage.Backend].
func (a *Archive) List(ctx context.Context, prefix string) ([]storage.Entry, error) {
	return storage.ListAll(ctx, a.b, prefix)
}

// Snapshot returns an archive whose listings are those of this moment, if the backend can list all it holds with few requests; else
// the archive itself. See [storage.Snapshotter].
func (a *Archive) Snapshot(ctx context.Context, anew bool) (*Archive, error) {
	s, ok := storage.As[storage.Snapshotter](a.b)
	if !ok {
		return a, nil
	}
	b, err := s.Snapshot(ctx, anew)
	if err != nil {
		return nil, err
	}
	then := *a
	then.b = b
	return &then, nil
}

// Manifest reads the manifest of a backup; storage.ErrNotExist if there is none.
func (a *Archive) Manifest(ctx context.Context, id string) (*backup.Manifest, error) {
	return backup.ReadManifest(ctx, a.b, id)
}

// CheckBackup opens the objects of a backup, compares their trailers with the manifest, and reads its index.
//
// It first lists the manifest: one that this host has kept may have been removed. Cleanup removes the manifest first. So who takes a
// lease, and then finds a backup by CheckBackup, finds all of it until the lease is given back.
func (a *Archive) CheckBackup(ctx context.Context, m *backup.Manifest) error {
	name := backup.Dir(m.ID) + backup.ManifestName
	there, err := storage.ListAll(ctx, a.b, name)
	if err != nil {
		return err
	}
	if len(there) == 0 {
		return fmt.Errorf("%s was removed: %w", name, storage.ErrNotExist)
	}
	return m.CheckStored(ctx, a.b, a.keys)
}

// Newest returns the highest timeline of which the archive holds a file; 0 if there is none.
func (a *Archive) Newest(ctx context.Context) (newest wal.Timeline, err error) {
	entries, err := storage.ListAll(ctx, a.b, WALDir)
	for _, e := range entries {
		base := path.Base(e.Name)
		if tli, err := wal.ParseTimeline(base[:min(8, len(base))]); err == nil {
			newest = max(newest, tli)
		}
	}
	return newest, err
}

// CheckWAL fails with [ErrNoWAL] where wal/ has gone, which is made before archive.json: nothing that it held is "absent" then.
func (a *Archive) CheckWAL(ctx context.Context) error {
	b, ok := storage.As[storage.Directories](a.b)
	if !ok {
		return nil
	}
	there, err := b.HasDir(ctx, strings.TrimSuffix(WALDir, "/"))
	if err == nil && !there {
		err = ErrNoWAL
	}
	return err
}

// LogDirs lists the directories of a timeline's WAL, ascending; of all timelines for 0.
func (a *Archive) LogDirs(ctx context.Context, tli wal.Timeline) ([]storage.Entry, error) {
	prefix := WALDir
	if tli != 0 {
		prefix += tli.String()
	}
	entries, err := storage.ListAll(ctx, a.b, prefix)
	if err != nil {
		return nil, err
	}
	var dirs []storage.Entry
	for _, e := range entries {
		if !isLogDir(e.Name) {
			continue
		}
		switch {
		case e.IsDir():
			dirs = append(dirs, e)
		case e.Err != nil:
			return nil, fmt.Errorf("%s: %w", e.Name, e.Err)
		default:
			return nil, fmt.Errorf("%s is not a directory", e.Name)
		}
	}
	return dirs, nil
}

// isLogDir reports whether a name is that of a directory of a timeline and log number.
func isLogDir(name string) bool {
	base := path.Base(name)
	if len(base) != 16 {
		return false
	}
	_, err := wal.ParseTimeline(base[:8])
	_, bad := wal.ParseName(base + "00000000")
	return err == nil && bad == nil
}

// StreamedHistory reads the history of a timeline that was streamed and is not stored yet; storage.ErrNotExist if there is none.
func (a *Archive) StreamedHistory(ctx context.Context, tli wal.Timeline) (wal.History, error) {
	name := PartialDir + wal.Name{Kind: wal.KindHistory, Timeline: tli}.String()
	text, err := storage.ReadAll(ctx, a.b, name, maxSmall)
	if err != nil {
		return wal.History{}, err
	}
	h, err := wal.ParseHistory(tli, text)
	if err != nil {
		err = fmt.Errorf("%s: %w: %w", name, ErrDamaged, err)
	}
	return h, err
}

// StreamedHistories reads the histories that were streamed and are not stored yet.
func (a *Archive) StreamedHistories(ctx context.Context) ([]wal.History, error) {
	entries, err := storage.ListAll(ctx, a.b, PartialDir)
	if err != nil {
		return nil, err
	}
	var found []wal.History
	for _, e := range entries {
		n, err := wal.ParseName(path.Base(e.Name))
		if err != nil || n.Kind != wal.KindHistory {
			continue
		}
		h, err := a.StreamedHistory(ctx, n.Timeline)
		if errors.Is(err, storage.ErrNotExist) {
			continue // it was stored meanwhile
		}
		if err != nil {
			return nil, err
		}
		found = append(found, h)
	}
	return found, nil
}
