//go:build unix

package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// OpenFile opens a file, and makes it with FileMode if flag has os.O_CREATE. A file that root makes belongs to the owner of its
// directory. There root follows no link out of the directory, whose owner may have made it.
func OpenFile(path string, flag int) (*os.File, error) {
	if os.Geteuid() != 0 || flag&os.O_CREATE == 0 {
		return os.OpenFile(path, flag, FileMode)
	}
	dir, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	f, err := dir.OpenFile(filepath.Base(path), flag, FileMode)
	if err != nil {
		return nil, err
	}
	if err := give(dir, f); err != nil {
		f.Close()
		if flag&os.O_EXCL != 0 { // it was made just now
			dir.Remove(filepath.Base(path))
		}
		return nil, err
	}
	return f, nil
}

// mkdir makes a directory in another one. Root gives it to the owner of that, and also one that is there and is root's own.
func mkdir(parent, name string) error {
	if os.Geteuid() != 0 {
		return os.Mkdir(filepath.Join(parent, name), DirMode)
	}
	dir, err := os.OpenRoot(parent)
	if err != nil {
		return err
	}
	defer dir.Close()
	made := dir.Mkdir(name, DirMode)
	if made != nil && !errors.Is(made, fs.ErrExist) {
		return made
	}
	info, err := dir.Lstat(name)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return made // a link belongs to the user who made it
	}
	f, err := dir.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := give(dir, f); err != nil {
		return err
	}
	return made
}

// give gives what is open in a directory to the directory's owner if it is root's. A file with another name is left
// alone: it may be any file of the system.
func give(dir *os.Root, f *os.File) error {
	in, err := dir.Stat(".")
	if err != nil {
		return err
	}
	is, err := f.Stat()
	if err != nil {
		return err
	}
	owner, has := in.Sys().(*syscall.Stat_t), is.Sys().(*syscall.Stat_t)
	if owner.Uid == 0 || has.Uid != 0 || !is.IsDir() && has.Nlink > 1 {
		return nil
	}
	return f.Chown(int(owner.Uid), int(owner.Gid))
}
