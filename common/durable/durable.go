// Package durable is the one place that makes files and directories survive a crash: new files that appear whole or
// not at all, never replace another, and are on disk before anyone hears of them. Nothing else in walkeep renames a file.
//
// What root makes belongs to the owner of the directory that it is made in, so that it does not matter whether root or
// the server's user calls a program first.
//
// A new file is written under a temporary name in its own directory, fsynced, read back by its writer, and only then
// renamed to its final name without replacing; the directory is fsynced after that. The temporary file is locked while
// its writer lives, so that [Sweep] can tell a leftover of a killed program from a file that is being written.
package durable

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Modes of what walkeep creates: WAL holds the database's content, so no other user may read it.
const (
	FileMode fs.FileMode = 0o600
	DirMode  fs.FileMode = 0o700
)

// ErrNoSoundRename says that the file system offers no way to give a file its name without the risk of replacing
// another writer's.
var ErrNoSoundRename = errors.New("the file system can neither rename without replacing nor make hard links")

// errSwept says that a sweeper took the new temporary file before its writer could lock it.
var errSwept = errors.New("temporary file was swept")

const (
	tempPrefix = "."
	tempSuffix = ".tmp"

	// unlockedAge is the age at which a temporary file counts as left behind where files cannot be locked.
	unlockedAge = 24 * time.Hour
)

// A File is a new file that has no name yet. It becomes visible with [File.Commit], or never.
type File struct {
	*os.File        // under its temporary name
	path     string // its final name

	written, begun int64 // bytes; those of which the system was asked to begin to bring them to disk
	synced         bool  // nothing was written since the last Sync
}

// writebackSize is how many bytes are written before the system is asked to bring them to disk, so that the fsync at the
// end of a large file finds most of them there.
const writebackSize = 8 << 20

// Write implements io.Writer.
func (f *File) Write(p []byte) (int, error) {
	f.synced = false
	n, err := Pieces{f.File}.Write(p)
	if f.written += int64(n); f.written-f.begun >= writebackSize {
		beginWriteback(f.File, f.begun, f.written-f.begun)
		f.begun = f.written
	}
	return n, err
}

// WriteAt implements io.WriterAt: it changes what was written.
func (f *File) WriteAt(p []byte, at int64) (int, error) {
	f.synced = false
	return f.File.WriteAt(p, at)
}

// ReadFrom has io.Copy write as Write does, and not past it as the file's own ReadFrom would.
func (f *File) ReadFrom(r io.Reader) (int64, error) { return io.Copy(struct{ io.Writer }{f}, r) }

// Sync brings to disk what was written, unless that is known to be there.
func (f *File) Sync() error {
	if f.synced {
		return nil
	}
	if err := f.File.Sync(); err != nil {
		return fmt.Errorf("fsync %s: %w", f.Name(), err)
	}
	f.synced = true
	return nil
}

// Create begins the file that will be path. It fails where the directory does not exist.
func Create(path string) (*File, error) {
	for try := 0; ; try++ {
		f, err := createTemp(path)
		if err == nil {
			return &File{File: f, path: path}, nil
		}
		if !errors.Is(err, errSwept) || try == 10 {
			return nil, err
		}
	}
}

func createTemp(path string) (*os.File, error) {
	var r [8]byte
	rand.Read(r[:]) // never fails
	dir, base := filepath.Split(path)
	temp := filepath.Join(dir, tempPrefix+base+"."+hex.EncodeToString(r[:])+tempSuffix)
	f, err := OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return nil, err
	}
	if err := claim(f); err != nil {
		f.Close()
		os.Remove(temp) // unless it was swept
		return nil, err
	}
	return f, nil
}

