package restore

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"

	"walkeep/common/backup"
	"walkeep/common/durable"
)

// pageSize is the unit in which existing files are rewritten, in bytes.
const pageSize = 8192

// write writes verified content of a file, and completes the file after its last byte.
func (w *worker) write(it *entry, at int64, plain []byte) error {
	n := int64(len(plain))
	if w.dry {
		w.Progress(n)
		return nil
	}
	if it.isControl() {
		copy(w.control[at:], plain)
		w.Progress(n)
		return nil
	}
	if err := w.open(it); err != nil {
		return err
	}
	var err error
	if it.old != nil {
		err = w.rewrite(it, at, plain)
	} else {
		_, err = durable.Pieces{File: it.f}.WriteAt(plain, at)
		w.written.Add(n)
	}
	if err != nil {
		return err
	}
	w.differ.Add(n)
	w.Progress(n)
	if n >= backup.BlockSize {
		it.root.sync.start(it.f, at, n)
	}
	if it.left.Add(-n) > 0 { // the worker that writes the last byte owns the file from here on
		return nil
	}
	return w.complete(it)
}

// open opens the file for all workers.
func (w *worker) open(it *entry) error {
	it.mu.Lock()
	defer it.mu.Unlock()
	if it.f != nil {
		return nil
	}
	dir, base, err := w.dir.of(it)
	if err != nil {
		return err
	}
	flag := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if it.old != nil {
		flag = os.O_RDWR
	}
	it.f, err = dir.OpenFile(base, flag, 0o600)
	return err
}

// rewrite changes an existing file where it differs, page by page.
func (w *worker) rewrite(it *entry, at int64, plain []byte) error {
	if w.old == nil {
		w.old = make([]byte, backup.BlockSize)
	}
	for len(plain) > 0 {
		part := plain[:min(len(plain), len(w.old))]
		n, err := it.f.ReadAt(w.old[:len(part)], at)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		written, err := writeDiffering(it.f, at, part, w.old[:n])
		w.written.Add(written)
		if err != nil {
			return err
		}
		plain, at = plain[len(part):], at+int64(len(part))
	}
	return nil
}

// writeDiffering writes the pages that differ from the old ones, neighbours at once, and returns how many bytes.
func writeDiffering(f io.WriterAt, at int64, plain, old []byte) (int64, error) {
	var written int64
	for from := 0; from < len(plain); {
		to := min(from+pageSize, len(plain))
		if to <= len(old) && string(plain[from:to]) == string(old[from:to]) {
			from = to
			continue
		}
		for to < len(plain) {
			next := min(to+pageSize, len(plain))
			if next <= len(old) && string(plain[to:next]) == string(old[to:next]) {
				break
			}
			to = next
		}
		n, err := f.WriteAt(plain[from:to], at+int64(from))
		written += int64(n)
		if err != nil {
			return written, err
		}
		from = to
	}
	return written, nil
}

// complete sets size, owner, mode and time of a completely written file, and closes it.
func (w *worker) complete(it *entry) error {
	f := it.f
	if it.old != nil && it.old.Size() > it.Size {
		if err := f.Truncate(it.Size); err != nil {
			return err
		}
	}
	if err := w.owner.GiveFile(f); err != nil {
		return err
	}
	if perm := it.perm(); perm != it.mode() {
		if err := f.Chmod(it.mode()); err != nil {
			return err
		}
	}
	if err := it.root.sync.finish(f); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	dir, base, err := w.dir.of(it)
	if err != nil {
		return err
	}
	return dir.Chtimes(base, it.ModTime, it.ModTime)
}

// perm returns the mode of the open file.
func (it *entry) perm() fs.FileMode {
	if it.old != nil {
		return it.old.Mode().Perm()
	}
	return 0o600
}

// adjust completes a file whose content is already right.
func (r *restorer) adjust(it *entry) error {
	root := it.root.handle
	resize := it.old == nil || it.old.Size() != it.Size
	switch {
	case resize || r.owner.Gives():
		// The opened file is changed, not another one to which the directory's owner gives its name by then.
		flag := os.O_RDONLY
		if resize {
			flag = os.O_WRONLY
		}
		if it.old == nil {
			flag |= os.O_CREATE | os.O_EXCL
		}
		f, err := root.OpenFile(it.name, flag, 0o600)
		if err != nil {
			return err
		}
		err = r.owner.GiveFile(f)
		if err == nil && resize {
			err = errors.Join(f.Truncate(it.Size), it.root.sync.finish(f))
		}
		if err == nil && it.perm() != it.mode() {
			err = f.Chmod(it.mode())
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	case it.perm() != it.mode():
		if err := root.Chmod(it.name, it.mode()); err != nil {
			return err
		}
	}
	if it.old != nil && it.old.ModTime().Unix() == it.ModTime.Unix() {
		return nil
	}
	return root.Chtimes(it.name, it.ModTime, it.ModTime)
}

// A dirCache keeps the directory of the last file open: files come in the order of their directories.
type dirCache struct {
	root   *rootDir
	dir    string
	opened *os.Root
}

// of returns an entry's directory, and its name in it.
func (c *dirCache) of(it *entry) (*os.Root, string, error) {
	dir, base := path.Split(it.name)
	if dir == "" {
		return it.root.handle, base, nil
	}
	if c.opened != nil && c.root == it.root && c.dir == dir {
		return c.opened, base, nil
	}
	c.close()
	opened, err := it.root.handle.OpenRoot(path.Clean(dir))
	if err != nil {
		return nil, "", err
	}
	c.root, c.dir, c.opened = it.root, dir, opened
	return opened, base, nil
}

func (c *dirCache) close() {
	if c.opened != nil {
		c.opened.Close()
		c.opened = nil
	}
}
