package sftp

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"
)

// Temporary names begin so, which storage.CheckName refuses.
const (
	tempPrefix = ".walkeep-"
	// leftName is the name that temporary files get by an account that may not remove them. Nobody writes to it.
	leftName = tempPrefix + "left"
	// abandonedAge is the age at which a temporary file counts as left behind.
	abandonedAge = 24 * time.Hour
)

func isTemp(name string) bool { return strings.HasPrefix(name, tempPrefix) }

func newTemp(name string) string {
	var r [16]byte
	rand.Read(r[:]) // never fails
	return path.Join(path.Dir(name), tempPrefix+hex.EncodeToString(r[:]))
}

// sweep removes what killed writers have left in a directory, once in a process. A failure is no reason not to store.
func (b *Backend) sweep(ctx context.Context, dir string, new *handle) {
	if _, done := b.swept.LoadOrStore(dir, true); done {
		return
	}
	info, err := do(ctx, b, func(*conn, bool) (os.FileInfo, error) { return new.Stat() })
	if err != nil {
		return
	}
	if files, err := b.readDir(ctx, dir); err == nil {
		b.removeTemps(ctx, dir, files, info.ModTime())
	}
}

// removeTemps removes the temporary files among a directory's files that nobody writes to any more at the server's time now,
// and returns how many are left.
func (b *Backend) removeTemps(ctx context.Context, dir string, files []os.FileInfo, now time.Time) (left int) {
	for _, f := range files {
		if !isTemp(f.Name()) {
			continue
		}
		if f.Name() != leftName && now.Sub(f.ModTime()) <= abandonedAge || b.mayNotRemove.Load() {
			left++
			continue
		}
		if err := b.removeTemp(ctx, path.Join(dir, f.Name())); err != nil {
			left++
		}
	}
	return left
}

func (b *Backend) removeTemp(ctx context.Context, temp string) error {
	_, err := do(ctx, b, func(c *conn, _ bool) (struct{}, error) {
		err := c.Client.Remove(b.path(temp))
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return struct{}{}, err
	})
	if errors.Is(err, fs.ErrPermission) {
		b.mayNotRemove.Store(true)
	}
	return err
}

// discardTemp removes a temporary name. If the account may not remove, it moves it to the one name of all that is left.
func (b *Backend) discardTemp(ctx context.Context, temp string) {
	if !b.mayNotRemove.Load() {
		b.removeTemp(ctx, temp)
	}
	if !b.mayNotRemove.Load() {
		return
	}
	do(ctx, b, func(c *conn, _ bool) (struct{}, error) { // a failure leaves one more file for the sweep of another account
		return struct{}{}, c.PosixRename(b.path(temp), b.path(path.Join(path.Dir(temp), leftName)))
	})
}
