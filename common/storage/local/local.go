// Package local keeps an archive in a directory: a local disk, an NFS or an SMB mount.
package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"runtime"
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

// Open opens the directory that holds the archive. The directory must exist: a missing one is most often a file system
// that is not mounted, and writes would fill the file system below it.
func Open(dir string) (*Backend, error) {
	b := &Backend{root: dir}
	return b, b.available()
}

// available returns an error if the root cannot be listed or its entries cannot be reached.
func (b *Backend) available() error {
	d, err := os.Open(b.root)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s does not exist", storage.ErrUnavailable, b.root)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
	}
	defer d.Close()
	switch info, err := d.Stat(); {
	case err != nil:
		return fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
	case !info.IsDir():
		return fmt.Errorf("%w: %s is not a directory", storage.ErrUnavailable, b.root)
	}
	if _, err := os.Stat(b.root + string(filepath.Separator) + "."); err != nil {
		return fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
	}
	return nil
}

func (b *Backend) path(name string) (string, error) {
	if err := storage.CheckName(name); err != nil {
		return "", err
	}
	file, err := filepath.Localize(name)
	if err != nil || runtime.GOOS == "windows" && trimmed(name) {
		return "", fmt.Errorf("%w: this system has no file of the name %q", storage.ErrName, name)
	}
	return filepath.Join(b.root, file), nil
}

// trimmed reports whether Windows would take the name for another: it ignores dots and spaces at the end of each element.
func trimmed(name string) bool {
	for part := range strings.SplitSeq(name, "/") {
		if strings.TrimRight(part, ". ") != part {
			return true
		}
	}
	return false
}

// Create implements [storage.Backend].
func (b *Backend) Create(ctx context.Context, name string, o storage.CreateOptions) (storage.Writer, error) {
	file, err := b.path(name)
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(file); err == nil {
		return nil, taken(file)
	}
	f, err := b.create(name, file)
	if err != nil {
		return nil, b.explain(name, err)
	}
	return &writer{File: f, b: b, name: name, path: file}, nil
}

// create begins a file, in directories that are made where they are missing. Prune may remove one that is still empty.
func (b *Backend) create(name, file string) (*durable.File, error) {
	for try := 1; ; try++ {
		if err := durable.MkdirAll(b.root, path.Dir(name)); err != nil {
			return nil, err
		}
		b.sweep(b.root) // of several that began the archive at once and were killed, none will write there again
		b.sweep(filepath.Dir(file))
		f, err := durable.Create(file)
		if !errors.Is(err, fs.ErrNotExist) || try == 3 {
			return f, err
		}
	}
}

// A writer is a temporary file that is to become an object.
type writer struct {
	*durable.File
	b       *Backend
	name    string
	path    string // that it will have
	release func() // gives back its place below the limit; nil while it has none
}

// Verify implements [storage.Writer]. What it has read is what is on disk, and what Commit gives a name to.
func (w *writer) Verify(ctx context.Context, read func(io.Reader) error) error {
	if err := w.ready(ctx); err != nil {
		return err
	}
	if err := w.Sync(); err != nil {
		return err
	}
	if _, err := w.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return read(w.File.File)
}

// Commit implements [storage.Writer].
func (w *writer) Commit(ctx context.Context) error {
	if err := w.ready(ctx); err != nil {
		return err
	}
	if err := w.File.Commit(nil); err != nil {
		if _, named := os.Lstat(w.path); named == nil && errors.Is(err, fs.ErrExist) {
			return taken(w.path)
		}
		return err
	}
	w.release = nil // it has what it needs
	return durable.SyncPath(w.b.root, path.Dir(path.Dir(w.name)))
}

// ready reserves the place of what was written, before any of it is made durable.
func (w *writer) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil || w.release != nil {
		return err
	}
	var err error
	w.release, err = w.b.limit.reserve(w.File.File)
	return err
}

// Discard implements [storage.Writer].
func (w *writer) Discard() {
	w.File.Discard()
	if w.release != nil {
		w.release()
		w.release = nil
	}
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
		return b.absent(name, err)
	}
	return durable.SyncPath(b.root, path.Dir(name))
}

// Replace implements [storage.Backend].
func (b *Backend) Replace(ctx context.Context, name string, content []byte) error {
	file, err := b.path(name)
	if err != nil {
		return err
	}
	if err := durable.MkdirAll(b.root, path.Dir(name)); err != nil {
		return b.explain(name, err)
	}
	b.sweep(filepath.Dir(file))
	if err := durable.WriteFile(file, content); err != nil {
		return b.explain(name, err)
	}
	return durable.SyncPath(b.root, path.Dir(path.Dir(name)))
}

// Open implements [storage.Backend].
func (b *Backend) Open(ctx context.Context, name string) (storage.Object, error) {
	file, err := b.path(name)
	if err != nil {
		return nil, err
	}
	f, err := durable.Open(file)
	if err != nil {
		return nil, b.absent(name, err)
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

func taken(file string) error { return fmt.Errorf("create %s: %w", file, storage.ErrExist) }

// absent is explain for calls that ask for an object: where the archive has answered that it is not there, the error is
// storage.ErrNotExist.
func (b *Backend) absent(name string, err error) error {
	if err = b.explain(name, err); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", filepath.Join(b.root, filepath.FromSlash(name)), storage.ErrNotExist)
	}
	return err
}

// explain lets "not there", and any other failure, stand only where the archive itself is there, and so is all that is on
// the way to the object.
func (b *Backend) explain(name string, err error) error {
	if gone := b.available(); gone != nil {
		return gone
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if lost := b.lost(name); lost != nil {
		return lost
	}
	return err
}

// lost returns why it cannot be determined whether an object or a directory that was not found is there: a link on the
// way to it, or the name itself, leads nowhere, such as to a disk that is not mounted.
func (b *Backend) lost(name string) error {
	at := b.root
	parts := strings.Split(strings.TrimSuffix(name, "/"), "/")
	for i, part := range parts {
		at = filepath.Join(at, part)
		info, err := os.Lstat(at)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			continue
		}
		if _, err = os.Stat(at); err == nil {
			continue
		}
		if err = leadsNowhere(at, err); i < len(parts)-1 || strings.HasSuffix(name, "/") {
			err = fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
		}
		return err
	}
	return nil
}

// leadsNowhere is the error of a link, which must not look like "not there".
func leadsNowhere(link string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the link %s leads nowhere", link)
	}
	return err
}

