//go:build unix

package durable

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Open opens a file for reading. It does not wait for anyone, should the file be a named pipe.
func Open(path string) (*os.File, error) { return os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) }

// Remove removes a file.
func Remove(path string) error { return os.Remove(path) }

// RemoveAll removes a directory and what is in it.
func RemoveAll(dir string) error { return os.RemoveAll(dir) }

func openForSync(path string) (*os.File, error) { return os.Open(path) }

// SyncDir makes the names in a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("fsync directory %s: %w", dir, err)
	}
	return nil
}

// claim locks a new temporary file for as long as it is open. A sweeper may be quicker between the file's creation and
// its lock; then the file is gone or about to be.
func claim(f *os.File) error {
	switch err := flock(f); {
	case err == unix.EWOULDBLOCK:
		return errSwept
	case err != nil:
		return nil // no locks here: age decides
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if st.Nlink == 0 {
		return errSwept
	}
	return nil
}

// removeAbandoned removes a temporary file unless its writer still holds the lock. It reports whether it did.
func removeAbandoned(path string) (bool, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	switch err := flock(f); {
	case err == unix.EWOULDBLOCK:
		return false, nil
	case err != nil && !abandonedByAge(path):
		return false, nil
	}
	return true, os.Remove(path)
}

func flock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err != unix.EINTR {
			return err
		}
	}
}

// nameTemp gives the temporary file its final name, or fails with fs.ErrExist.
func nameTemp(f *os.File, path string) error {
	err := renameNoReplace(f.Name(), path)
	if !unsupported(err) {
		return err
	}
	// NFS has no such rename, but a hard link is as exclusive.
	err = os.Link(f.Name(), path)
	if unsupported(err) || errors.Is(err, unix.EPERM) {
		return fmt.Errorf("name %s: %w", path, ErrNoSoundRename)
	}
	if errors.Is(err, os.ErrExist) && sameFile(f, path) {
		return nil // the server made the link, only its answer was lost and the request sent again
	}
	return err
}

func unsupported(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ENOTSUP) ||
		errors.Is(err, unix.EOPNOTSUPP)
}

func replace(temp, path string) error { return os.Rename(temp, path) }

func replaceOpen(f *os.File, path string) error { return os.Rename(f.Name(), path) }
