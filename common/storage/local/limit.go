package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"walkeep/common/durable"
)

// ErrFull says that an object would take the archive over its limit.
var ErrFull = errors.New("archive has reached its size limit")

// SetLimit makes Verify and Commit fail with [ErrFull] instead of letting the archive grow over so many bytes. The archive is
// measured once, when the first object is stored; see [limit.measure].
func (b *Backend) SetLimit(bytes int64) { b.limit = &limit{root: b.root, bytes: bytes} }

type limit struct {
	root  string
	bytes int64

	mu       sync.Mutex
	measured bool
	used     int64 // bytes, with what this process has reserved
}

// reserve counts a file that is written but not yet named, which is among the files that a measurement finds. What it
// returns gives the place back where the file gets no name.
func (l *limit) reserve(f *os.File) (release func(), err error) {
	if l == nil {
		return func() {}, nil
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.measured {
		if l.used, err = l.measure(); err == nil && l.used > l.bytes {
			l.used, err = measure(l.root) // in full, before anything is refused
		}
		if err != nil {
			return nil, fmt.Errorf("measure the archive: %w", err)
		}
		l.measured = true
	} else {
		l.used += info.Size()
	}
	if l.used > l.bytes {
		l.used -= info.Size()
		return nil, fmt.Errorf("%w: %d of %d bytes are used and %d more are needed", ErrFull, l.used, l.bytes, info.Size())
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.used -= info.Size()
	}, nil
}

// sizesName is a hidden file below the root that keeps how large directories of WAL are, so that a call for one segment does
// not read a thousand of them.
const sizesName = ".sizes.json"

// A dirSize is how large a directory was. It is as large as long as its time has not changed, which a new or a removed file
// does: objects are never written to. Nothing is decided by which time it is.
type dirSize struct {
	Changed int64 `json:"changed"` // nanoseconds
	Bytes   int64 `json:"bytes"`
}

// measure gives the bytes of all files of the archive. It reads what lies outside wal/, and those directories of wal/ that
// have changed since they were noted. The newest of a timeline are never noted: they are written to.
func (l *limit) measure() (int64, error) {
	walDir := filepath.Join(l.root, "wal")
	dirs, err := os.ReadDir(walDir)
	if err != nil {
		return measure(l.root) // it is no archive yet, or not to be told
	}
	before, after := make(map[string]dirSize), make(map[string]dirSize)
	path := filepath.Join(l.root, sizesName)
	if content, err := os.ReadFile(path); err == nil && json.Unmarshal(content, &before) != nil {
		clear(before)
	}
	var total int64
	read := 0
	for i, d := range dirs {
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		if !info.IsDir() {
			total += info.Size()
			continue
		}
		size := dirSize{Changed: info.ModTime().UnixNano()}
		if was, ok := before[d.Name()]; ok && was.Changed == size.Changed {
			size = was
		} else {
			if size.Bytes, err = measure(filepath.Join(walDir, d.Name())); err != nil {
				return 0, err
			}
			read++
		}
		total += size.Bytes
		if n := d.Name(); len(n) == 16 && i+1 < len(dirs) && strings.HasPrefix(dirs[i+1].Name(), n[:8]) && len(dirs[i+1].Name()) == 16 {
			after[n] = size
		}
	}
	const many = 8 // directories that are worth a note: fewer are read as quickly
	if read > many {
		if content, err := json.Marshal(after); err == nil {
			durable.WriteFile(path, content) // or the next call reads them again
		}
	}
	rest, err := os.ReadDir(l.root)
	if err != nil {
		return 0, err
	}
	for _, d := range rest {
		if d.Name() == "wal" {
			continue
		}
		bytes, err := measure(filepath.Join(l.root, d.Name()))
		if err != nil {
			return 0, err
		}
		total += bytes
	}
	return total, nil
}

// measure gives the bytes of all files below dir.
func measure(dir string) (int64, error) {
	var total int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return ignoreRemoved(err)
		}
		info, err := d.Info()
		if err == nil {
			total += info.Size()
		}
		return ignoreRemoved(err)
	})
	return total, err
}

func ignoreRemoved(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
