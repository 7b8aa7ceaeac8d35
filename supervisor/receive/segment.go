package receive

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
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
	failed           bool // an fsync failed
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
		return errors.Join(err, s.rewrite())
	}
	s.flushed = s.written
	return durable.SyncDir(s.dir)
}

// rewrite writes all that the file holds once more: after an fsync that failed, the next one would succeed and do nothing.
func (s *segment) rewrite() error {
	_, err := io.Copy(io.NewOffsetWriter(s.f, 0), io.NewSectionReader(s.f, 0, s.written))
	return err
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
		s.failed = true
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
// lost, although it can still be read and the next fsync would succeed: it must be received and written anew. cutBack says
// whether that is still to be seen to.
func (s *segment) abandon() (cutBack bool) {
	if !s.failed {
		s.flush()
	}
	cutBack = s.failed && s.f.Truncate(s.flushed) != nil
	s.f.Close()
	return cutBack
}

// cutBack cuts a file off that was abandoned, behind what is durable of it.
func (s *segment) cutBack() error {
	if err := os.Truncate(s.partialPath(), s.flushed); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
