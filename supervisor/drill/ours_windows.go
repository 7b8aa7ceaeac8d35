package drill

import (
	"io/fs"
	"os"
)

// isOurs returns true: on Windows each user has an own directory for temporary files.
func isOurs(fs.FileInfo) bool { return true }

func openLock(path string) (*os.File, error) { return os.OpenFile(path, os.O_RDWR, 0) }

func isPrivate(dir string) bool { return dir == os.TempDir() }
