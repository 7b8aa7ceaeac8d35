package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// ErrFull says that an object would take the archive over its limit.
var ErrFull = errors.New("archive has reached its size limit")

// SetLimit makes Put fail with [ErrFull] instead of letting the archive grow over so many bytes. The archive is
// measured once, when the first object is stored, which reads every directory of it.
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
		if l.used, err = measure(l.root); err != nil {
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
