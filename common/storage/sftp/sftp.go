// Package sftp keeps an archive on another host, over SSH.
//
// # What the server must be able to do
//
// OpenSSH's server can do all of it. Without hardlink@openssh.com nothing is created, because an object could replace
// another one, and without posix-rename@openssh.com no note is replaced. Without fsync@openssh.com, and where a directory cannot
// be made durable, nothing is written unless [Options].NoFsync is set. Any server that is reached can be read.
//
// # How an object is created
//
// It is written under a temporary name in its directory, made durable, read back, and then linked to its name, which the server
// refuses if the name is taken. Afterwards the temporary name is removed, and the directory and those above it are made durable.
//
// An account that may not remove files (internal-sftp -P remove,rmdir) moves the temporary name to one fixed hidden name in
// the same directory, so that one file at most is left there. Temporary files that killed writers have left are removed a day
// after they were last written to, by the clock of the server: when something is created in their directory, or when it is
// pruned.
//
// # Broken connections
//
// All calls share one connection. A call whose connection breaks is made again once with a new one, at the step where it was.
// After a lost answer to the request that links an object, the object there is compared with what was written: the same
// content counts as created. A server that does not answer for [Options].Timeout counts as broken, and is not asked again by
// the same call. A call with a context ends with it.
//
// An object that is open is read on after the connection was made again if it still has its size and its time. SFTP has no
// better way to recognize a file, so a note that is replaced twice in a second by one of the same size may be read in two parts.
package sftp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pkg/sftp"

	"walkeep/common/cli"
	"walkeep/common/storage"
)

// A Backend is an archive on an SFTP server.
type Backend struct {
	o       Options
	address string // host and port

	lock   chan struct{} // holds an element while conn and closed are used
	conn   *conn
	closed bool

	swept        sync.Map    // directories that were swept of temporary files by this process, by path
	mayNotRemove atomic.Bool // the server has denied this account the removal of a file
}

// Open connects to the server, and checks that the archive's root is there.
func Open(ctx context.Context, o Options) (*Backend, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	b := &Backend{o: o, address: net.JoinHostPort(o.Host, strconv.Itoa(o.Port)), lock: make(chan struct{}, 1)}
	if err := b.available(ctx); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// String is the archive's URL.
func (b *Backend) String() string { return place(b.o) }

// path is that of an object or a directory on the server.
func (b *Backend) path(name string) string { return path.Join(b.o.Path, name) }

// at is how messages name an object or a directory.
func (b *Backend) at(name string) string { return strings.TrimSuffix(b.String(), "/") + "/" + name }

// absent is explain for calls that ask for an object or a directory: where the archive has answered that it is not there, the
// error is storage.ErrNotExist.
func (b *Backend) absent(ctx context.Context, what, name string, err error) error {
	notThere := errors.Is(err, fs.ErrNotExist)
	if err = b.explain(ctx, what, name, err); notThere && errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s %s: %w", what, b.at(name), storage.ErrNotExist)
	}
	return err
}

// explain makes the error of a request for an object or a directory one that can be read. An answer that something does not
// exist stands only where the root is there, and so is all that is on the way.
func (b *Backend) explain(ctx context.Context, what, name string, err error) error {
	switch {
	case err == nil || ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return err
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s %s: %w", what, b.at(name), storage.ErrDenied)
	case errors.Is(err, fs.ErrNotExist):
		if gone := b.available(ctx); gone != nil {
			return gone
		}
		if lost := b.lost(ctx, name); lost != nil {
			return lost
		}
	}
	return fmt.Errorf("%s %s: %w", what, b.at(name), err)
}

