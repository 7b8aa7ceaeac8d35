package sftp

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"walkeep/common/cli"
	"walkeep/common/storage"
)

// Extensions of OpenSSH's server.
const (
	extHardlink    = "hardlink@openssh.com"
	extFsync       = "fsync@openssh.com"
	extPosixRename = "posix-rename@openssh.com"
	extStatVFS     = "statvfs@openssh.com"
)

func (c *conn) has(extension string) bool {
	_, ok := c.HasExtension(extension)
	return ok
}

// writable returns why nothing may be written to this server; nil if it may. Without the extension the purpose is not reached.
func (b *Backend) writable(c *conn, extension, purpose string) error {
	if !c.has(extension) {
		return decision{final{cli.NewError(fmt.Sprintf("the server lacks %s, without which %s", extension, purpose),
			"use OpenSSH's SFTP server")}}
	}
	_, err := b.fsyncs(c)
	return err
}

// fsyncs reports whether the server makes durable what is written to it. It fails if the server cannot do so and that was not
// accepted.
func (b *Backend) fsyncs(c *conn) (bool, error) {
	err := b.lacksFsync(c)
	switch {
	case err == nil:
		return true, nil
	case !c.alive():
		return false, err
	case b.o.NoFsync:
		return false, nil
	}
	return false, decision{final{cli.Hinted(err,
		"use OpenSSH's SFTP server on a file system of Unix; with no-fsync = true the archive is written all the same, and loses objects when the server loses its power")}}
}

// lacksFsync returns why the server cannot make files and directories durable; nil if it can.
func (b *Backend) lacksFsync(c *conn) error {
	if !c.has(extFsync) {
		return fmt.Errorf("the server lacks %s and cannot make files durable", extFsync)
	}
	c.checkDirSync.Do(func() {
		if err := syncPath(c, b.o.Path); err != nil {
			c.dirSync = fmt.Errorf("the server cannot make directories durable: fsync of the archive's root: %w", err)
			if !answered(err) {
				c.fail(err)
			}
		}
	})
	return c.dirSync
}

// Lacks implements [storage.Limited].
func (b *Backend) Lacks(ctx context.Context) ([]string, error) {
	return do(ctx, b, func(c *conn, _ bool) (lacks []string, err error) {
		if !c.has(extHardlink) {
			lacks = append(lacks, fmt.Sprintf("the server lacks %s: nothing can be archived", extHardlink))
		}
		if !c.has(extPosixRename) {
			lacks = append(lacks, fmt.Sprintf("the server lacks %s: no note can be written", extPosixRename))
		}
		if err := b.lacksFsync(c); err != nil && !c.alive() {
			return nil, err
		} else if err != nil {
			lacks = append(lacks, err.Error()+": a power failure there can lose objects")
		}
		return lacks, nil
	})
}

// syncPath makes a file or a directory durable.
func syncPath(c *conn, at string) error {
	f, err := c.Client.Open(at)
	if err != nil {
		return err
	}
	defer f.Close()
	if err = f.Sync(); errors.Is(err, fs.ErrNotExist) {
		err = decision{errors.New("the server no longer knows the file that it has opened")}
	}
	return err
}

// syncDir makes the names in a directory durable, where the server can do so.
func (b *Backend) syncDir(ctx context.Context, dir string) error {
	_, err := do(ctx, b, func(c *conn, _ bool) (struct{}, error) {
		ok, err := b.fsyncs(c)
		if ok {
			err = syncPath(c, b.path(dir))
		}
		return struct{}{}, err
	})
	return err
}

// syncDirs makes the names of a directory and of its parents durable, whoever made them.
func (b *Backend) syncDirs(ctx context.Context, dir string) error {
	var dirs []string
	for ; dir != "."; dir = path.Dir(dir) {
		dirs = append(dirs, dir)
	}
	dirs = append(dirs, "")
	errs := make(chan error, len(dirs))
	for _, dir := range dirs {
		go func() {
			err := b.syncDir(ctx, dir)
			if err != nil {
				err = fmt.Errorf("fsync %s: %w", b.at(dir), err)
			}
			errs <- err
		}()
	}
	var failed error
	for range dirs {
		if err := <-errs; failed == nil {
			failed = err
		}
	}
	return failed
}

// Sync implements [storage.Syncer].
func (b *Backend) Sync(ctx context.Context, name string) error {
	if err := storage.CheckName(name); err != nil {
		return err
	}
	_, err := do(ctx, b, func(c *conn, _ bool) (struct{}, error) {
		ok, err := b.fsyncs(c)
		switch {
		case ok:
			err = syncPath(c, b.path(name))
		case err == nil:
			_, err = c.Stat(b.path(name))
		}
		return struct{}{}, err
	})
	if err != nil {
		return b.absent(ctx, "fsync", name, err)
	}
	return b.syncDirs(ctx, path.Dir(name))
}

// MakeDir implements [storage.Directories].
func (b *Backend) MakeDir(ctx context.Context, dir string) error {
	if err := storage.CheckName(dir); err != nil {
		return err
	}
	_, err := do(ctx, b, func(c *conn, _ bool) (bool, error) { return b.fsyncs(c) })
	if err == nil {
		err = b.mkdirAll(ctx, dir)
	}
	if err == nil {
		err = b.syncDirs(ctx, dir)
	}
	return err
}

// mkdirAll makes the directories that are missing below the root, which must exist.
func (b *Backend) mkdirAll(ctx context.Context, dir string) error {
	if err := b.available(ctx); err != nil {
		return err
	}
	if dir == "." {
		return nil
	}
	for end := range len(dir) + 1 {
		if end < len(dir) && dir[end] != '/' {
			continue
		}
		at := dir[:end]
		_, err := do(ctx, b, func(c *conn, _ bool) (struct{}, error) {
			err := c.Mkdir(b.path(at))
			if err == nil {
				return struct{}{}, restrict(c.Chmod(b.path(at), 0o700))
			}
			info, statErr := c.Stat(b.path(at)) // the server does not say whether it exists
			switch {
			case statErr == nil && info.IsDir():
				err = nil
			case statErr == nil:
				err = decision{errors.New("it is not a directory")}
			case !answered(statErr):
				err = statErr
			}
			return struct{}{}, err
		})
		if err != nil && errors.Is(b.lost(ctx, at+"/"), storage.ErrUnavailable) {
			err = fs.ErrNotExist // for explain to say what is lost
		}
		if err != nil {
			return b.explain(ctx, "make the directory", at+"/", err)
		}
	}
	return nil
}

// restrict judges the error of setting a mode. An account that may not do so leaves modes to the server's settings.
func restrict(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return err
}
