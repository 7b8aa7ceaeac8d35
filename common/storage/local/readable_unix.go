//go:build unix

package local

import (
	"io/fs"
	"os"
	"syscall"
)

// readable reports whether a file's mode lets this process read it for sure.
func readable(info fs.FileInfo) bool {
	mode := info.Mode().Perm()
	st, ok := info.Sys().(*syscall.Stat_t)
	return mode&0o444 == 0o444 || ok && int(st.Uid) == os.Geteuid() && mode&0o400 != 0
}
