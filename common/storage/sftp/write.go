package sftp

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"github.com/pkg/sftp"

	"walkeep/common/storage"
)

// partSize is how many bytes are written at once. The client divides them into requests that are under way together.
const partSize = 2 << 20

// Create implements [storage.Backend].
func (b *Backend) Create(ctx context.Context, name string, o storage.CreateOptions) (storage.Writer, error) {
	if err := storage.CheckName(name); err != nil {
		return nil, err
	}
	_, err := do(ctx, b, func(c *conn, _ bool) (struct{}, error) {
		if err := b.writable(c, extHardlink, "an object could replace another one"); err != nil {
			return struct{}{}, err
		}
		_, err := c.Lstat(b.path(name))
		if err == nil {
			return struct{}{}, decision{storage.ErrExist}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return struct{}{}, nil
		}
		return struct{}{}, err
	})
	if err != nil {
		return nil, b.explain(ctx, "create", name, err)
	}
	w, err := b.begin(ctx, name)
	if err != nil {
		return nil, err
	}
	return w, nil
}

// begin opens a new temporary file for an object, in directories that are made where they are missing. Prune may remove one that
// is still empty.
func (b *Backend) begin(ctx context.Context, name string) (*writer, error) {
	w := &writer{b: b, name: name, temp: newTemp(name), hash: sha256.New()}
	for try := 1; ; try++ {
		h, err := do(ctx, b, func(c *conn, again bool) (*handle, error) {
			flags := os.O_RDWR | os.O_CREATE | os.O_EXCL
			if again {
				flags = os.O_RDWR | os.O_CREATE // it may have been made, without an answer
			}
			f, err := c.OpenFile(b.path(w.temp), flags)
			if err != nil {
				return nil, err
			}
			if err := restrict(f.Chmod(0o600)); err != nil {
				f.Close()
				return nil, err
			}
			return &handle{File: f, c: c}, nil
		})
		if err == nil {
			w.h = h
			b.sweep(ctx, path.Dir(name), h)
			return w, nil
		}
		if !errors.Is(err, fs.ErrNotExist) || try == 3 {
			if errors.Is(err, fs.ErrNotExist) {
				err = errors.New("its directory was removed again and again")
			}
			return nil, b.explain(ctx, "create", name, err)
		}
		if err := b.mkdirAll(ctx, path.Dir(name)); err != nil {
			return nil, err
		}
	}
}

// A writer is a temporary file that is to become an object.
type writer struct {
	b          *Backend
	name, temp string
	h          *handle // the newest one

	part    []byte // that was not sent yet
	sent    int64  // bytes
	hash    hash.Hash
	durable bool  // all of it was
	doubt   bool  // the connection was lost while something was not durable, and with it, perhaps, the server's memory
	named   bool  // it has its name
	err     error // after which nothing can be done but Discard

	discarded bool
}

// on gives the file on a connection.
func (w *writer) on(c *conn) (*handle, error) {
	if w.h.c == c {
		return w.h, nil
	}
	f, err := c.OpenFile(w.b.path(w.temp), os.O_RDWR)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = decision{errors.New("the temporary file has gone")}
		}
		return nil, err
	}
	return &handle{File: f, c: c}, nil
}

// step makes a step with the file. After a failure there is no other step.
func (w *writer) step(ctx context.Context, what string, f func(h *handle) error) error {
	if w.err != nil {
		return w.err
	}
	h, err := do(ctx, w.b, func(c *conn, _ bool) (*handle, error) {
		h, err := w.on(c)
		if err != nil {
			return nil, err
		}
		if err = f(h); err != nil && h != w.h {
			h.Close()
		}
		return h, err
	})
	if err != nil {
		w.err = w.b.explain(ctx, what, w.name, w.b.full(ctx, err))
		return w.err
	}
	if h != w.h {
		w.doubt = w.doubt || !w.durable
		w.h = h
	}
	return nil
}

// full says of a failure without a reason that the server's disk is full, if it is.
func (b *Backend) full(ctx context.Context, err error) error {
	var status *sftp.StatusError
	if !errors.As(err, &status) || status.FxCode() != sftp.ErrSSHFxFailure {
		return err
	}
	none, asked := do(ctx, b, func(c *conn, _ bool) (bool, error) {
		if !c.has(extStatVFS) {
			return false, nil
		}
		v, err := c.StatVFS(b.o.Path)
		return err == nil && v.Bavail*v.Frsize < partSize, err
	})
	if asked == nil && none {
		return fmt.Errorf("the server's disk is full: %w", err)
	}
	return err
}

