package codec

import (
	"errors"
	"io"
	"math"
	"sync"
)

// A Comparison is written what a file should hold, such as by [Archive.Fetch], and finds the first byte that it does not.
type Comparison struct {
	file io.ReaderAt

	mu    sync.Mutex // guards what follows
	buf   []byte
	first int64
	err   error
}

// NewComparison compares with a file.
func NewComparison(file io.ReaderAt) *Comparison {
	return &Comparison{file: file, first: math.MaxInt64}
}

// Result is the offset of the first difference, if there is one: where the file ends before what it should hold, that is
// its length. The error is that of reading the file.
func (c *Comparison) Result() (first int64, differs bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.first, c.first < math.MaxInt64, c.err
}

// WriteAt implements [io.WriterAt].
func (c *Comparison) WriteAt(p []byte, at int64) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at >= c.first || c.err != nil {
		return len(p), nil
	}
	if cap(c.buf) < len(p) {
		c.buf = make([]byte, len(p))
	}
	own := c.buf[:len(p)]
	n, err := c.file.ReadAt(own, at)
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
	}
	for i, b := range own[:n] {
		if b != p[i] {
			c.first = at + int64(i)
			return len(p), nil
		}
	}
	if n < len(p) {
		c.first = at + int64(n)
	}
	return len(p), nil
}
