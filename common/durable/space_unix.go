//go:build unix

package durable

import (
	"errors"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// FreeSpace returns the free bytes of the file system that holds a directory, or will once it was made, and a number that
// identifies that file system on this host.
func FreeSpace(dir string) (free int64, device uint64, err error) {
	var st unix.Stat_t
	for err = unix.Stat(dir, &st); errors.Is(err, fs.ErrNotExist) && filepath.Dir(dir) != dir; err = unix.Stat(dir, &st) {
		dir = filepath.Dir(dir)
	}
	if err != nil {
		return 0, 0, err
	}
	var file unix.Statfs_t
	if err := unix.Statfs(dir, &file); err != nil {
		return 0, 0, err
	}
	return int64(file.Bavail) * int64(file.Bsize), uint64(st.Dev), nil
}