// available returns an error if the root is not a directory that this account may list.
func (b *Backend) available(ctx context.Context) error {
	info, err := do(ctx, b, func(c *conn, _ bool) (os.FileInfo, error) { return c.Stat(b.o.Path) })
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return fmt.Errorf("%w: %s is not a directory", storage.ErrUnavailable, b)
	case errors.Is(err, fs.ErrNotExist):
		return cli.Hinted(fmt.Errorf("%w: %s does not exist", storage.ErrUnavailable, b), "make the directory on the server, owned by the account")
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %s: %w", storage.ErrUnavailable, b, storage.ErrDenied)
	default:
		return err
	}
}

// lost returns why it cannot be determined whether something that was not found is there: a link on the way to it, or the
// name itself, leads nowhere, or a file is where a directory should be.
func (b *Backend) lost(ctx context.Context, name string) error {
	parts := strings.Split(strings.TrimSuffix(name, "/"), "/")
	for i := range parts {
		at := strings.Join(parts[:i+1], "/")
		info, err := do(ctx, b, func(c *conn, _ bool) (os.FileInfo, error) {
			info, err := c.Lstat(b.path(at))
			if err != nil || info.Mode()&fs.ModeSymlink == 0 {
				return info, err
			}
			if info, err = c.Stat(b.path(at)); errors.Is(err, fs.ErrNotExist) {
				err = decision{fmt.Errorf("the link %s leads nowhere", b.at(at))}
				if i < len(parts)-1 || strings.HasSuffix(name, "/") {
					err = decision{fmt.Errorf("%w: %w", storage.ErrUnavailable, err)}
				}
			}
			return info, err
		})
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case i < len(parts)-1 && !info.IsDir():
			return fmt.Errorf("%s is not a directory", b.at(at))
		}
	}
	return nil
}

// Open implements [storage.Backend].
func (b *Backend) Open(ctx context.Context, name string) (storage.Object, error) {
	if err := storage.CheckName(name); err != nil {
		return nil, err
	}
	h, err := do(ctx, b, func(c *conn, _ bool) (*handle, error) { return openRegular(c, b.path(name)) })
	if err != nil {
		return nil, b.absent(ctx, "open", name, err)
	}
	return &object{b: b, name: name, h: h, size: h.info.Size(), time: h.info.ModTime()}, nil
}

// A handle is a file that is open on one connection.
type handle struct {
	*sftp.File
	c    *conn
	info os.FileInfo
}

func openRegular(c *conn, at string) (*handle, error) {
	f, err := c.Client.Open(at)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = decision{errors.New("it is not a regular file")}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &handle{f, c, info}, nil
}

type object struct {
	b    *Backend
	name string
	size int64
	time time.Time

	mu sync.Mutex
	h  *handle
}

// Size implements [storage.Object].
func (o *object) Size() int64 { return o.size }

// Close implements [storage.Object]. It does not wait for the server.
func (o *object) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	go o.h.Close()
	return nil
}

