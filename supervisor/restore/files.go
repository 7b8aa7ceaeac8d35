package restore

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"walkeep/common/account"
	"walkeep/common/backup"
	"walkeep/common/durable"
)

// An entry is a file or a directory of the backup, with its state in the restored directory.
type entry struct {
	*backup.File
	root *rootDir
	name string      // in its root, with slashes
	old  fs.FileInfo // of the existing regular file or directory; nil if there is none
	// need has the blocks that must come from the archive; nil: all.
	need []bool

	left atomic.Int64 // bytes that must still be written
	mu   sync.Mutex   // guards f until it is open
	f    *os.File
}

// maxControl limits the size of pg_control, in bytes; it has 8192.
const maxControl = 64 << 10

// mode returns the file's mode, without permissions that only the owner and, to read, the group may have.
func (it *entry) mode() fs.FileMode {
	if it.Dir {
		return fs.FileMode(it.Mode)&0o750 | 0o700
	}
	return fs.FileMode(it.Mode)&0o750 | 0o600
}

func (it *entry) needs(block int) bool { return it.need == nil || it.need[block] }

// isControl reports whether this is the control file, which is written last.
func (it *entry) isControl() bool { return it.Path == "global/pg_control" }

// leftOut are files that the backup may contain and the restored directory must not: restore writes its own, and
// makes the links, so that tablespace_map could only lead to wrong directories.
var leftOut = []string{"recovery.conf", "recovery.signal", "standby.signal", "tablespace_map", "postmaster.pid", "postmaster.opts", markerName}

// needed are directories without which PostgreSQL does not start.
var needed = []string{"global", "pg_wal", "pg_tblspc"}

// assign finds the root of each file of the index, and refuses an index that leads out of the roots.
func (r *restorer) assign(files []backup.File) error {
	known := make(map[string]bool)
	add := func(f *backup.File) error {
		it := &entry{File: f}
		if err := r.locate(it); err != nil {
			return err
		}
		known[f.Path] = true
		if f.Dir {
			r.dirs = append(r.dirs, it)
		} else {
			r.files = append(r.files, it)
		}
		return nil
	}
	for i := range files {
		if slices.Contains(leftOut, files[i].Path) || r.isOwn(files[i].Path) {
			continue
		}
		if err := add(&files[i]); err != nil {
			return err
		}
	}
	for _, dir := range needed {
		if !known[dir] {
			if err := add(&backup.File{Path: dir, Dir: true, Mode: 0o700, ModTime: r.m.Began}); err != nil {
				return err
			}
		}
	}
	for _, it := range slices.Concat(r.files, r.dirs) {
		for dir := path.Dir(it.Path); dir != "." && !known[dir]; dir = path.Dir(dir) {
			if err := add(&backup.File{Path: dir, Dir: true, Mode: 0o700, ModTime: r.m.Began}); err != nil {
				return err
			}
		}
	}
	slices.SortFunc(r.dirs, func(a, b *entry) int { return cmp.Compare(a.Path, b.Path) })
	slices.SortStableFunc(r.files, func(a, b *entry) int {
		return cmp.Or(cmp.Compare(a.Volume, b.Volume), cmp.Compare(a.Offset, b.Offset))
	})
	return r.checkIndex()
}

// locate finds an entry's root.
func (r *restorer) locate(it *entry) error {
	it.root, it.name = r.roots[0], it.Path
	if err := backup.CheckPath(it.Path); err != nil {
		return fmt.Errorf("%w: %q: %w", ErrLayout, it.Path, err)
	}
	for _, p := range r.roots[1:] {
		if p.created {
			continue
		}
		if it.Path == p.prefix {
			if !it.Dir {
				return fmt.Errorf("%w: %q is a directory, not a file", ErrLayout, it.Path)
			}
			it.root, it.name = p, "."
		} else if rest, ok := strings.CutPrefix(it.Path, p.prefix+"/"); ok {
			it.root, it.name = p, rest
		}
	}
	return nil
}

