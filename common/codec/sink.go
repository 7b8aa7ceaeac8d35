package codec

import (
	"bytes"
	"fmt"
	"sync"
)

// An InOrder gives the plain bytes that [Object.Unpack] writes to it to Write, in order. It keeps parts that come
// early; there are never more of them than Unpack has workers. Its zero value with Write set begins at offset 0.
type InOrder struct {
	// Write receives the next bytes and must not keep them. Calls do not overlap. Its error ends Unpack.
	Write func(p []byte) error

	mu    sync.Mutex
	next  int64            // offset of the part that Write gets next
	early map[int64][]byte // by offset
}

// WriteAt implements [io.WriterAt]. It may be called concurrently.
func (o *InOrder) WriteAt(p []byte, at int64) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if at != o.next {
		if o.early == nil {
			o.early = make(map[int64][]byte)
		}
		o.early[at] = bytes.Clone(p)
		return len(p), nil
	}
	for part := p; part != nil; part = o.early[o.next] {
		delete(o.early, o.next)
		if err := o.Write(part); err != nil {
			return 0, err
		}
		o.next += int64(len(part))
	}
	return len(p), nil
}

// A Memory keeps the bytes that are written to it, at most Limit; a write beyond that is an error.
type Memory struct {
	Limit int64

	mu sync.Mutex
	b  []byte
}

// WriteAt implements [io.WriterAt]. It may be called concurrently.
func (m *Memory) WriteAt(p []byte, at int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	end := at + int64(len(p))
	if end > m.Limit {
		return 0, fmt.Errorf("more than %d bytes", m.Limit)
	}
	if end > int64(len(m.b)) {
		m.b = append(m.b, make([]byte, end-int64(len(m.b)))...)
	}
	return copy(m.b[at:], p), nil
}

// Bytes returns the bytes that were written. Call it after the last write.
func (m *Memory) Bytes() []byte { return m.b }
