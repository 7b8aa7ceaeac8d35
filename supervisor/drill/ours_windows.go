package drill

import (
	"io/fs"
	"os"
)

// isOurs is for systems on which a user's directory for temporary files is that user's own.
func isOurs(fs.FileInfo) bool { return true }

func openLock(path string) (*os.File, error) { return os.OpenFile(path, os.O_RDWR, 0) }

func isPrivate(dir string) bool { return dir == os.TempDir() }
