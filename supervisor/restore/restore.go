// Package restore lays a data directory out of a backup, so that PostgreSQL recovers it to a target when it is started.
//
// # What makes a directory whole
//
// A directory that is being restored holds the file walkeep.restore, which is locked for as long as the restore runs, and
// no global/pg_control, without which no PostgreSQL starts. pg_control is written when all else is durable, and
// walkeep.restore removed after it. So a restore that was interrupted is known for one, nobody can start its directory by
// mistake, and a restore with delta completes it.
//
// # Delta
//
// A restore with delta compares the blocks of the files that are there with the backup, and reads what differs from the
// archive: once to see that all of it can be read, while the directory still is what it was, and once more to write the pages
// that differ. What is not in the backup is removed: in the data directory, and in the
// directories that PostgreSQL made for this cluster below its tablespaces' locations. Symbolic links are never followed,
// but for those of tablespaces and of pg_wal, and a file with several names (hard links) is made anew.
//
// The WAL that is left in pg_wal is of no use to the restored cluster: recovery takes all from the archive, and old
// segments could be taken for newer ones of the same name. What the archive does not hold, though, may be the only copy of
// the last transactions. It is moved to pg_wal/walkeep.kept, where PostgreSQL does not look. That is told by content: two
// servers that have parted write different WAL under the same names.
//
// With Keep the directory stays that of a server of this host: its configuration files are not those of the backup, which
// may come from another host.
package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"walkeep/common/account"
	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/storage"
	"walkeep/supervisor/launch"
)

// Errors of Run, to be found with errors.Is. All but ErrLayout come before anything was changed.
var (
	ErrInUse       = launch.ErrInUse
	ErrNotEmpty    = errors.New("is not empty")
	ErrInterrupted = errors.New("holds what an interrupted restore has left")
	ErrNotData     = errors.New("is no data directory")
	ErrPlace       = errors.New("cannot be used")
	ErrSpace       = errors.New("not enough space")
	ErrOwner       = errors.New("PostgreSQL does not run as root, and nothing says whose the files are to be")
	ErrLayout      = errors.New("cannot be restored: its index leads elsewhere")
)

// Options say what is restored, and where to.
type Options struct {
	Plan  archive.Plan
	Dir   string // the data directory; absolute
	Delta bool
	// Keep leaves the configuration files of an existing directory as they are, but for what recovery needs, and its
	// tablespaces where they are.
	Keep bool
	// Tablespaces are where tablespaces go instead, by their location in the backup.
	Tablespaces map[string]string
	// Avoid are directories that the restored ones must not overlap, such as the archive.
	Avoid    []string
	Jobs     int // cores
	Recovery Recovery
	// Bare says that the backup's configuration does not count: the caller writes another one.
	Bare bool
	// Starts says that the server will be started, so that what would be in the way is found before.
	Starts bool
	// Changes are what the WAL that is replayed does outside of the data directory.
	Changes archive.Changes
	// Begin is called when files begin to be compared or written, with their bytes; Progress with the bytes that were done
	// since the last call; Notice with what the user should know. All are optional.
	Begin    func(what string, bytes int64)
	Progress func(bytes int64)
	Notice   func(hint, message string)
}

// A Result is what was done.
type Result struct {
	Dir      string // the data directory, without symbolic links
	Files    int
	Bytes    int64 // of the backup
	Compared int64 // bytes of existing files
	Differed int64 // bytes of the blocks that were missing or differed
	Written  int64 // bytes
	Removed  int   // files and directories
	// Kept are the files of WAL that the archive does not hold, in KeptDir, with those that an interrupted restore has put
	// there which this one has completed.
	Kept      []string
	KeptDir   string
	KeptBytes int64
	// Conflicts are names of files under which the archive holds other WAL: two servers wrote it.
	Conflicts []string
	Before    *Before // what was there; nil for an empty directory, and where that is not known
	BeforeErr error   // why it is not known; nil if there was no control file
	Fork      *Fork   // nil if nothing parts, or it is not known where
	Took      time.Duration
}

