//go:build unix

package durable

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Lock locks an open file for as long as it is open, and reports whether it could. If the file system has no locks, it
// returns true: see [HasLocks].
func Lock(f *os.File) (bool, error) {
	switch err := flock(f); {
	case err == nil, lockless(err):
		return true, nil
	case errors.Is(err, unix.EWOULDBLOCK):
		return false, nil
	default:
		return false, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
}

// HasLocks reports whether the file system of an open file has locks. It also returns true if
// the locks of each host are separate, as on NFS that is mounted with nolock.
func HasLocks(f *os.File) bool { return !lockless(flock(f)) }

func lockless(err error) bool {
	return errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENOLCK) || errors.Is(err, unix.ENOSYS)
}
