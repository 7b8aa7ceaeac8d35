//go:build unix

package restore

import (
	"io/fs"
	"syscall"
)

// hasOneName reports whether a file has no other name by a hard link.
func hasOneName(info fs.FileInfo) bool { return info.Sys().(*syscall.Stat_t).Nlink == 1 }
