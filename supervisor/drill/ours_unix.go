//go:build unix

package drill

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// isOurs reports whether a file belongs to the user of this process.
func isOurs(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}

// openLock opens a lock file. It does not block, even if the name is that of a pipe.
func openLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	return f, nil
}

// isPrivate reports whether the user of this process owns a directory, and nobody else can make files in it.
func isPrivate(dir string) bool {
	info, err := os.Stat(dir)
	return err == nil && info.IsDir() && isOurs(info) && info.Mode().Perm()&0o022 == 0 && info.Mode().Perm()&0o300 == 0o300
}
