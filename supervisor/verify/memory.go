package verify

import "sync"

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
		if s.waiting == nil {
			s.waiting = make(map[int64][]byte)
		}
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
