package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync/atomic"

	"github.com/zeebo/xxh3"
	"golang.org/x/sync/errgroup"

	"walkeep/common/backup"
	"walkeep/supervisor/launch"
)

// lookFirst determines which of the backup's files exist, and checks that all others can be read from the archive. It
// changes nothing in the directory: a restore that fails here has lost nothing.
func (r *restorer) lookFirst(ctx context.Context) (err error) {
	if r.marker, err = claim(r.Dir, r.owner); err != nil {
		return err
	}
	before, err := r.controlNow()
	if err != nil {
		return err
	}
	for _, p := range r.roots {
		if p.handle, err = os.OpenRoot(p.dir); errors.Is(err, fs.ErrNotExist) {
			p.handle = nil // it is to be made
		} else if err != nil {
			return err
		}
	}
	err = r.eachRoot(func(p *rootDir, entries map[string]*entry) error {
		if p.created {
			return nil
		}
		return r.clear(ctx, p, entries, nil)
	})
	if err != nil {
		return err
	}
	if err := r.compare(ctx); err != nil {
		return err
	}
	if err := r.checkNeeded(ctx); err != nil {
		return err
	}
	// A server that was started meanwhile may have changed the compared files.
	if err := launch.CheckUnused(r.Dir); err != nil {
		return err
	}
	now, err := r.controlNow()
	if err == nil && !bytes.Equal(now, before) {
		err = fmt.Errorf("%s %w: a server was started in it meanwhile", r.Dir, ErrInUse)
	}
	return err
}

// controlNow returns the content of the existing control file; nil if there is none.
func (r *restorer) controlNow() ([]byte, error) {
	content, err := os.ReadFile(filepath.Join(r.Dir, "global", "pg_control"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return content, err
}

// reconcile removes files that are not part of the backup.
func (r *restorer) reconcile(ctx context.Context) error {
	if err := r.keepWAL(ctx); err != nil {
		return err
	}
	return r.eachRoot(func(p *rootDir, entries map[string]*entry) error {
		if p.created {
			return r.clearCreated(p)
		}
		return r.clear(ctx, p, entries, func(name string) error {
			r.done.Removed++
			return p.handle.RemoveAll(name)
		})
	})
}

// eachRoot calls f with each existing root and the entries that belong to it, by their names.
func (r *restorer) eachRoot(f func(p *rootDir, entries map[string]*entry) error) error {
	byRoot := make(map[*rootDir]map[string]*entry)
	for _, p := range r.roots {
		byRoot[p] = make(map[string]*entry)
	}
	for _, list := range [][]*entry{r.dirs, r.files} {
		for _, it := range list {
			byRoot[it.root][it.name] = it
		}
	}
	for _, p := range r.roots {
		if p.handle == nil {
			continue
		}
		if err := f(p, byRoot[p]); err != nil {
			return err
		}
	}
	return nil
}

// clear removes the files in a root that are not in the backup, if remove is not nil, and records those that are in
// both.
func (r *restorer) clear(ctx context.Context, p *rootDir, entries map[string]*entry, remove func(name string) error) error {
	return fs.WalkDir(p.handle.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		it := entries[name]
		switch {
		case name == ".":
			return nil
		case r.spares(p, name, it != nil), it == nil && r.isHosts(p, name, e):
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		case it != nil && it.Dir && e.IsDir():
			it.old, err = e.Info()
			return err
		case it != nil && !it.Dir && e.Type().IsRegular():
			info, err := e.Info()
			if err != nil {
				return err
			}
			if !hasOneName(p.handle, name, info) {
				break // a directory with another name may be another cluster's
			}
			it.old = info
			return nil
		case e.IsDir() && p.oid == "" && r.leadsToOwn(path.Join(p.prefix, name)):
			return nil
		}
		if remove != nil {
			if err := remove(name); err != nil {
				return err
			}
		}
		if e.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
}

// spares reports whether clear keeps a file: in the data directory the marker, the links of tablespaces, a link
// pg_wal, the host's own configuration, and the kept WAL; in a tablespace's location everything that PostgreSQL did
// not make for this cluster.
func (r *restorer) spares(p *rootDir, name string, inBackup bool) bool {
	if p.oid != "" {
		return path.Dir(name) == "." && !inBackup
	}
	full := path.Join(p.prefix, name)
	switch {
	case full == markerName, full == "pg_wal/"+keptName, path.Dir(full) == "." && slices.Contains(harmless, full), r.isOwn(full):
		return true
	}
	for _, other := range r.roots[1:] {
		if full == other.prefix && p != other && !other.created {
			return true
		}
	}
	return false
}

// isHosts reports whether a file in the data directory is the host's: a link or another file that no backup contains,
// or a file of the server's configuration.
func (r *restorer) isHosts(p *rootDir, name string, e fs.DirEntry) bool {
	full := path.Join(p.prefix, name)
	return p.oid == "" && !isData(full) && (!e.IsDir() && !e.Type().IsRegular() || slices.Contains(r.host, full))
}

// A stretch is a part of a file that is compared in one step.
type stretch struct {
	it    *entry
	first int // block
}

// stretchBlocks is the number of blocks of a stretch.
const stretchBlocks = 16

// compare finds the blocks that differ from the backup.
func (r *restorer) compare(ctx context.Context) error {
	var all []stretch
	var bytes int64
	for _, it := range r.files {
		if it.old == nil || it.isControl() {
			continue
		}
		it.need = make([]bool, it.Blocks())
		bytes += min(it.Size, it.old.Size())
		for k := 0; k < it.Blocks(); k += stretchBlocks {
			all = append(all, stretch{it, k})
		}
	}
	r.Begin("compare", bytes)
	var next, compared atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range r.Jobs {
		c := &comparer{buf: make([]byte, 4*backup.BlockSize)}
		group.Go(func() error {
			defer c.close()
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(all) {
					return nil
				}
				n, err := c.compare(all[i])
				if err != nil {
					return err
				}
				compared.Add(n)
				r.Progress(n)
			}
			return ctx.Err()
		})
	}
	err := group.Wait()
	r.done.Compared = compared.Load()
	return err
}

// A comparer compares existing files with the backup.
type comparer struct {
	buf []byte
	dir dirCache
	it  *entry
	f   *os.File // the open file
}

func (c *comparer) close() {
	if c.f != nil {
		c.f.Close()
		c.f = nil
	}
	c.dir.close()
}

// compare records which blocks of a stretch are needed, and returns how many bytes it has read.
func (c *comparer) compare(s stretch) (int64, error) {
	it := s.it
	if c.it != it {
		if c.f != nil {
			c.f.Close()
			c.f = nil
		}
		dir, base, err := c.dir.of(it)
		if err != nil {
			return 0, err
		}
		f, err := dir.Open(base)
		if err != nil {
			return 0, err
		}
		c.it, c.f = it, f
	}
	var read int64
	end := min(s.first+stretchBlocks, it.Blocks())
	for k := s.first; k < end; {
		at := int64(k) * backup.BlockSize
		part := c.buf[:min(int64(len(c.buf)), it.Size-at, int64(end-k)*backup.BlockSize)]
		n, err := c.f.ReadAt(part, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return read, err
		}
		read += int64(n)
		for got := part[:n]; len(part) > 0; k++ {
			size := min(backup.BlockSize, len(part))
			it.need[k] = len(got) < size || xxh3.Hash128(got[:size]).Bytes() != it.Hash(k)
			part, got = part[size:], got[min(size, len(got)):]
		}
	}
	return read, nil
}
