package receive

import (
	"bytes"
	"io"
	"sync/atomic"
)

// A comparer compares what is written to it with the beginning of a file, which may end before.
type comparer struct {
	f       io.ReaderAt
	differs atomic.Bool
}

// WriteAt implements io.WriterAt. It is called concurrently.
func (c *comparer) WriteAt(p []byte, at int64) (int, error) {
	own := make([]byte, len(p))
	n, err := c.f.ReadAt(own, at)
	if err != nil && err != io.EOF {
		return 0, err
	}
	if !bytes.Equal(own[:n], p[:n]) {
		c.differs.Store(true)
	}
	return len(p), nil
}
