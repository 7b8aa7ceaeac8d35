package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"walkeep/common/account"
	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/pgdata"
	"walkeep/common/wal"
	"walkeep/supervisor/launch"
)

// A rootDir is a directory for files of the backup: the data directory, a tablespace's location, or the target of an
// existing link pg_wal.
type rootDir struct {
	prefix string // of the paths in the index: empty, or pg_tblspc/<oid>
	dir    string // absolute
	oid    string // of the tablespace
	link   string // the target of the link to it
	empty  bool   // it has no files, or does not exist
	// created is set for the location of a tablespace that the backup does not have: the replay creates it.
	created bool
	handle  *os.Root
	sync    *syncer
}

// open opens the directory as an os.Root.
func (p *rootDir) open() (err error) {
	if p.handle == nil {
		if p.handle, err = os.OpenRoot(p.dir); err != nil {
			return err
		}
	}
	p.sync, err = newSyncer(p.dir)
	return err
}

func (p *rootDir) close() {
	if p.handle != nil {
		p.handle.Close()
	}
	if p.sync != nil {
		p.sync.close()
	}
}

// make makes the directory and its parents, if they are missing, and gives those that it has made to the owner.
func (p *rootDir) make(o account.Account) error {
	if err := makeParents(filepath.Dir(p.dir), o); err != nil {
		return err
	}
	if err := os.Mkdir(p.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return o.GiveDir(p.dir)
}

// makeParents makes the missing parents of a directory, so that the server can enter them.
func makeParents(dir string, o account.Account) error {
	if exists(dir) {
		return nil
	}
	if err := makeParents(filepath.Dir(dir), o); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil // another process has just made it
		}
		return err
	}
	return o.GiveDir(dir)
}

// harmless are directories that file systems make in their roots.
var harmless = []string{"lost+found", ".snapshot", ".zfs"}

// isEmpty reports whether a directory is empty or does not exist, so that it can be restored into.
func isEmpty(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		if !slices.Contains(harmless, e.Name()) && !isBareMarker(e) {
			return false, nil
		}
	}
	return true, nil
}

// isBareMarker reports whether an entry is the empty marker of a restore that was killed before it changed anything.
func isBareMarker(e fs.DirEntry) bool {
	if e.Name() != markerName {
		return false
	}
	info, err := e.Info()
	return err == nil && info.Mode().IsRegular() && info.Size() == 0
}

// resolve follows the symbolic links in the path of a directory, as far as it exists.
func resolve(dir string) (string, error) {
	dir = filepath.Clean(dir)
	real, err := filepath.EvalSymlinks(dir)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return real, err
	}
	if _, err := os.Lstat(dir); err == nil {
		return "", fmt.Errorf("%s is a symbolic link that leads nowhere", dir)
	}
	parent := filepath.Dir(dir)
	if parent == dir {
		return dir, nil
	}
	if parent, err = resolve(parent); err != nil {
		return "", err
	}
	return filepath.Join(parent, filepath.Base(dir)), nil
}

// examine examines the directories, and changes nothing.
func (r *restorer) examine() error {
	dir, err := resolve(r.Dir)
	if err != nil {
		return err
	}
	r.Dir = dir
	if r.owner, err = ownerOf(dir); err != nil {
		return err
	}
	p := &rootDir{dir: dir}
	if p.empty, err = isEmpty(dir); err != nil {
		return err
	}
	r.roots = append(r.roots, p)
	var left *note
	if p.empty {
		r.Delta = false // there is nothing to compare with
	} else if left, err = r.examineContent(); err != nil {
		return err
	}
	if !p.empty {
		r.findOwn(left)
		r.lookBack(left)
	}
	if err := r.examineTablespaces(left); err != nil {
		return err
	}
	r.beside = r.servedBeside()
	if err := r.examineCreated(left); err != nil {
		return err
	}
	r.endNow()
	if err := r.examineWAL(); err != nil {
		return err
	}
	for _, p := range r.roots[1:] {
		if err := checkNotServed(p.dir, r.Dir); err != nil {
			return err
		}
	}
	for _, p := range r.roots[1:] {
		if dir, ok := r.owner.Enters(filepath.Dir(p.dir)); !ok && !within(dir, r.Dir) {
			return fmt.Errorf("%s %w: the user to whom the files are given cannot enter %s", p.dir, ErrPlace, dir)
		}
	}
	return r.checkApart()
}

// examineWAL makes the target of an existing link pg_wal a root of its own.
func (r *restorer) examineWAL() error {
	link := filepath.Join(r.Dir, "pg_wal")
	info, err := os.Lstat(link)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || info.Mode()&fs.ModeSymlink == 0 {
		return err
	}
	dir, err := filepath.EvalSymlinks(link)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // its target is missing; a directory replaces it
	}
	if err != nil {
		return err
	}
	r.roots = append(r.roots, &rootDir{prefix: "pg_wal", dir: dir})
	return nil
}

