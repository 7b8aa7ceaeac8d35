package verify

import "sync"

// memory takes what an object holds; it is used again and again.
type memory struct {
	mu sync.Mutex
	b  []byte
}

func (m *memory) reset() { m.b = m.b[:0] }

// WriteAt implements io.WriterAt. What is written is bounded by whoever expands.
func (m *memory) WriteAt(p []byte, at int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if end := int(at) + len(p); end > len(m.b) {
		if end > cap(m.b) {
			grown := make([]byte, end, max(end, 2*cap(m.b)))
			copy(grown, m.b)
			m.b = grown
		}
		m.b = m.b[:end]
	}
	return copy(m.b[at:], p), nil
}

// stream hands on, in order, what is written to it at any place.
type stream struct {
	mu      sync.Mutex
	next    int64
	waiting map[int64][]byte // by where it begins; no more than there are workers
	write   func(p []byte) error
}

// WriteAt implements io.WriterAt.
func (s *stream) WriteAt(p []byte, at int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at != s.next {
		s.waiting[at] = append([]byte(nil), p...)
		return len(p), nil
	}
	for part := p; ; {
		if err := s.write(part); err != nil {
			return 0, err
		}
		s.next += int64(len(part))
		var ok bool
		if part, ok = s.waiting[s.next]; !ok {
			return len(p), nil
		}
		delete(s.waiting, s.next)
	}
}
