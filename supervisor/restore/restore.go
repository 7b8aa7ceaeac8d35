// Package restore restores a backup into a data directory, so that PostgreSQL recovers it to a target when it is
// started.
//
// # What makes a directory whole
//
// While a directory is being restored, it contains the file walkeep.restore, which is locked as long as the restore
// runs, and no global/pg_control, without which no PostgreSQL starts. Restore writes pg_control when all else is
// durable, and then removes walkeep.restore. So an interrupted restore is recognized, nobody can start its directory
// by mistake, and a restore with delta completes it.
//
// # Delta
//
// A restore with delta compares the blocks of existing files with the backup, and reads those that differ from the
// archive: once to check that all of them can be read, while the directory is unchanged, and once more to write the
// pages that differ. Files that are not in the backup are removed: in the data directory, and in the directories that
// PostgreSQL made for this cluster below its tablespaces' locations. Symbolic links are never followed, except those
// of tablespaces and of pg_wal. A file with several names (hard links) is replaced by a new file.
//
// The restored cluster does not use the WAL in pg_wal: recovery reads all WAL from the archive, and old segments
// could be mistaken for newer ones of the same name. But WAL that the archive lacks may be the only copy of the last
// transactions. It is moved to pg_wal/walkeep.kept, which PostgreSQL does not read. Restore compares contents to find
// it: two servers that have parted write different WAL under the same names.
//
// With Keep the directory remains that of a server of this host: its configuration files are not replaced by those of
// the backup, which may come from another host.
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
	"walkeep/common/cli"
	"walkeep/common/recovery"
	"walkeep/supervisor/launch"
)

// Errors of Run, to be found with errors.Is. All but ErrLayout are returned before anything was changed. All are
// final until the user has acted on them.
var (
	ErrInUse       = launch.ErrInUse
	ErrNotEmpty    = errors.New("is not empty")
	ErrInterrupted = cli.NewError("has the files of an interrupted restore",
		"repeat the restore with --delta, which completes it")
	ErrNotData = errors.New("is not a data directory")
	ErrPlace   = errors.New("cannot be used")
	ErrSpace   = cli.NewError("not enough space",
		"free some, or restore to another file system")
	ErrOwner = cli.NewError("PostgreSQL does not run as root, and the future owner of the files is unknown",
		"make the directory and give it to the server's user (install -d -m 700 -o postgres -g postgres DIR), or run this as that user")
	ErrLayout = cli.NewError("cannot be restored: its index is not that of a cluster",
		"nothing was written: the backup was not made by walkeep, or was tampered with")
)

// Options describe what is restored, and where.
type Options struct {
	Plan  recovery.Plan
	Dir   string // the data directory; absolute
	Delta bool
	// Keep keeps the configuration files of an existing directory, except for what recovery needs, and the locations
	// of its tablespaces.
	Keep bool
	// Tablespaces maps the locations of tablespaces in the backup to new ones.
	Tablespaces map[string]string
	// Avoid lists directories that the restored ones must not overlap, such as the archive.
	Avoid    []string
	Jobs     int // cores
	Recovery Recovery
	// Bare reports that the caller replaces the backup's configuration.
	Bare bool
	// Starts reports that the server will be started. Run then also checks that it can be.
	Starts bool
	// Changes are what the replayed WAL does outside of the data directory.
	Changes recovery.Changes
	// Begin is called when files begin to be compared or written, with their bytes; Progress with the bytes since the
	// last call; Notice with warnings. All are optional.
	Begin    func(what string, bytes int64)
	Progress func(bytes int64)
	Notice   func(hint, message string)
}

// A Result reports what was done.
type Result struct {
	Dir      string // the data directory, without symbolic links
	Files    int
	Bytes    int64 // of the backup
	Compared int64 // bytes of existing files
	Differed int64 // bytes of the blocks that were missing or differed
	Written  int64 // bytes
	Removed  int   // files and directories
	// Kept are the files of WAL that the archive lacks, in KeptDir, including those that were kept by an interrupted
	// restore which this one has completed.
	Kept      []string
	KeptDir   string
	KeptBytes int64
	// Conflicts are names of files under which the archive has other WAL: two servers wrote it.
	Conflicts []string
	Before    *Before // the previous server; nil if the directory was empty, or if it is unknown
	BeforeErr error   // why it is unknown; nil if there was no control file
	Fork      *Fork   // nil if nothing parts, or if the position is unknown
	Took      time.Duration
}

// A restorer does one restore.
type restorer struct {
	Options
	done   Result
	a      *archive.Archive
	inv    *recovery.Inventory
	m      *backup.Manifest
	roots  []*rootDir // the data directory first
	dirs   []*entry   // parents first
	files  []*entry
	marker *marker
	owner  account.Account
	inside []string // directories to be made in the data directory for tablespaces that the replay creates
	beside string   // data directory of another server of this cluster that runs on this host
	// control is the content of global/pg_control.
	control []byte
	// own are the paths that Keep keeps, and keptBefore is the content of KeptDir at the beginning.
	own        []string
	host       []string // paths that stay if the backup does not have them
	keptBefore []string
}

// Run restores a backup. The caller holds a lease on it. Runs may be concurrent in different directories; in the same
// one the second fails with [ErrInUse].
func Run(ctx context.Context, a *archive.Archive, inv *recovery.Inventory, o Options) (*Result, error) {
	begun := time.Now()
	r := &restorer{Options: o, a: a, inv: inv, m: o.Plan.Backup}
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
	files, err := r.m.ReadFiles(ctx, r.a.Backend(), r.a.Keys())
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
	if err := r.m.CheckVolumes(ctx, r.a.Backend(), r.a.Keys()); err != nil {
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
	for _, p := range r.roots {
		if err := p.handle.Chmod(".", mode); err != nil {
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
	for _, p := range r.roots {
		p.close()
	}
	if r.marker != nil {
		r.marker.close()
	}
}

// begin makes the directories, marks the data directory, and removes its control file.
func (r *restorer) begin() error {
	for _, p := range r.roots {
		if err := p.make(r.owner); err != nil {
			return err
		}
		if p == r.roots[0] {
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

// mark marks the data directory as being restored. Once it returns, the directory cannot be started.
func (r *restorer) mark() error {
	locations := make(map[string]string)
	for _, p := range r.roots {
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
		return fmt.Errorf("remove the control file: %w", err)
	}
	return nil
}

// finish makes the directory ready to be started.
func (r *restorer) finish() error {
	if err := writeControl(r.Dir, r.control, r.entry("global/pg_control").mode()); err != nil {
		return fmt.Errorf("write the control file: %w", err)
	}
	return r.marker.remove()
}

// groupAccess reports whether the cluster was made with initdb --allow-group-access.
func (r *restorer) groupAccess() bool {
	it := r.entry("PG_VERSION")
	return it != nil && it.mode()&0o040 != 0
}
