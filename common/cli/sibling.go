package cli

import (
	"fmt"
	"os"
	"path/filepath"
)

// Sibling returns the absolute path of a program that is installed beside this one. It fails if there is none.
func Sibling(name string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	if self, err = filepath.EvalSymlinks(self); err != nil { // walkeep on the PATH is a link to supervisor
		return "", err
	}
	program := filepath.Join(filepath.Dir(self), name+filepath.Ext(self))
	if _, err := os.Stat(program); err != nil {
		return "", fmt.Errorf("%s is not beside this program: %w", name, err)
	}
	return program, nil
}
