package receive

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"walkeep/common/archive"
	"walkeep/common/durable"
	"walkeep/common/wal"
)

// A segment is the file that takes what is streamed of one segment.
type segment struct {
	f     *os.File
	dir   string
	name  wal.Name // the complete segment's
	size  int64    // of the complete segment, bytes
	start wal.LSN
	// written and flushed are lengths: what the file holds, and what is durable of it.
	written, flushed int64
}

// openSegment opens a segment's file, and cuts it off behind the last whole record. A new one is empty.
func openSegment(dir string, name wal.Name, size wal.SegmentSize) (*segment, error) {
	start, err := name.Start(size)
	if err != nil {
		return nil, err
	}
	s := &segment{dir: dir, name: name, size: int64(size), start: start}
	for {
		s.f, err = os.OpenFile(s.partialPath(), os.O_RDWR|os.O_CREATE, durable.FileMode)
		if err != nil {
			return nil, err
		}
		err = s.resume()
		if err == nil {
			return s, nil
		}
		s.f.Close()
		if !errors.Is(err, archive.ErrNotWAL) {
			return nil, fmt.Errorf("go on with %s: %w", s.partialPath(), err)
		}
		if err := s.putAside(); err != nil { // whatever it is, it is not for us to remove
			return nil, err
		}
	}
}

func (s *segment) putAside() error {
	aside := fmt.Sprintf("%s.not-wal-%d", s.partialPath(), time.Now().UnixNano())
	if err := durable.Replace(s.partialPath(), aside); err != nil {
		return err
	}
	return durable.SyncDir(s.dir)
}

func (s *segment) partialPath() string { return filepath.Join(s.dir, s.name.String()+".partial") }

func (s *segment) resume() error {
	length, err := validLength(s.f, s.name)
	if err != nil {
		return err
	}
	s.written = length
	if err := s.f.Truncate(s.written); err != nil {
		return err
	}
	// Whoever wrote it may have been killed before its fsync; and the name may be new.
	if err := s.f.Sync(); err != nil {
		return err
	}
	s.flushed = s.written
	return durable.SyncDir(s.dir)
}

// validLength is how many bytes of a partial segment are whole records; 0 where there is none.
func validLength(f *os.File, name wal.Name) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	found, err := archive.WalkStreamed(f, info.Size(), name)
	return min(int64(found.End-found.Start), info.Size()), err
}

// position is where the next byte belongs.
func (s *segment) position() wal.LSN { return s.start + wal.LSN(s.written) }

// durable is up to where all is on disk.
func (s *segment) durable() wal.LSN { return s.start + wal.LSN(s.flushed) }

// append takes the next bytes of the stream, as many as belong to the segment, and returns the rest.
func (s *segment) append(p []byte) ([]byte, error) {
	n := min(int64(len(p)), s.size-s.written)
	done, err := s.f.WriteAt(p[:n], s.written)
	s.written += int64(done)
	return p[done:], err
}

// flush makes all that was received durable.
func (s *segment) flush() error {
	if s.flushed == s.written {
		return nil
	}
	if err := s.f.Sync(); err != nil {
		return fmt.Errorf("fsync %s: %w", s.f.Name(), err)
	}
	s.flushed = s.written
	return nil
}

func (s *segment) full() bool { return s.written == s.size }

// complete gives a segment that was streamed to its end its name.
func (s *segment) complete() error {
	if err := s.flush(); err != nil {
		return err
	}
	if err := s.f.Close(); err != nil {
		return err
	}
	if err := durable.Replace(s.partialPath(), filepath.Join(s.dir, s.name.String())); err != nil {
		return err
	}
	return durable.SyncDir(s.dir)
}

func (s *segment) close() error { return errors.Join(s.flush(), s.f.Close()) }

// abandon leaves what is known to be durable. After an fsync that failed, what was written since the one before may be
// lost, although it can still be read.
func (s *segment) abandon() {
	if s.f == nil {
		return
	}
	if s.flush() != nil {
		s.f.Truncate(s.flushed) // if that fails as well, the walk at the next beginning finds what is left
	}
	s.f.Close()
}
