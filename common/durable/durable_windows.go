package durable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/windows"
)

// sharingPatience bounds how long a file that another process holds for a moment (a virus scanner, a backup) is
// waited for.
const sharingPatience = 2 * time.Second

// Open opens a file for reading and lets others rename or remove it meanwhile, as PostgreSQL does with WAL segments.
func Open(path string) (*os.File, error) { return OpenFile(path, os.O_RDONLY) }

// OpenFile opens a file, and makes it if flag has os.O_CREATE. Others may rename or remove it meanwhile.
func OpenFile(path string, flag int) (f *os.File, err error) {
	err = patiently(func() error {
		dir, base := filepath.Split(path)
		if dir == "" {
			dir = "."
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			return err
		}
		defer root.Close()
		f, err = root.OpenFile(base, flag, FileMode) // unlike os.OpenFile, it opens with FILE_SHARE_DELETE
		return err
	})
	var failed *os.PathError
	if errors.As(err, &failed) {
		return nil, &os.PathError{Op: "open", Path: path, Err: failed.Err}
	}
	return f, err
}

// Remove removes a file. It waits a moment for one that another process holds.
func Remove(path string) error { return patiently(func() error { return os.Remove(path) }) }

// RemoveAll removes a directory and what is in it. It waits up to ten seconds for other processes that have files in it open and are
// about to end.
func RemoveAll(dir string) error {
	err := os.RemoveAll(dir)
	for until := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(until); err = os.RemoveAll(dir) {
		time.Sleep(50 * time.Millisecond)
	}
	return err
}

// openForSync opens for writing, without which Windows does not flush.
func openForSync(path string) (*os.File, error) { return OpenFile(path, os.O_RDWR) }

// SyncDir makes the names in a directory durable. A file system that cannot flush directories, as some network shares, has
// written renames through.
func SyncDir(dir string) error {
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return err
	}
	var h windows.Handle
	err = patiently(func() (err error) { // Windows flushes only what was opened for writing
		h, err = windows.CreateFile(name, windows.GENERIC_WRITE, windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE|windows.FILE_SHARE_DELETE,
			nil, windows.OPEN_EXISTING, windows.FILE_FLAG_BACKUP_SEMANTICS, 0)
		return err
	})
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer windows.CloseHandle(h)
	if err := windows.FlushFileBuffers(h); err != nil && !cannotFlush(err) {
		return fmt.Errorf("fsync directory %s: %w", dir, err)
	}
	return nil
}

func cannotFlush(err error) bool {
	return errors.Is(err, windows.ERROR_INVALID_FUNCTION) || errors.Is(err, windows.ERROR_NOT_SUPPORTED) ||
		errors.Is(err, windows.ERROR_INVALID_PARAMETER)
}

// claim locks a new temporary file for as long as it is open. A sweeper may be quicker between the file's creation and
// its lock; then the file is gone or about to be.
func claim(f *os.File) error {
	locked, err := Lock(f)
	if err != nil {
		return nil // no locks here: age decides
	}
	if !locked || !sameFile(f, f.Name()) {
		return errSwept
	}
	return nil
}

// removeAbandoned removes a temporary file unless its writer still holds the lock. It reports whether it did.
func removeAbandoned(path string) (bool, error) {
	f, err := OpenFile(path, os.O_RDWR)
	if held(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	locked, err := Lock(f)
	if err == nil && !locked || err != nil && !abandonedByAge(path) {
		f.Close()
		return false, nil
	}
	err = os.Remove(path) // while it is locked, so that no writer can take it for its own
	f.Close()
	if held(err) { // a virus scanner has it; the next sweep removes it
		return false, nil
	}
	return err == nil, err
}

// nameTemp gives the temporary file its final name, or fails with fs.ErrExist.
func nameTemp(f *os.File, path string) error {
	return moveFile(f.Name(), path, windows.MOVEFILE_WRITE_THROUGH)
}

func replaceOpen(f *os.File, path string) error {
	return moveFile(f.Name(), path, windows.MOVEFILE_WRITE_THROUGH|windows.MOVEFILE_REPLACE_EXISTING)
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
	if err := patiently(func() error { return windows.MoveFileEx(oldName, newName, flags) }); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// patiently repeats what fails because another process holds the file, until sharingPatience ends.
func patiently(do func() error) error {
	for deadline := time.Now().Add(sharingPatience); ; time.Sleep(20 * time.Millisecond) {
		if err := do(); !held(err) || time.Now().After(deadline) {
			return err
		}
	}
}

// held reports whether the error can mean that another process has the file open. Windows also denies access to a file that
// was removed and that another process has not closed yet.
func held(err error) bool {
	return errors.Is(err, windows.ERROR_SHARING_VIOLATION) || errors.Is(err, windows.ERROR_ACCESS_DENIED) ||
		errors.Is(err, windows.ERROR_LOCK_VIOLATION)
}
