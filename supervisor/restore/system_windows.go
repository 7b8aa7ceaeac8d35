package restore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"
)

// An owner is to whom files are given. Here they are the restoring user's own.
type owner struct{}

func ownerOf(string) (owner, error)           { return owner{}, nil }
func (owner) giveDir(string) error            { return nil }
func (owner) giveLink(*os.Root, string) error { return nil }
func (owner) giveFile(*os.File) error         { return nil }
func (owner) enters(string) (string, bool)    { return "", true }
func hasOneName(fs.FileInfo) bool             { return true }
func checkNotServed(dir, data string) error   { return nil }
func (*restorer) servedBeside() string        { return "" }

// freeSpace gives a number for the file system that holds a directory, or will, and its free bytes.
func freeSpace(dir string) (id uint64, free int64, err error) {
	for !exists(dir) {
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
		id = id<<8 | uint64(c&0xff)
	}
	return id, int64(available), nil
}

const stillActive = 259

// alive tells whether a process of this id runs.
func alive(pid int) bool {
	h, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, uint32(pid))
	if err != nil {
		return errors.Is(err, windows.ERROR_ACCESS_DENIED)
	}
	defer windows.CloseHandle(h)
	var code uint32
	return windows.GetExitCodeProcess(h, &code) != nil || code == stillActive
}
