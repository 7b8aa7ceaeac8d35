package filebackup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"walkeep/common/backup"
)

// An entry is a file or a directory that belongs to the backup.
type entry struct {
	backup.File
	at    string // its path on this host
	pages bool   // it consists of pages with checksums
	first uint32 // number of its first page in the relation's fork
}

// A tree walks through a data directory.
type tree struct {
	Options
	version     string              // the directory in a tablespace that holds the files of this version
	tablespaces []backup.Tablespace // in the order of pg_tblspc
	inside      map[string]bool     // locations of tablespaces in the data directory, relative to it
}

// readTablespaces lists the tablespaces by pg_tblspc, as pg_backup_start does.
func (t *tree) readTablespaces() error {
	dir := filepath.Join(t.Dir, "pg_tblspc")
	names, err := readNames(dir)
	if err != nil {
		return err
	}
	t.inside = make(map[string]bool)
	root := t.Dir
	if real, err := filepath.EvalSymlinks(t.Dir); err == nil {
		root = real
	}
	for _, name := range names {
		at := filepath.Join(dir, name)
		info, err := os.Lstat(at)
		if errors.Is(err, fs.ErrNotExist) || !allDigits(name) {
			continue
		}
		if err != nil {
			return err
		}
		var oid uint32
		if _, err := fmt.Sscan(name, &oid); err != nil {
			continue
		}
		switch {
		case isLink(info):
			location, err := os.Readlink(at)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			ts := backup.Tablespace{OID: oid, Location: location}
			if err := ts.Check(); err != nil {
				return err
			}
			t.tablespaces = append(t.tablespaces, ts)
			for _, root := range []string{t.Dir, root} {
				if rel, err := filepath.Rel(root, location); err == nil && filepath.IsLocal(rel) && rel != "." {
					t.inside[filepath.ToSlash(rel)] = true
				}
			}
		case info.IsDir() && t.Major >= 16: // with allow_in_place_tablespaces; 15 takes them for a part of the data directory
			t.tablespaces = append(t.tablespaces, backup.Tablespace{OID: oid, Location: "pg_tblspc/" + name})
			t.inside["pg_tblspc/"+name] = true
		}
	}
	return nil
}

// walk visits everything but global/pg_control.
func (t *tree) walk(visit func(*entry) error) error {
	for _, ts := range t.tablespaces {
		rel := fmt.Sprintf("pg_tblspc/%d", ts.OID)
		if err := visit(&entry{File: backup.File{Path: rel, Dir: true, Mode: 0o700, ModTime: now()}}); err != nil {
			return err
		}
		at := filepath.Join(t.Dir, filepath.FromSlash(rel), t.version)
		info, err := os.Lstat(at)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		rel = path.Join(rel, t.version)
		if err := visit(directory(rel, info)); err != nil {
			return err
		}
		if err := t.directory(rel, at, visit); err != nil {
			return err
		}
	}
	return t.directory("", t.Dir, visit)
}

func now() time.Time { return time.Now().UTC().Truncate(time.Second) }

// directory returns the entry of a directory, or of a link that the restored cluster has as a directory.
func directory(rel string, info fs.FileInfo) *entry {
	f := backup.File{Path: rel, Dir: true, Mode: uint32(info.Mode().Perm()), ModTime: info.ModTime().UTC().Truncate(time.Second)}
	if isLink(info) {
		f.Mode = 0o700
	}
	return &entry{File: f}
}

// isLink reports whether a name is a symbolic link, or a junction of Windows.
func isLink(info fs.FileInfo) bool { return info.Mode()&(fs.ModeSymlink|fs.ModeIrregular) != 0 }

// directory visits what is in a directory. Its path in the backup is empty for the data directory itself.
func (t *tree) directory(rel, at string, visit func(*entry) error) error {
	names, err := readNames(at)
	if errors.Is(err, fs.ErrNotExist) && rel != "" {
		return nil // a database that was dropped
	}
	if err != nil {
		return err
	}
	ofDatabase := allDigits(path.Base(rel)) && (path.Dir(rel) == "base" || path.Base(path.Dir(rel)) == t.version)
	relations := ofDatabase || rel == "global"
	unlogged := make(map[string]bool)
	if ofDatabase && t.Major >= 11 || relations && t.Major >= 17 {
		for _, name := range names {
			if r, ok := parseRelation(name); ok && r.init {
				unlogged[r.number] = true
			}
		}
	}
	for _, name := range names {
		r, isRelation := relation{}, false
		if relations {
			r, isRelation = parseRelation(name)
		}
		switch {
		case excluded(name, t.Major),
			isRelation && !r.init && unlogged[r.number],
			ofDatabase && t.Major >= 11 && temporary(name),
			rel == "global" && name == "pg_control":
			continue
		}
		if err := t.name(path.Join(rel, name), filepath.Join(at, name), r, isRelation, visit); err != nil {
			return err
		}
	}
	return nil
}

// name visits one name of a directory, and what is below it.
func (t *tree) name(rel, at string, r relation, isRelation bool, visit func(*entry) error) error {
	info, err := os.Lstat(at)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	inTablespaces := path.Dir(rel) == "pg_tblspc"
	switch {
	case emptied(path.Base(rel)) || rel == t.StatsDir:
		return visit(directory(rel, info))
	case rel == "pg_wal":
		all := []string{rel, rel + "/archive_status"}
		if t.Major >= 17 {
			all = append(all, rel+"/summaries")
		}
		for _, dir := range all {
			if err := visit(directory(dir, info)); err != nil {
				return err
			}
		}
		return nil
	case inTablespaces && (isLink(info) || t.inside[rel]):
		return nil // walk visits them
	case info.IsDir():
		if err := visit(directory(rel, info)); err != nil || t.inside[rel] {
			return err
		}
		return t.directory(rel, at, visit)
	case !info.Mode().IsRegular():
		t.Notice(fmt.Sprintf("%s is left out: it is neither a file nor a directory", at))
		return nil
	}
	e := &entry{at: at, File: backup.File{Path: rel}, pages: isRelation && t.Checksums, first: r.segment * t.FilePages}
	e.describe(info)
	return visit(e)
}

// describe sets what the file system says of a file.
func (e *entry) describe(info fs.FileInfo) {
	e.Mode, e.ModTime, e.Size = uint32(info.Mode().Perm()), info.ModTime().UTC().Truncate(time.Second), info.Size()
}

func readNames(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// statsDir returns stats_temp_directory relative to the data directory; empty if it is elsewhere.
func statsDir(dir, setting string) string {
	if setting == "" {
		return ""
	}
	if filepath.IsAbs(setting) {
		rel, err := filepath.Rel(dir, setting)
		if err != nil || !filepath.IsLocal(rel) {
			return ""
		}
		setting = rel
	}
	return strings.TrimSuffix(path.Clean(filepath.ToSlash(setting)), "/")
}
