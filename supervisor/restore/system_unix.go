//go:build unix

package restore

import (
	"io/fs"
	"os"
	"syscall"
)

// hasOneName reports whether a file in root has no other name by a hard link.
func hasOneName(_ *os.Root, _ string, info fs.FileInfo) bool {
	return info.Sys().(*syscall.Stat_t).Nlink == 1
}
