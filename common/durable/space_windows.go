package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"
)

// FreeSpace returns the free bytes of the file system that holds a directory, or will once it was made, and a number that
// identifies that file system on this host.
func FreeSpace(dir string) (free int64, device uint64, err error) {
	for _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) && filepath.Dir(dir) != dir; _, err = os.Stat(dir) {
		dir = filepath.Dir(dir)
	}
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, 0, err
	}
	var available uint64
	if err := windows.GetDiskFreeSpaceEx(name, &available, nil, nil); err != nil {
		return 0, 0, err
	}
	for _, c := range filepath.VolumeName(dir) {
		device = device<<8 | uint64(c&0xff)
	}
	return int64(available), device, nil
}
