package receive

import (
	"bytes"
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

// A segment is the file that takes what is streamed of one segment. It may hold more than this stream has come to: what an
// earlier one has received stays, until it is received again, and compared.
type segment struct {
	f     *os.File
	dir   string
	name  wal.Name // the complete segment's
	size  int64    // of the complete segment, bytes
	start wal.LSN
	// What follows are offsets. at is where the next byte of the stream belongs, length what the file holds, flushed what is
	// durable of it, and proven what the records themselves proved when the file was opened.
	at, length, flushed, proven int64
	failed                      bool // an fsync failed
}

// errDiffers says that the server sends other bytes than those that were received before, and were whole.
var errDiffers = errors.New("the server sends other WAL than what was streamed before under this name")

// openSegment opens a segment's file. The stream goes on behind its last whole record.
func openSegment(dir string, name wal.Name, size wal.SegmentSize) (*segment, error) {
	start, err := name.Start(size)
	if err != nil {
		return nil, err
	}
	s := &segment{dir: dir, name: name, size: int64(size), start: start}
	for {
		s.f, err = durable.OpenFile(s.partialPath(), os.O_RDWR|os.O_CREATE)
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
		if err := s.putAside("not-wal"); err != nil { // whatever it is, it is not for us to remove
			return nil, err
		}
	}
}

// putAside gives the file a name by which it is not gone on with.
func (s *segment) putAside(why string) error {
	aside := fmt.Sprintf("%s.%s-%d", s.partialPath(), why, time.Now().UnixNano())
	if err := durable.Replace(s.partialPath(), aside); err != nil {
		return err
	}
	return durable.SyncDir(s.dir)
}

func (s *segment) partialPath() string { return filepath.Join(s.dir, s.name.String()+".partial") }

func (s *segment) resume() error {
	var err error
	if s.length, s.proven, err = lengths(s.f, s.name); err != nil {
		return err
	}
	s.at = s.proven
	// Whoever wrote it may have been killed before its fsync, or after one that failed, after which the next would succeed
	// and do nothing. So all of it is written once more.
	if _, err := io.Copy(io.NewOffsetWriter(s.f, 0), io.NewSectionReader(s.f, 0, s.length)); err != nil {
		return err
	}
	if err := s.f.Sync(); err != nil {
		return err
	}
	s.flushed = s.length
	return durable.SyncDir(s.dir) // its name may be new
}

// lengths are how many bytes a partial segment holds, and how many of them are whole records.
func lengths(f *os.File, name wal.Name) (length, proven int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	found, err := archive.WalkStreamed(f, info.Size(), name)
	return info.Size(), min(int64(found.End-found.Start), info.Size()), err
}

// rewind has the stream begin at the segment's first byte.
func (s *segment) rewind() { s.at = 0 }

// position is where the next byte belongs.
func (s *segment) position() wal.LSN { return s.start + wal.LSN(s.at) }

// durable is up to where what was received is on disk.
func (s *segment) durable() wal.LSN { return s.start + wal.LSN(min(s.at, s.flushed)) }

// append takes the next bytes of the stream, as many as belong to the segment, and returns the rest. Those that are there
// already are compared: where they differ, behind the last whole record, the server's replace them.
func (s *segment) append(p []byte) ([]byte, error) {
	n := min(int64(len(p)), s.size-s.at)
	fresh := p[:n]
	if known := min(n, s.length-s.at); known > 0 {
		there := make([]byte, known)
		if _, err := io.ReadFull(io.NewSectionReader(s.f, s.at, known), there); err != nil {
			return p, err
		}
		if !bytes.Equal(there, p[:known]) {
			if s.at+firstDifference(there, p) < s.proven {
				return p, fmt.Errorf("%s: %w", s.name, errDiffers)
			}
			if err := s.f.Truncate(s.at); err != nil {
				return p, err
			}
			s.length, s.flushed, known = s.at, min(s.flushed, s.at), 0
		}
		s.at += known
		fresh = fresh[known:]
	}
	done, err := s.f.WriteAt(fresh, s.at)
	s.at += int64(done)
	s.length = max(s.length, s.at)
	if err != nil {
		return p, err
	}
	return p[n:], nil
}

// firstDifference is where two texts differ first.
func firstDifference(a, b []byte) int64 {
	for i := range a {
		if a[i] != b[i] {
			return int64(i)
		}
	}
	return int64(len(a))
}

// dirty tells whether anything was received that is not durable.
func (s *segment) dirty() bool { return s.flushed < s.length }

// flush makes all that was received durable.
func (s *segment) flush() error {
	if !s.dirty() {
		return nil
	}
	if err := s.f.Sync(); err != nil {
		s.failed = true
		return fmt.Errorf("fsync %s: %w", s.f.Name(), err)
	}
	s.flushed = s.length
	return nil
}

func (s *segment) full() bool { return s.at == s.size }

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