// Write implements io.Writer.
func (w *writer) Write(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if w.err != nil {
			return n, w.err
		}
		k := min(len(p)-n, partSize-len(w.part))
		w.part = append(w.part, p[n:n+k]...)
		n += k
		w.durable = false
		if len(w.part) == partSize {
			if err := w.flush(context.Background()); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

func (w *writer) flush(ctx context.Context) error {
	if len(w.part) == 0 {
		return w.err
	}
	err := w.step(ctx, "write", func(h *handle) error {
		n, err := h.WriteAt(w.part, w.sent)
		if err == nil && n < len(w.part) {
			err = io.ErrShortWrite
		}
		return err
	})
	if err != nil {
		return err
	}
	w.hash.Write(w.part)
	w.sent += int64(len(w.part))
	w.part = w.part[:0]
	return nil
}

// sync makes what was written durable. What was written before a connection was lost is read back then.
func (w *writer) sync(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if w.durable && w.err == nil {
		return nil
	}
	if err := w.flush(ctx); err != nil {
		return err
	}
	err := w.step(ctx, "fsync", func(h *handle) error {
		if !h.c.has(extFsync) && w.b.o.NoFsync {
			return nil
		}
		return h.Sync()
	})
	if err != nil {
		return err
	}
	w.durable = true
	if !w.doubt {
		return nil
	}
	got := sha256.New()
	if _, err := io.Copy(got, w.reader(ctx)); err != nil {
		return err
	}
	if !bytes.Equal(got.Sum(nil), w.hash.Sum(nil)) {
		w.err = fmt.Errorf("write %s: the connection was lost, and the server has not kept what was written before", w.b.at(w.name))
		return w.err
	}
	w.doubt = false
	return nil
}

// reader reads what was written.
func (w *writer) reader(ctx context.Context) *reader {
	return &reader{ctx: ctx, end: w.sent, fill: func(ctx context.Context, p []byte, off int64) error {
		return w.step(ctx, "read back", func(h *handle) error {
			_, err := readFull(h.File, p, off)
			return err
		})
	}}
}

// Verify implements [storage.Writer].
func (w *writer) Verify(ctx context.Context, read func(io.Reader) error) error {
	if err := w.sync(ctx); err != nil {
		return err
	}
	return read(w.reader(ctx))
}

// Commit implements [storage.Writer].
func (w *writer) Commit(ctx context.Context) error {
	if err := w.sync(ctx); err != nil {
		return err
	}
	if _, err := do(ctx, w.b, w.link); err != nil {
		w.err = w.b.explain(ctx, "create", w.name, err)
		return w.err
	}
	w.named = true
	w.close()
	w.b.discardTemp(ctx, w.temp)
	return w.b.syncDirs(ctx, path.Dir(w.name))
}

// link gives the file its name.
func (w *writer) link(c *conn, again bool) (struct{}, error) {
	to := w.b.path(w.name)
	err := c.Link(w.b.path(w.temp), to)
	if err == nil || !answered(err) {
		return struct{}{}, err
	}
	switch _, taken := c.Lstat(to); { // the server does not say that it exists
	case errors.Is(taken, fs.ErrNotExist) && errors.Is(err, fs.ErrNotExist):
		err = decision{errors.New("the temporary file has gone")}
	case errors.Is(taken, fs.ErrNotExist) && errors.Is(err, fs.ErrPermission):
		err = decision{final{fmt.Errorf("%w: the server refuses to make a hard link, without which an object could replace another one", storage.ErrDenied)}}
	case errors.Is(taken, fs.ErrNotExist):
		err = decision{fmt.Errorf("make a hard link, without which an object could replace another one: %w", err)}
	case taken != nil:
		err = taken
	case !again:
		err = decision{storage.ErrExist}
	default:
		err = w.compare(c, to) // the answer to an earlier request was lost
	}
	return struct{}{}, err
}

// compare returns storage.ErrExist if the object there has another content than what was written.
func (w *writer) compare(c *conn, to string) error {
	h, err := openRegular(c, to)
	if err != nil {
		return err
	}
	defer h.Close()
	if h.info.Size() != w.sent {
		return decision{storage.ErrExist}
	}
	got := sha256.New()
	buffer := make([]byte, min(w.sent, largestRead))
	for off := int64(0); off < w.sent; off += int64(len(buffer)) {
		buffer = buffer[:min(int64(len(buffer)), w.sent-off)]
		if _, err := readFull(h.File, buffer, off); err != nil {
			return err
		}
		got.Write(buffer)
	}
	if !bytes.Equal(got.Sum(nil), w.hash.Sum(nil)) {
		return decision{storage.ErrExist}
	}
	return nil
}

// close closes the file, and does not wait for the server.
func (w *writer) close() { go w.h.Close() }

// discardTime is how long the server is waited for to remove a temporary file. One that stays is swept later.
const discardTime = 5 * time.Second

// Discard implements [storage.Writer]. It does not connect again for it.
func (w *writer) Discard() {
	if w.named || w.discarded {
		return
	}
	w.discarded = true
	if w.err == nil {
		w.err = fs.ErrClosed
	}
	w.close()
	ctx, cancel := context.WithTimeout(context.Background(), discardTime)
	defer cancel()
	if w.b.connected(ctx) {
		w.b.discardTemp(ctx, w.temp)
	}
}

// Replace implements [storage.Backend].
func (b *Backend) Replace(ctx context.Context, name string, content []byte) error {
	if err := storage.CheckName(name); err != nil {
		return err
	}
	_, err := do(ctx, b, func(c *conn, _ bool) (struct{}, error) {
		return struct{}{}, b.writable(c, extPosixRename, "a note is not there for a moment while it is replaced")
	})
	if err != nil {
		return b.explain(ctx, "replace", name, err)
	}
	w, err := b.begin(ctx, name)
	if err != nil {
		return err
	}
	defer w.Discard()
	if _, err := w.Write(content); err != nil {
		return err
	}
	if err := w.sync(ctx); err != nil {
		return err
	}
	_, err = do(ctx, b, func(c *conn, again bool) (struct{}, error) {
		err := c.PosixRename(b.path(w.temp), b.path(name))
		if again && errors.Is(err, fs.ErrNotExist) {
			err = w.compare(c, b.path(name)) // it was renamed, without an answer
		}
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, storage.ErrExist) {
			err = decision{errors.New("the temporary file has gone")}
		}
		return struct{}{}, err
	})
	if err != nil {
		return b.explain(ctx, "replace", name, err)
	}
	w.named = true
	w.close()
	return b.syncDirs(ctx, path.Dir(name))
}
