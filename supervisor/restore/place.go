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

// A place is a directory that files of the backup go to: the data directory, a tablespace's location, or where the link
// pg_wal of an existing data directory leads.
type place struct {
	prefix string // of the paths in the index: empty, or pg_tblspc/<oid>
	dir    string // absolute
	oid    string // of the tablespace
	link   string // what the link to it says
	empty  bool   // there is nothing in it, or it is not there
	// created is set for the location of a tablespace that the backup does not have: the replay creates it.
	created bool
	root    *os.Root
	sync    *syncer
}

// open opens the directory, out of which nothing leads that is opened in it.
func (p *place) open() (err error) {
	if p.root == nil {
		if p.root, err = os.OpenRoot(p.dir); err != nil {
			return err
		}
	}
	p.sync, err = newSyncer(p.dir)
	return err
}

func (p *place) close() {
	if p.root != nil {
		p.root.Close()
	}
	if p.sync != nil {
		p.sync.close()
	}
}

// make makes the directory, if it is missing, with its parents, and gives what it has made to the owner.
func (p *place) make(o account.Account) error {
	if err := makeParents(filepath.Dir(p.dir), o); err != nil {
		return err
	}
	if err := os.Mkdir(p.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return o.GiveDir(p.dir)
}

// makeParents makes the directories that are missing on the way to a place. The server must be able to enter them.
func makeParents(dir string, o account.Account) error {
	if exists(dir) {
		return nil
	}
	if err := makeParents(filepath.Dir(dir), o); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil // somebody else has just made it
		}
		return err
	}
	return o.GiveDir(dir)
}

// harmless are directories that file systems make in their roots.
var harmless = []string{"lost+found", ".snapshot", ".zfs"}

// isEmpty tells whether a directory can be restored into. One that is not there can.
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

// isBareMarker finds what a restore leaves that was killed before it did anything.
func isBareMarker(e fs.DirEntry) bool {
	if e.Name() != markerName {
		return false
	}
	info, err := e.Info()
	return err == nil && info.Mode().IsRegular() && info.Size() == 0
}

// resolve follows the symbolic links on the way to a directory, as far as it exists.
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

// examine looks at the directories, and changes nothing.
func (r *restorer) examine() error {
	dir, err := resolve(r.Dir)
	if err != nil {
		return err
	}
	r.Dir = dir
	if r.owner, err = ownerOf(dir); err != nil {
		return err
	}
	p := &place{dir: dir}
	if p.empty, err = isEmpty(dir); err != nil {
		return err
	}
	r.places = append(r.places, p)
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
	for _, p := range r.places[1:] {
		if err := checkNotServed(p.dir, r.Dir); err != nil {
			return err
		}
	}
	for _, p := range r.places[1:] {
		if dir, ok := r.owner.Enters(filepath.Dir(p.dir)); !ok && !within(dir, r.Dir) {
			return fmt.Errorf("%s %w: the user to whom the files are given cannot enter %s", p.dir, ErrPlace, dir)
		}
	}
	return r.checkApart()
}

// examineWAL makes the directory to which an existing link pg_wal leads a place of its own.
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
		return nil // it leads nowhere, and is replaced by a directory
	}
	if err != nil {
		return err
	}
	r.places = append(r.places, &place{prefix: "pg_wal", dir: dir})
	return nil
}

// examineContent tells whether what is in the data directory may be changed. It returns the note of an interrupted
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

// examineTablespaces finds where the tablespaces go.
func (r *restorer) examineTablespaces(left *note) error {
	for old := range r.Tablespaces {
		if !slices.ContainsFunc(r.m.Tablespaces, func(ts backup.Tablespace) bool { return ts.Location == old }) {
			if slices.ContainsFunc(r.Changes.Tablespaces, func(c wal.Change) bool { return c.Tablespace.Location == old }) {
				return fmt.Errorf("%q %w: that tablespace was created after the backup, and the replay makes it where it was", old, ErrPlace)
			}
			return fmt.Errorf("%q %w: the backup has no tablespace there%s", old, ErrPlace, r.locations())
		}
	}
	for _, ts := range r.m.Tablespaces {
		oid := strconv.FormatUint(uint64(ts.OID), 10)
		to, mapped := r.Tablespaces[ts.Location]
		if !mapped && r.Keep && r.Delta {
			to, mapped = r.placeOf(oid, left)
		}
		switch {
		case !mapped && !IsAbs(ts.Location):
			continue // it lies in the data directory, and goes there with all else
		case !mapped:
			to = ts.Location
		}
		if !filepath.IsAbs(to) || strings.ContainsAny(to, "\n\r") {
			return fmt.Errorf("%q %w: an absolute path is wanted", to, ErrPlace)
		}
		dir, err := resolve(to)
		if err != nil {
			return err
		}
		p := &place{prefix: "pg_tblspc/" + oid, oid: oid, dir: dir, link: filepath.Clean(to)}
		if p.empty, err = isEmpty(dir); err != nil {
			return err
		}
		if !p.empty && !r.owns(p, left) {
			return fmt.Errorf("the location %s of tablespace %s %w", dir, oid, ErrNotEmpty)
		}
		r.places = append(r.places, p)
	}
	return nil
}

// placeOf finds where the directory has a tablespace.
func (r *restorer) placeOf(oid string, left *note) (string, bool) {
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

// IsAbs tells whether a location in a backup is absolute, on whatever system it was taken.
func IsAbs(location string) bool {
	return filepath.IsAbs(location) || strings.HasPrefix(location, "/") || len(location) > 2 && location[1] == ':'
}

// owns tells whether what is in a tablespace's location is the cluster's own: its data directory leads there, or an
// interrupted restore of it went there.
func (r *restorer) owns(p *place, left *note) bool {
	if !r.Delta {
		return false
	}
	if left != nil && left.Tablespaces[p.oid] == p.dir {
		return true
	}
	link, err := filepath.EvalSymlinks(filepath.Join(r.Dir, "pg_tblspc", p.oid))
	return err == nil && link == p.dir
}

// checkApart refuses directories that lie in each other.
func (r *restorer) checkApart() error {
	type named struct{ what, dir string }
	var all []named
	for _, p := range r.places {
		what := "the data directory"
		switch {
		case p.oid != "":
			what = "tablespace " + p.oid
		case p.prefix != "":
			what = "where its pg_wal leads"
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

// exists reports whether there is something of this name, or that cannot be excluded.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// within tells whether b is a or lies below it.
func within(a, b string) bool {
	rel, err := filepath.Rel(a, b)
	return err == nil && filepath.IsLocal(rel)
}

// ownerOf returns to whom the files of a data directory are to be given. PostgreSQL does not run as root, so root's would be
// of no use.
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