// checkIndex checks that the files do not overlap, and that the files every cluster needs exist.
func (r *restorer) checkIndex() error {
	var before *entry
	for _, it := range r.files {
		if before != nil && it.Size > 0 && before.Volume == it.Volume && before.Offset+before.Size > it.Offset {
			return fmt.Errorf("%w: %q and %q overlap in volume %d", ErrLayout, before.Path, it.Path, it.Volume)
		}
		if it.Size > 0 {
			before = it
		}
	}
	control := r.entry("global/pg_control")
	if control == nil || r.entry("PG_VERSION") == nil {
		return fmt.Errorf("%w: it lacks global/pg_control or PG_VERSION", ErrLayout)
	}
	if control.Size == 0 || control.Size > maxControl {
		return fmt.Errorf("%w: a control file of %d bytes", ErrLayout, control.Size)
	}
	r.control = make([]byte, control.Size)
	return nil
}

// entry returns the backup's entry of a path; nil if there is none.
func (r *restorer) entry(path string) *entry {
	for _, it := range r.files {
		if it.Path == path {
			return it
		}
	}
	return nil
}

// checkSpace compares the needed space with the free space of each file system. A file that a delta rewrites counts
// as the one that it replaces.
func (r *restorer) checkSpace() error {
	sizes := make(map[*rootDir]int64)
	for _, it := range r.files {
		sizes[it.root] += (it.Size + 4095) &^ 4095
	}
	type disk struct {
		free, needed int64
		dir          string
	}
	disks := make(map[uint64]*disk)
	for _, p := range r.roots {
		free, id, err := durable.FreeSpace(p.dir)
		if err != nil {
			return fmt.Errorf("free space of %s: %w", p.dir, err)
		}
		if disks[id] == nil {
			disks[id] = &disk{free: free, dir: p.dir}
		}
		used, err := sizeOf(p)
		if err != nil {
			return err
		}
		disks[id].needed += sizes[p] - used
	}
	for _, d := range disks {
		if d.needed > d.free {
			return fmt.Errorf("%w: %s needs %d MB more than there are, and %d MB are free", ErrSpace, d.dir, (d.needed-d.free)>>20+1, d.free>>20)
		}
	}
	return nil
}

// sizeOf returns the size of the existing files of a root.
func sizeOf(p *rootDir) (size int64, err error) {
	if p.empty {
		return 0, nil
	}
	err = fs.WalkDir(os.DirFS(p.dir), ".", func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			size += info.Size()
		}
		return err
	})
	return size, err
}

// makeDirs makes the directories and the links of tablespaces.
func (r *restorer) makeDirs() error {
	for _, it := range r.dirs {
		if err := it.makeDir(r.owner); err != nil {
			return err
		}
	}
	for _, name := range r.inside {
		for end := range len(name) + 1 {
			if end < len(name) && name[end] != '/' {
				continue
			}
			if _, err := r.roots[0].handle.Lstat(name[:end]); err == nil {
				continue
			}
			it := entry{File: &backup.File{Dir: true, Mode: 0o700}, root: r.roots[0], name: name[:end]}
			if err := it.makeDir(r.owner); err != nil {
				return err
			}
		}
	}
	for _, p := range r.roots[1:] {
		if p.oid == "" || p.created {
			continue
		}
		root, link := r.roots[0].handle, p.prefix
		if to, err := root.Readlink(link); err == nil && to == p.link {
			continue
		}
		if err := root.RemoveAll(link); err != nil {
			return err
		}
		if err := root.Symlink(p.link, link); err != nil {
			return err
		}
		if err := r.owner.GiveLink(root, link); err != nil {
			return err
		}
	}
	return nil
}

func (it *entry) makeDir(o account.Account) error {
	root := it.root.handle
	if it.old == nil && it.name != "." {
		if err := root.Mkdir(it.name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	// The opened directory is changed, not another one that has its name by then.
	d, err := root.Open(it.name)
	if err != nil {
		return err
	}
	defer d.Close()
	info, err := d.Stat()
	if err != nil {
		return err
	}
	if named, err := root.Lstat(it.name); err != nil || !info.IsDir() || !os.SameFile(named, info) {
		return fmt.Errorf("%s in %s is not a directory", it.name, it.root.dir)
	}
	if info.Mode().Perm() != it.mode() {
		if err := d.Chmod(it.mode()); err != nil {
			return err
		}
	}
	return o.GiveFile(d)
}
