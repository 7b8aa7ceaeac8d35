//go:build unix

package durable

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Lock locks an open file for as long as it is open, and tells whether it could.
func Lock(f *os.File) (bool, error) {
	switch err := flock(f); {
	case err == nil:
		return true, nil
	case errors.Is(err, unix.EWOULDBLOCK):
		return false, nil
	case errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.ENOLCK), errors.Is(err, unix.ENOSYS):
		return true, nil // this file system has no locks
	default:
		return false, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
}
