package durable

import (
	"os"
	"path/filepath"
)

func mkdir(parent, name string) error { return os.Mkdir(filepath.Join(parent, name), DirMode) }
