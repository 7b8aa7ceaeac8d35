package repository

import (
	"encoding/json"
	"path"
	"slices"
	"strings"
	"time"

	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/notes"
	"walkeep/common/storage/listing"
	"walkeep/common/wal"
)

// listings say what of a repository's listings is kept: directories of WAL that have all their segments, and those of finished
// backups.
var listings = listing.Policy{Note: notes.ChangesName, Settles: settles, Settled: settled, Announces: announces}

func settles(dir string) bool {
	if id, ok := strings.CutPrefix(dir, archive.BackupsDir); ok {
		return backup.CheckID(strings.TrimSuffix(id, "/")) == nil
	}
	if log, ok := strings.CutPrefix(dir, archive.WALDir); ok && len(log) == 17 {
		_, err := wal.ParseName(log[:16] + "00000000")
		return err == nil
	}
	return false
}

// margin is by how much a backup must have begun before the newest one to be kept. Within it others may add backups without
// announcing them, so it is more than the clocks of hosts differ.
const margin = 7 * 24 * time.Hour

// announces asks for the removal of WAL and of finished backups to be announced, and for a backup that is finished late: one
// that was shipped long after it was taken.
func announces(name string, created bool) bool {
	if !settles(path.Dir(name) + "/") {
		return false
	}
	at, isBackup := began(path.Dir(name))
	if !isBackup {
		return !created // nothing comes into a directory that has all its segments
	}
	return path.Base(name) == backup.ManifestName && (!created || time.Since(at) > margin/2)
}

func settled(identity []byte, dirs []*listing.Dir) (runs [][]*listing.Dir) {
	var id archive.Identity
	if json.Unmarshal(identity, &id) != nil || !id.SegmentSize.Valid() {
		return nil
	}
	var newest time.Time
	for _, d := range dirs {
		if began, ok := began(d.Name); ok && began.After(newest) {
			newest = began
		}
	}
	var last *listing.Dir
	for _, d := range dirs {
		began, isBackup := began(d.Name)
		switch {
		case isBackup && (!began.Before(newest.Add(-margin)) || !finished(d)),
			!isBackup && !full(d, id.SegmentSize):
			last = nil
			continue
		case last != nil && (isBackup || follows(last, d)):
			runs[len(runs)-1] = append(runs[len(runs)-1], d)
		default:
			runs = append(runs, []*listing.Dir{d})
		}
		last = d
	}
	return runs
}

// began returns when a backup began, by the name of its directory.
func began(dir string) (time.Time, bool) {
	id, ok := strings.CutPrefix(dir, archive.BackupsDir)
	at, err := backup.Began(strings.TrimSuffix(id, "/"))
	return at, ok && err == nil
}

func finished(d *listing.Dir) bool {
	for e := range d.All() {
		if path.Base(e.Name) == backup.ManifestName {
			return true
		}
	}
	return false
}

// full reports whether a directory of WAL has all its segments. The label of a backup that comes into it after that is not listed at once;
// it is evidence of WAL that is there.
func full(d *listing.Dir, size wal.SegmentSize) bool {
	var segments []wal.Name
	for e := range d.All() {
		if o, ok := archive.ParseObject(e); ok && o.WAL.Kind == wal.KindSegment && o.Bad == nil {
			if _, err := o.WAL.Number(size); err == nil {
				segments = append(segments, o.WAL)
			}
		}
	}
	segments = slices.Compact(segments) // one is listed twice if it is stored twice
	return int64(len(segments)) == (1<<32)/int64(size)
}

// follows reports whether a directory of WAL is the next of the same timeline.
func follows(a, b *listing.Dir) bool {
	one, err := wal.ParseName(path.Base(a.Name) + "00000000")
	two, bad := wal.ParseName(path.Base(b.Name) + "00000000")
	return err == nil && bad == nil && one.Timeline == two.Timeline && one.Log+1 == two.Log
}