// examineContent checks that the contents of the data directory may be changed. It returns the note of an interrupted
// restore.
func (r *restorer) examineContent() (*note, error) {
	if err := launch.CheckUnused(r.Dir); err != nil {
		return nil, err
	}
	left, err := readMarker(r.Dir)
	if err != nil {
		return nil, err
	}
	switch {
	case left != nil && !r.Delta:
		return nil, fmt.Errorf("%s %w", r.Dir, ErrInterrupted)
	case !r.Delta:
		return nil, fmt.Errorf("%s %w", r.Dir, ErrNotEmpty)
	}
	var id wal.SystemID
	if left != nil {
		id = left.SystemID
	} else {
		version, err := os.Lstat(filepath.Join(r.Dir, "PG_VERSION"))
		if err != nil || !version.Mode().IsRegular() {
			return nil, fmt.Errorf("%s %w: it has no PG_VERSION", r.Dir, ErrNotData)
		}
		switch id, err = pgdata.SystemID(r.Dir); {
		case err != nil:
			return nil, fmt.Errorf("%s %w: %w", r.Dir, ErrNotData, err)
		case id == 0:
			return nil, fmt.Errorf("%s %w: it has no control file", r.Dir, ErrNotData)
		}
	}
	if id != r.m.SystemID {
		return nil, fmt.Errorf("%s is %w: its system identifier is %s, that of the backup %s", r.Dir, archive.ErrForeign, id, r.m.SystemID)
	}
	return left, nil
}

// examineTablespaces finds the roots of the tablespaces.
func (r *restorer) examineTablespaces(left *note) error {
	for old := range r.Tablespaces {
		if !slices.ContainsFunc(r.m.Tablespaces, func(ts backup.Tablespace) bool { return ts.Location == old }) {
			if slices.ContainsFunc(r.Changes.Tablespaces, func(c wal.Change) bool { return c.Tablespace.Location == old }) {
				return fmt.Errorf("%q %w: that tablespace was created after the backup, and the replay creates it at its old location", old, ErrPlace)
			}
			return fmt.Errorf("%q %w: the backup has no tablespace there%s", old, ErrPlace, r.locations())
		}
	}
	for _, ts := range r.m.Tablespaces {
		oid := strconv.FormatUint(uint64(ts.OID), 10)
		to, mapped := r.Tablespaces[ts.Location]
		if !mapped && r.Keep && r.Delta {
			to, mapped = r.locationOf(oid, left)
		}
		switch {
		case !mapped && !IsAbs(ts.Location):
			continue // it is in the data directory, and is restored with it
		case !mapped:
			to = ts.Location
		}
		if !filepath.IsAbs(to) || strings.ContainsAny(to, "\n\r") {
			return fmt.Errorf("%q %w: the path must be absolute", to, ErrPlace)
		}
		dir, err := resolve(to)
		if err != nil {
			return err
		}
		p := &rootDir{prefix: "pg_tblspc/" + oid, oid: oid, dir: dir, link: filepath.Clean(to)}
		if p.empty, err = isEmpty(dir); err != nil {
			return err
		}
		if !p.empty && !r.owns(p, left) {
			return fmt.Errorf("the location %s of tablespace %s %w", dir, oid, ErrNotEmpty)
		}
		r.roots = append(r.roots, p)
	}
	return nil
}

// locationOf returns the present location of a tablespace of the directory.
func (r *restorer) locationOf(oid string, left *note) (string, bool) {
	if to, err := os.Readlink(filepath.Join(r.Dir, "pg_tblspc", oid)); err == nil {
		return to, filepath.IsAbs(to)
	}
	if left != nil && left.Tablespaces[oid] != "" {
		return left.Tablespaces[oid], true
	}
	return "", false
}

func (r *restorer) locations() string {
	if len(r.m.Tablespaces) == 0 {
		return ", nor any other"
	}
	var all []string
	for _, ts := range r.m.Tablespaces {
		all = append(all, ts.Location)
	}
	return ", but at " + strings.Join(all, ", ")
}

// IsAbs reports whether a location in a backup is absolute, on the system on which it was taken.
func IsAbs(location string) bool {
	return filepath.IsAbs(location) || strings.HasPrefix(location, "/") || len(location) > 2 && location[1] == ':'
}

// owns reports whether the files in a tablespace's location are the cluster's own: its data directory leads there, or
// an interrupted restore of it did.
func (r *restorer) owns(p *rootDir, left *note) bool {
	if !r.Delta {
		return false
	}
	if left != nil && left.Tablespaces[p.oid] == p.dir {
		return true
	}
	link, err := filepath.EvalSymlinks(filepath.Join(r.Dir, "pg_tblspc", p.oid))
	return err == nil && link == p.dir
}

// checkApart refuses directories that contain each other.
func (r *restorer) checkApart() error {
	type named struct{ what, dir string }
	var all []named
	for _, p := range r.roots {
		what := "the data directory"
		switch {
		case p.oid != "":
			what = "tablespace " + p.oid
		case p.prefix != "":
			what = "the directory of its link pg_wal"
		}
		all = append(all, named{what, p.dir})
	}
	own := len(all)
	for _, dir := range r.Avoid {
		real, err := resolve(dir)
		if err != nil {
			return err
		}
		all = append(all, named{"the archive", real})
	}
	for i, a := range all[:own] {
		for _, b := range all[i+1:] {
			if within(a.dir, b.dir) || within(b.dir, a.dir) {
				return fmt.Errorf("%s, %s, and %s, %s, %w: they overlap", a.what, a.dir, b.what, b.dir, ErrPlace)
			}
		}
	}
	return nil
}

// exists reports whether the path exists, or that cannot be excluded.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// within reports whether b is a or lies below it.
func within(a, b string) bool {
	rel, err := filepath.Rel(a, b)
	return err == nil && filepath.IsLocal(rel)
}

// ownerOf returns the account that the files of a data directory are to belong to. It is never root, as which
// PostgreSQL does not run.
func ownerOf(dir string) (account.Account, error) {
	if !account.Root() {
		return account.Account{}, nil
	}
	o, err := account.OwnerOf(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return account.Account{}, err
	}
	if err != nil || o.IsRoot() {
		return account.Account{}, fmt.Errorf("%s: %w", dir, ErrOwner)
	}
	return o, nil
}