// A restorer does one restore.
type restorer struct {
	Options
	done   Result
	b      storage.Backend
	inv    *archive.Inventory
	m      *backup.Manifest
	places []*place // the data directory first
	dirs   []*item  // parents first
	files  []*item
	marker *marker
	owner  account.Account
	inside []string // directories to be made in the data directory for tablespaces that the replay creates
	beside string   // data directory of another server of this cluster that runs on this host
	// control is the content of global/pg_control.
	control []byte
	// own are the paths of what Keep leaves as it is, and keptBefore is what was in KeptDir at the beginning.
	own        []string
	host       []string // what stays as it is where the backup does not have it
	keptBefore []string
}

// Run restores. The caller holds a lease on the backup.
func Run(ctx context.Context, b storage.Backend, inv *archive.Inventory, o Options) (*Result, error) {
	begun := time.Now()
	r := &restorer{Options: o, b: b, inv: inv, m: o.Plan.Backup}
	if r.Begin == nil {
		r.Begin = func(string, int64) {}
	}
	if r.Progress == nil {
		r.Progress = func(int64) {}
	}
	if r.Notice == nil {
		r.Notice = func(string, string) {}
	}
	err := r.run(ctx)
	r.close()
	r.done.Dir, r.done.Took = r.Dir, time.Since(begun)
	return &r.done, err
}

func (r *restorer) run(ctx context.Context) error {
	if err := r.Recovery.check(); err != nil {
		return err
	}
	if err := r.examine(); err != nil {
		return err
	}
	files, err := r.m.ReadFiles(ctx, r.b)
	if err != nil {
		return err
	}
	if err := r.assign(files); err != nil {
		return err
	}
	if err := r.checkStartable(); err != nil {
		return err
	}
	if err := r.checkSpace(); err != nil {
		return err
	}
	if err := r.m.CheckVolumes(ctx, r.b); err != nil {
		return err
	}
	if r.Delta {
		if err := r.lookFirst(ctx); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := r.begin(); err != nil {
		return err
	}
	if r.Delta {
		if err := r.reconcile(ctx); err != nil {
			return err
		}
	}
	if err := r.makeDirs(); err != nil {
		return err
	}
	if err := r.extract(ctx); err != nil {
		return err
	}
	if err := r.configure(); err != nil {
		return err
	}
	mode := os.FileMode(0o700)
	if r.groupAccess() {
		mode = 0o750 // the server insists on one of the two
	}
	for _, p := range r.places {
		if err := p.root.Chmod(".", mode); err != nil {
			return err
		}
	}
	if err := r.sync(); err != nil {
		return err
	}
	return r.finish()
}

func (r *restorer) close() {
	for _, it := range r.files {
		if it.f != nil {
			it.f.Close()
		}
	}
	for _, p := range r.places {
		p.close()
	}
	if r.marker != nil {
		r.marker.close()
	}
}

// begin makes the directories, marks the data directory, and takes its control file away.
func (r *restorer) begin() error {
	for _, p := range r.places {
		if err := p.make(r.owner); err != nil {
			return err
		}
		if p == r.places[0] {
			if err := r.mark(); err != nil {
				return err
			}
		}
		if err := p.open(); err != nil {
			return err
		}
	}
	return nil
}

// mark makes the data directory one that is being restored. Once it returns, the directory cannot be started.
func (r *restorer) mark() error {
	locations := make(map[string]string)
	for _, p := range r.places {
		if p.oid != "" {
			locations[p.oid] = p.dir
		}
	}
	if r.marker == nil {
		var err error
		if r.marker, err = claim(r.Dir, r.owner); err != nil {
			return err
		}
	}
	if err := r.marker.write(note{r.m.ID, r.m.SystemID, locations, r.own, r.done.Before, r.keptBefore}); err != nil {
		return err
	}
	if err := removeControl(r.Dir); err != nil {
		return fmt.Errorf("take the control file away: %w", err)
	}
	return nil
}

// finish makes the directory one that can be started.
func (r *restorer) finish() error {
	if err := writeControl(r.Dir, r.control, r.item("global/pg_control").mode()); err != nil {
		return fmt.Errorf("write the control file: %w", err)
	}
	return r.marker.remove()
}

// groupAccess tells whether the cluster was made with initdb --allow-group-access.
func (r *restorer) groupAccess() bool {
	it := r.item("PG_VERSION")
	return it != nil && it.mode()&0o040 != 0
}
