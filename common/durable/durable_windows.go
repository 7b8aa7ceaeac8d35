package durable

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/windows"
)

// sharingPatience bounds how long a file that another process holds for a moment (a virus scanner, a backup) is
// waited for.
const sharingPatience = 2 * time.Second

// Open opens a file for reading and lets others rename or remove it meanwhile, as PostgreSQL does with WAL segments.
func Open(path string) (*os.File, error) {
	dir, base := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	return os.OpenInRoot(dir, base) // unlike os.Open, it opens with FILE_SHARE_DELETE
}

// openForSync opens for writing, without which Windows does not flush.
func openForSync(path string) (*os.File, error) { return os.OpenFile(path, os.O_RDWR, 0) }

// SyncDir does nothing: Windows has no fsync of directories, and MoveFileEx writes through.
func SyncDir(dir string) error {
	_, err := os.Stat(dir)
	return err
}

// claim does nothing: an open file cannot be removed here, which serves as the lock.
func claim(*os.File) error { return nil }

func removeAbandoned(path string) (bool, error) {
	err := os.Remove(path)
	if held(err) {
		return false, nil
	}
	return err == nil, err
}

func nameTemp(f *os.File, path string) error {
	return move(f, path, windows.MOVEFILE_WRITE_THROUGH)
}

func replaceOpen(f *os.File, path string) error {
	return move(f, path, windows.MOVEFILE_WRITE_THROUGH|windows.MOVEFILE_REPLACE_EXISTING)
}

// move closes the file first, because an open one cannot be moved.
func move(f *os.File, path string, flags uint32) error {
	if err := f.Close(); err != nil {
		return err
	}
	err := moveFile(f.Name(), path, flags)
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

func replace(temp, path string) error {
	return moveFile(temp, path, windows.MOVEFILE_REPLACE_EXISTING)
}

func moveFile(from, to string, flags uint32) error {
	oldName, err := windows.UTF16PtrFromString(from)
	if err != nil {
		return err
	}
	newName, err := windows.UTF16PtrFromString(to)
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(sharingPatience); ; time.Sleep(20 * time.Millisecond) {
		err := windows.MoveFileEx(oldName, newName, flags)
		if err == nil {
			return nil
		}
		if !held(err) || time.Now().After(deadline) {
			return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
		}
	}
}

// held reports whether the error means that another process has the file open.
func held(err error) bool {
	return errors.Is(err, windows.ERROR_SHARING_VIOLATION) || errors.Is(err, windows.ERROR_ACCESS_DENIED) ||
		errors.Is(err, windows.ERROR_LOCK_VIOLATION)
}