// Commit makes the file durable under its final name. check, unless nil, is called after the file was fsynced and
// before it gets its name, and reads back what was written; its error discards the file. Where the name exists already,
// it is left alone and the error is fs.ErrExist. In every case the temporary file is gone afterwards.
func (f *File) Commit(check func(*os.File) error) error {
	defer f.Discard()
	// The content must be on disk before the name, or a power cut could leave the name without the content.
	if err := f.Sync(); err != nil {
		return err
	}
	if check != nil {
		if err := check(f.File); err != nil {
			return err
		}
	}
	if err := nameTemp(f.File, f.path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(f.path))
}

// Put gives the file its name, over the file that has it. Like [Replace] it fsyncs nothing. It is for copies that can be made again
// and that are verified when they are read.
func (f *File) Put() error {
	defer f.Discard()
	return replaceOpen(f.File, f.path)
}

// Discard closes and removes the file. It does nothing after Commit.
func (f *File) Discard() {
	if err := f.Close(); !errors.Is(err, os.ErrClosed) {
		os.Remove(f.Name())
	}
}

// Replace moves temp over path. It is for files that are asked for again after a crash, such as a WAL segment that is
// delivered to a recovering server, and for small notes that hold no one's data: it fsyncs nothing.
func Replace(temp, path string) error { return replace(temp, path) }

// WriteFile durably replaces the content of path.
func WriteFile(path string, content []byte) error { return WriteFileMode(path, content, FileMode) }

// WriteFileMode is WriteFile for a file with this mode.
func WriteFileMode(path string, content []byte, mode fs.FileMode) error {
	f, err := Create(path)
	if err != nil {
		return err
	}
	defer f.Discard()
	if _, err := f.Write(content); err != nil {
		return err
	}
	if mode != FileMode {
		if err := f.Chmod(mode); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil { // before the name, as in Commit
		return err
	}
	if err := replaceOpen(f.File, path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// MkdirAll makes the directories of the relative path dir that are missing below root, which must exist: a root that
// is missing is a file system that is not mounted, and not to be made up.
func MkdirAll(root, dir string) error {
	if dir == "." || dir == "" {
		return nil // the root itself
	}
	at := root
	for part := range strings.SplitSeq(filepath.ToSlash(dir), "/") {
		if err := mkdir(at, part); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		at = filepath.Join(at, part)
	}
	return nil
}

// SyncPath makes the names of dir and of its parents up to and including root durable, whichever process made them: another
// writer may have made a directory and died before its fsync. dir is relative to root.
func SyncPath(root, dir string) error {
	for dir != "." && dir != "" {
		if err := SyncDir(filepath.Join(root, dir)); err != nil {
			return err
		}
		dir = filepath.Dir(dir)
	}
	return SyncDir(root)
}

// SyncFile makes an existing file's content durable. Another process may have written it and died before its fsync.
func SyncFile(path string) error {
	f, err := openForSync(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("fsync %s: %w", path, err)
	}
	return nil
}

// IsTemp reports whether a name in a directory is that of a temporary file.
func IsTemp(name string) bool {
	return strings.HasPrefix(name, tempPrefix) && strings.HasSuffix(name, tempSuffix)
}

// Sweep removes the temporary files in dir whose writers are gone, and returns how many. If the file system has no
// locks, it removes those that are a day older than the directory's newest change.
func Sweep(dir string) (int, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	removed := 0
	for _, e := range entries {
		if !IsTemp(e.Name()) || !e.Type().IsRegular() {
			continue
		}
		ok, err := removeAbandoned(filepath.Join(dir, e.Name()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return removed, err
		}
		if ok {
			removed++
		}
	}
	return removed, nil
}

// sameFile reports whether a path is that of an open file.
func sameFile(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Lstat(path)
	return err == nil && os.SameFile(a, b)
}

// abandonedByAge is the rule where locks do not help. Both times come from the file system's clock.
func abandonedByAge(path string) bool {
	file, err := os.Lstat(path)
	if err != nil {
		return false
	}
	dir, err := os.Stat(filepath.Dir(path))
	return err == nil && dir.ModTime().Sub(file.ModTime()) > unlockedAge
}
