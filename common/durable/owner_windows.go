package durable

import (
	"os"
	"path/filepath"
)

// OpenFile opens a file, and makes it if flag has os.O_CREATE.
func OpenFile(path string, flag int) (*os.File, error) { return os.OpenFile(path, flag, FileMode) }

func mkdir(parent, name string) error { return os.Mkdir(filepath.Join(parent, name), DirMode) }