// on gives the file on a connection, opened again where it was open on one that has broken.
func (o *object) on(c *conn) (*handle, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.h.c == c {
		return o.h, nil
	}
	h, err := openRegular(c, o.b.path(o.name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, decision{errors.New("it was removed while it was read")}
	}
	if err != nil {
		return nil, err
	}
	if h.info.Size() != o.size || !h.info.ModTime().Equal(o.time) {
		h.Close()
		return nil, decision{errors.New("it was replaced while it was read")}
	}
	o.h = h
	return h, nil
}

// readFull fills p from offset off on, all of which the object must have.
func (o *object) readFull(ctx context.Context, p []byte, off int64) error {
	_, err := do(ctx, o.b, func(c *conn, _ bool) (int, error) {
		h, err := o.on(c)
		if err != nil {
			return 0, err
		}
		return readFull(h.File, p, off)
	})
	if err != nil {
		err = fmt.Errorf("read %s: %w", o.b.at(o.name), err)
	}
	return err
}

// readFull fills p, and takes the end of the file for a failure.
func readFull(f *sftp.File, p []byte, off int64) (int, error) {
	n, err := f.ReadAt(p, off)
	if n == len(p) {
		return n, nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// ReadAt implements io.ReaderAt.
func (o *object) ReadAt(p []byte, off int64) (int, error) {
	n := max(0, min(int64(len(p)), o.size-off))
	if n > 0 {
		if err := o.readFull(context.Background(), p[:n], off); err != nil {
			return 0, err
		}
	}
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

// Reader implements [storage.Object].
func (o *object) Reader(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	return &reader{ctx: ctx, fill: o.readFull, off: off, end: min(o.size, off+max(0, n))}, ctx.Err()
}

// Bounds of what a reader asks for at once, in bytes. The client divides it into requests that are under way together.
const (
	firstRead   = 128 << 10
	largestRead = 2 << 20
)

// A reader streams a part of a file.
type reader struct {
	ctx      context.Context
	fill     func(ctx context.Context, p []byte, off int64) error
	off, end int64 // of what was not asked for yet
	buffer   []byte
	rest     []byte // of buffer, that was not read yet
	err      error  // that ended it
}

func (r *reader) Read(p []byte) (int, error) {
	if r.err == nil {
		r.err = r.ctx.Err()
	}
	switch {
	case r.err != nil:
		return 0, r.err
	case len(p) == 0:
		return 0, nil
	case len(r.rest) == 0 && r.off >= r.end:
		return 0, io.EOF
	case len(r.rest) == 0:
		size := min(r.end-r.off, int64(max(firstRead, min(largestRead, 2*cap(r.buffer)))))
		if int64(cap(r.buffer)) < size {
			r.buffer = make([]byte, size)
		}
		r.buffer = r.buffer[:size]
		if r.err = r.fill(r.ctx, r.buffer, r.off); r.err != nil {
			return 0, r.err // the buffer may still be written to
		}
		r.off += size
		r.rest = r.buffer
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *reader) Close() error {
	if r.err == nil {
		r.err = fs.ErrClosed
	}
	return nil
}

// List implements [storage.Backend].
func (b *Backend) List(ctx context.Context, prefix string, o storage.ListOptions) iter.Seq2[storage.Entry, error] {
	return storage.Walk(prefix, o, func(prefix string) ([]storage.Entry, error) { return b.list(ctx, prefix) })
}

func (b *Backend) readDir(ctx context.Context, dir string) ([]os.FileInfo, error) {
	return do(ctx, b, func(c *conn, _ bool) ([]os.FileInfo, error) { return c.ReadDirContext(ctx, b.path(dir)) })
}

// list reads one directory. A symbolic link is listed as what it leads to.
func (b *Backend) list(ctx context.Context, prefix string) ([]storage.Entry, error) {
	if err := storage.CheckPrefix(prefix); err != nil {
		return nil, err
	}
	dir, begin := path.Split(prefix)
	files, err := b.readDir(ctx, dir)
	if err != nil {
		if err = b.absent(ctx, "list", dir, err); errors.Is(err, storage.ErrNotExist) {
			err = nil
		}
		return nil, err
	}
	var entries []storage.Entry
	for _, info := range files {
		if !strings.HasPrefix(info.Name(), begin) || storage.CheckName(info.Name()) != nil {
			continue
		}
		e := storage.Entry{Name: dir + info.Name()}
		if info.Mode()&fs.ModeSymlink != 0 {
			target, err := do(ctx, b, func(c *conn, _ bool) (os.FileInfo, error) { return c.Stat(b.path(e.Name)) })
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
				e.Err = fmt.Errorf("the link %s cannot be followed: %w", b.at(e.Name), err)
				entries = append(entries, e)
				continue
			}
			if err != nil {
				return nil, b.absent(ctx, "list", dir, err)
			}
			info = target
		}
		switch {
		case info.IsDir():
			e.Name += "/"
		case !info.Mode().IsRegular():
			e.Err = fmt.Errorf("%s is not a regular file", b.at(e.Name))
		default:
			e.Size = info.Size()
		}
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b storage.Entry) int { return cmp.Compare(a.Name, b.Name) })
	return entries, nil
}

// Remove implements [storage.Backend]. The first removal is durable before the second one begins, and all are when it returns.
func (b *Backend) Remove(ctx context.Context, names ...string) error {
	var missing error
	var unsynced []string // directories
	for i, name := range names {
		err := b.remove(ctx, name)
		if errors.Is(err, storage.ErrNotExist) {
			missing = err
			continue
		}
		if err != nil {
			return errors.Join(err, b.syncRemovals(ctx, unsynced))
		}
		if dir := path.Dir(name); !slices.Contains(unsynced, dir) {
			unsynced = append(unsynced, dir)
		}
		if i == 0 {
			if err := b.syncRemovals(ctx, unsynced); err != nil {
				return err
			}
			unsynced = nil
		}
	}
	return errors.Join(missing, b.syncRemovals(ctx, unsynced))
}

func (b *Backend) remove(ctx context.Context, name string) error {
	if err := storage.CheckName(name); err != nil {
		return err
	}
	_, err := do(ctx, b, func(c *conn, again bool) (struct{}, error) {
		// The client's Remove removes an empty directory, too.
		info, err := c.Lstat(b.path(name))
		switch {
		case again && errors.Is(err, fs.ErrNotExist):
			return struct{}{}, nil // removed, without an answer
		case err != nil:
			return struct{}{}, err
		case info.IsDir():
			return struct{}{}, decision{errors.New("it is a directory")}
		}
		return struct{}{}, c.Client.Remove(b.path(name))
	})
	return b.absent(ctx, "remove", name, err)
}

// syncRemovals makes removals durable. A directory that was removed meanwhile needs nothing.
func (b *Backend) syncRemovals(ctx context.Context, dirs []string) error {
	for _, dir := range dirs {
		if err := b.syncDir(ctx, dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return b.explain(ctx, "fsync", dir, err)
		}
	}
	return nil
}

// HasDir implements [storage.Directories].
func (b *Backend) HasDir(ctx context.Context, dir string) (bool, error) {
	if err := storage.CheckName(dir); err != nil {
		return false, err
	}
	info, err := do(ctx, b, func(c *conn, _ bool) (os.FileInfo, error) { return c.Stat(b.path(dir)) })
	if err != nil {
		if err = b.absent(ctx, "look for", dir+"/", err); errors.Is(err, storage.ErrNotExist) {
			err = nil
		}
		return false, err
	}
	if !info.IsDir() {
		return false, fmt.Errorf("%s is not a directory", b.at(dir))
	}
	return true, nil
}

// Prune implements [storage.Pruner]. A symbolic link to a directory stays: somebody has made it.
func (b *Backend) Prune(ctx context.Context, dir string) error {
	dir = strings.TrimSuffix(dir, "/")
	if err := storage.CheckName(dir); err != nil {
		return err
	}
	info, err := do(ctx, b, func(c *conn, _ bool) (os.FileInfo, error) { return c.Lstat(b.path(dir)) })
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return nil
	}
	if err != nil {
		return b.explain(ctx, "prune", dir, err)
	}
	files, err := b.readDir(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return b.explain(ctx, "prune", dir, err)
	}
	used := slices.ContainsFunc(files, func(f os.FileInfo) bool { return !isTemp(f.Name()) })
	if left := b.removeTemps(ctx, dir, files, info.ModTime()); used || left > 0 {
		return nil
	}
	_, err = do(ctx, b, func(c *conn, _ bool) (struct{}, error) {
		return struct{}{}, c.RemoveDirectory(b.path(dir))
	})
	if err != nil && answered(err) {
		return nil // somebody has begun to write there, or it may not be removed
	}
	if err == nil {
		err = b.syncDir(ctx, path.Dir(dir))
	}
	return b.explain(ctx, "prune", dir, err)
}
