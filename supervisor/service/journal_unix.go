//go:build unix

package service

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// IsJournal reports whether a file leads to systemd's journal. The variable alone is not enough: programs inherit it
// whose output goes elsewhere.
func IsJournal(f *os.File) bool {
	stream := os.Getenv("JOURNAL_STREAM")
	var s unix.Stat_t
	if stream == "" || unix.Fstat(int(f.Fd()), &s) != nil {
		return false
	}
	return stream == fmt.Sprintf("%d:%d", s.Dev, s.Ino)
}
