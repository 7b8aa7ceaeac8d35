package durable

import (
	"os"

	"golang.org/x/sys/unix"
)

// beginWriteback does not wait, and promises nothing: what fails is reported by the fsync.
func beginWriteback(f *os.File, at, n int64) {
	unix.SyncFileRange(int(f.Fd()), at, n, unix.SYNC_FILE_RANGE_WRITE)
}
