package restore

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A syncer makes everything that was written below a directory durable: by one syncfs at the end, because an fsync
// for each of thousands of files takes many times as long. Until then it makes the kernel write continuously.
type syncer struct {
	dir *os.File // open since before the first write, so that syncfs reports all write errors
	// each is set on kernels older than 5.8, whose syncfs does not report errors.
	each bool
}

func newSyncer(dir string) (*syncer, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	return &syncer{dir: f, each: !syncfsReports()}, nil
}

func syncfsReports() bool {
	var u unix.Utsname
	var major, minor int
	if unix.Uname(&u) != nil {
		return false
	}
	if n, _ := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor); n != 2 {
		return false
	}
	return major > 5 || major == 5 && minor >= 8
}

// start makes the kernel begin to write a part of a file.
func (s *syncer) start(f *os.File, at, n int64) {
	unix.SyncFileRange(int(f.Fd()), at, n, unix.SYNC_FILE_RANGE_WRITE) // the fsync reports errors
}

// finish is called when a file was written completely.
func (s *syncer) finish(f *os.File) error {
	if s.each {
		return f.Sync()
	}
	return nil
}

// all makes everything durable.
func (s *syncer) all() error {
	if err := unix.Syncfs(int(s.dir.Fd())); err != nil {
		return fmt.Errorf("sync the file system of %s: %w", s.dir.Name(), err)
	}
	return nil
}

func (s *syncer) close() { s.dir.Close() }

// syncsAll reports whether all includes directories.
const syncsAll = true
