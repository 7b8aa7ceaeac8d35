package pgtest

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

type copyOptions struct {
	// live is set when a server is writing the files: those that vanish are left out.
	live bool
	// keepOwner keeps the caller as the owner of the copy; otherwise it belongs to the servers' user.
	keepOwner bool
	// skip reports whether to leave out an entry, by its path below the source with slashes, and all of it if it is a
	// directory.
	skip func(path string, entry fs.DirEntry) bool
}

// copyTree copies the contents of directory src into directory dst, which is made if missing, with modes and symbolic
// links. Sockets and pipes are left out.
func copyTree(src, dst string, o copyOptions) error {
	give := giveToServer
	if o.keepOwner {
		give = func(string) error { return nil }
	}
	return filepath.WalkDir(src, func(path string, entry fs.DirEntry, err error) error {
		if err == nil {
			err = copyEntry(src, dst, path, entry, o, give)
		}
		if o.live && errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
}

func copyEntry(src, dst, path string, entry fs.DirEntry, o copyOptions, give func(string) error) error {
	rel, err := filepath.Rel(src, path)
	if err != nil {
		return err
	}
	if rel != "." && o.skip != nil && o.skip(filepath.ToSlash(rel), entry) {
		if entry.IsDir() {
			return fs.SkipDir
		}
		return nil
	}
	to := filepath.Join(dst, rel)
	switch entry.Type() {
	case fs.ModeDir:
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if err := os.MkdirAll(to, 0o700); err != nil {
			return err
		}
		if err := os.Chmod(to, info.Mode().Perm()); err != nil {
			return err
		}
	case fs.ModeSymlink:
		target, err := os.Readlink(path)
		if err != nil {
			return err
		}
		if err := os.Symlink(target, to); err != nil {
			return err
		}
	case 0:
		if err := copyFile(path, to); err != nil {
			return err
		}
	default:
		return nil
	}
	return give(to)
}

var buffers = sync.Pool{New: func() any { return new([128 << 10]byte) }}

// copyFile copies contents and mode of a regular file.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, info.Mode().Perm())
	if err != nil {
		return err
	}
	buffer := buffers.Get().(*[128 << 10]byte)
	defer buffers.Put(buffer)
	// Without these wrappers io.Copy would ask the kernel for each of hundreds of small files whether it can share their blocks,
	// and then allocate a buffer.
	_, err = io.CopyBuffer(struct{ io.Writer }{out}, struct{ io.Reader }{in}, buffer[:])
	return errors.Join(err, out.Close())
}
