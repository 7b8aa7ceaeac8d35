// Package local keeps an archive in a directory: a local disk, an NFS or an SMB mount.
package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"walkeep/common/durable"
	"walkeep/common/storage"
)

// A Backend is an archive in a directory.
type Backend struct {
	root  string
	swept sync.Map // directories that were swept of temporary files by this process, by path
	limit *limit   // nil: none
}

// Open takes the directory that holds the archive. It must exist: a directory that is missing is most often a file
// system that is not mounted, and would be filled behind the mount.
func Open(dir string) (*Backend, error) {
	b := &Backend{root: dir}
	return b, b.available()
}

func (b *Backend) available() error {
	switch info, err := os.Stat(b.root); {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %s does not exist", storage.ErrUnavailable, b.root)
	case err != nil:
		return fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
	case !info.IsDir():
		return fmt.Errorf("%w: %s is not a directory", storage.ErrUnavailable, b.root)
	}
	return nil
}

func (b *Backend) path(name string) (string, error) {
	if err := storage.CheckName(name); err != nil {
		return "", err
	}
	return filepath.Join(b.root, filepath.FromSlash(name)), nil
}

// Put implements [storage.Backend].
func (b *Backend) Put(ctx context.Context, name string, write func(io.Writer) error, check func(io.Reader) error) error {
	file, err := b.path(name)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(file); err == nil {
		return &fs.PathError{Op: "create", Path: file, Err: fs.ErrExist}
	}
	if err := durable.MkdirAll(b.root, path.Dir(name)); err != nil {
		return b.absent(err)
	}
	b.sweep(filepath.Dir(file))
	f, err := durable.Create(file)
	if err != nil {
		return err
	}
	defer f.Discard()
	if err := write(f); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := b.limit.reserve(f.File); err != nil {
		return err
	}
	readBack := func(f *os.File) error {
		if check == nil {
			return nil
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		return check(f)
	}
	if err := f.Commit(readBack); err != nil {
		return err
	}
	return durable.SyncPath(b.root, path.Dir(path.Dir(name)))
}

// sweep removes what killed writers left in a directory, once in a process and before it is written to: on a full
// disk the leftovers may be what fills it. A failure is no reason not to store.
func (b *Backend) sweep(dir string) {
	if _, done := b.swept.LoadOrStore(dir, true); !done {
		durable.Sweep(dir)
	}
}

// Sync implements [storage.Syncer].
func (b *Backend) Sync(ctx context.Context, name string) error {
	file, err := b.path(name)
	if err != nil {
		return err
	}
	if err := durable.SyncFile(file); err != nil {
		return err
	}
	return durable.SyncPath(b.root, path.Dir(name))
}

// Replace implements [storage.Replacer].
func (b *Backend) Replace(ctx context.Context, name string, content []byte) error {
	file, err := b.path(name)
	if err != nil {
		return err
	}
	if err := durable.MkdirAll(b.root, path.Dir(name)); err != nil {
		return err
	}
	b.sweep(filepath.Dir(file))
	return durable.WriteFile(file, content)
}

// Open implements [storage.Backend].
func (b *Backend) Open(ctx context.Context, name string) (storage.Object, error) {
	file, err := b.path(name)
	if err != nil {
		return nil, err
	}
	f, err := durable.Open(file)
	if err != nil {
		return nil, b.absent(err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", file)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return object{f, info.Size()}, nil
}

// absent lets "not there" stand only where the archive itself is there.
func (b *Backend) absent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		if gone := b.available(); gone != nil {
			return gone
		}
	}
	return err
}

type object struct {
	*os.File
	size int64
}

func (o object) Size() int64 { return o.size }

// List implements [storage.Backend]. Temporary files are not listed.
func (b *Backend) List(ctx context.Context, prefix string) ([]storage.Entry, error) {
	dir, begin := path.Split(prefix)
	full := b.root
	if prefix != "" {
		if err := storage.CheckName(prefix); err != nil {
			return nil, err
		}
		full = filepath.Join(b.root, filepath.FromSlash(dir))
	}
	d, err := os.Open(full)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, b.available()
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	files, err := d.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	var entries []storage.Entry
	for _, f := range files {
		if !strings.HasPrefix(f.Name(), begin) || durable.IsTemp(f.Name()) {
			continue
		}
		e := storage.Entry{Name: dir + f.Name()}
		if f.IsDir() {
			e.Name += "/"
		} else if info, err := f.Info(); err == nil {
			e.Size = info.Size()
		} else if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		} else {
			return nil, err
		}
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b storage.Entry) int { return cmp.Compare(a.Name, b.Name) })
	return entries, nil
}

// Remove implements [storage.Backend].
func (b *Backend) Remove(ctx context.Context, name string) error {
	file, err := b.path(name)
	if err != nil {
		return err
	}
	if err := os.Remove(file); err != nil {
		return b.absent(err)
	}
	return durable.SyncDir(filepath.Dir(file)) // or a power cut brings it back
}