type object struct {
	*os.File
	size int64
}

func (o object) Size() int64 { return o.size }

// Reader implements [storage.Object].
func (o object) Reader(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(o.File, off, n)), ctx.Err()
}

// List implements [storage.Backend].
func (b *Backend) List(ctx context.Context, prefix string, o storage.ListOptions) iter.Seq2[storage.Entry, error] {
	return storage.Walk(prefix, o, func(prefix string) ([]storage.Entry, error) {
		entries, err := b.list(prefix)
		if err == nil {
			err = ctx.Err()
		}
		return entries, err
	})
}

// list reads one directory. What could not be an object is not listed, temporary files above all. A symbolic
// link is listed as what it leads to: a directory may have been moved to another disk.
func (b *Backend) list(prefix string) ([]storage.Entry, error) {
	if err := storage.CheckPrefix(prefix); err != nil {
		return nil, err
	}
	dir, begin := path.Split(prefix)
	full := filepath.Join(b.root, filepath.FromSlash(dir))
	d, err := os.Open(full)
	if err != nil {
		if err = b.absent(dir, err); errors.Is(err, storage.ErrNotExist) {
			err = nil
		}
		return nil, err
	}
	defer d.Close()
	files, err := d.ReadDir(-1)
	if err != nil {
		return nil, b.explain(dir, err)
	}
	var entries []storage.Entry
	for _, f := range files {
		if !strings.HasPrefix(f.Name(), begin) || storage.CheckName(f.Name()) != nil {
			continue
		}
		e := storage.Entry{Name: dir + f.Name()}
		at := filepath.Join(full, f.Name())
		info, err := f.Info()
		if err == nil && info.Mode()&fs.ModeSymlink != 0 {
			if info, err = os.Stat(at); err != nil {
				e.Err = leadsNowhere(at, err)
				entries = append(entries, e)
				continue
			}
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue // removed meanwhile
		case err != nil:
			return nil, b.explain(dir, err)
		case info.IsDir():
			e.Name += "/"
		default:
			e.Size, e.Err = info.Size(), unreadable(at, info)
		}
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b storage.Entry) int { return cmp.Compare(a.Name, b.Name) })
	return entries, nil
}

// unreadable returns why a file's content cannot be read; nil if it can. It opens only a file whose mode suggests that
// it cannot be read, because there may be a million files.
func unreadable(file string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", file)
	}
	if readable(info) {
		return nil
	}
	f, err := durable.Open(file)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile
		}
		return err
	}
	return f.Close()
}

// MakeDir implements [storage.Directories].
func (b *Backend) MakeDir(ctx context.Context, dir string) error {
	if _, err := b.path(dir); err != nil {
		return err
	}
	if err := durable.MkdirAll(b.root, dir); err != nil {
		return b.explain(dir+"/", err)
	}
	if _, err := b.HasDir(ctx, dir); err != nil {
		return err
	}
	return durable.SyncPath(b.root, path.Dir(dir))
}

// HasDir implements [storage.Directories].
func (b *Backend) HasDir(ctx context.Context, dir string) (bool, error) {
	full, err := b.path(dir)
	if err != nil {
		return false, err
	}
	info, err := os.Stat(full)
	if err != nil {
		if err = b.absent(dir+"/", err); errors.Is(err, storage.ErrNotExist) {
			err = nil
		}
		return false, err
	}
	if !info.IsDir() {
		return false, fmt.Errorf("%s is not a directory", full)
	}
	return true, nil
}

// Remove implements [storage.Backend].
func (b *Backend) Remove(ctx context.Context, names ...string) error {
	var missing error
	for _, name := range names {
		if err := b.remove(name); errors.Is(err, storage.ErrNotExist) {
			missing = err
		} else if err != nil {
			return err
		}
	}
	return missing
}

func (b *Backend) remove(name string) error {
	file, err := b.path(name)
	if err != nil {
		return err
	}
	if err := durable.Remove(file); err != nil {
		if _, gone := os.Lstat(file); errors.Is(gone, fs.ErrNotExist) {
			err = gone // a file system that cannot be written to says that first
		}
		return b.absent(name, err)
	}
	return durable.SyncDir(filepath.Dir(file)) // or a power cut brings it back
}

// Prune implements [storage.Pruner]. A symbolic link to a directory stays: somebody has made it.
func (b *Backend) Prune(ctx context.Context, dir string) error {
	full, err := b.path(strings.TrimSuffix(dir, "/"))
	if err != nil {
		return err
	}
	info, err := os.Lstat(full)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return nil
	}
	if err != nil {
		return b.explain(dir, err)
	}
	if _, err := durable.Sweep(full); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return b.explain(dir, err)
	}
	if left, err := os.ReadDir(full); err != nil || len(left) > 0 {
		return nil // it is in use, or gone
	}
	if err := os.Remove(full); err != nil {
		return nil // somebody has begun to write there, which is no failure
	}
	return durable.SyncDir(filepath.Dir(full))
}
