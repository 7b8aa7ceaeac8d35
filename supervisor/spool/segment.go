package spool

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

// A Segment is the file partial/NAME.partial, which takes what is streamed of one segment. It can be longer than the position
// of the stream: bytes from an earlier stream stay until they are received again, and compared.
//
// One goroutine at a time may use it. After an error of Append, Flush, Complete or Close it is to be given to Abandon.
type Segment struct {
	Name  wal.Name // the complete segment's
	f     *os.File
	path  string
	size  int64 // of the complete segment, bytes
	start wal.LSN
	// What follows are offsets. at is where the next byte of the stream belongs, length what the file holds, flushed what is
	// durable of it, and proven what the records themselves proved when the file was opened.
	at, length, flushed, proven int64
	failed                      bool // an fsync failed
}

// ErrDiffers says that the server sends other bytes than those that were received before, and were whole.
var ErrDiffers = errors.New("the server sends other WAL than what was streamed before under this name")

// OpenSegment opens a segment's file, or makes it. The stream continues behind its last whole record. A file that holds no
// WAL of this segment is renamed.
func (sp *Spool) OpenSegment(name wal.Name, size wal.SegmentSize) (*Segment, error) {
	start, err := name.Start(size)
	if err != nil {
		return nil, err
	}
	s := &Segment{Name: name, path: sp.Partial(name.String() + ".partial"), size: int64(size), start: start}
	for {
		s.f, err = durable.OpenFile(s.path, os.O_RDWR|os.O_CREATE)
		if err != nil {
			return nil, err
		}
		err = s.resume()
		if err == nil {
			return s, nil
		}
		s.f.Close()
		if !errors.Is(err, archive.ErrNotWAL) {
			return nil, fmt.Errorf("go on with %s: %w", s.path, err)
		}
		if err := s.PutAside("not-wal"); err != nil { // whatever it is, it is not for us to remove
			return nil, err
		}
	}
}

// PutAside renames the file, so that no later stream continues it. Why is a part of its new name.
func (s *Segment) PutAside(why string) error {
	aside := fmt.Sprintf("%s.%s-%d", s.path, why, time.Now().UnixNano())
	if err := durable.Replace(s.path, aside); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(s.path))
}

func (s *Segment) resume() error {
	var err error
	if s.length, s.proven, err = Lengths(s.f, s.Name); err != nil {
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
	return durable.SyncDir(filepath.Dir(s.path)) // its name may be new
}

// Lengths are how many bytes a partial segment holds, and how many of them are whole records;
// [archive.ErrNotWAL] if it holds none of this segment.
func Lengths(f *os.File, name wal.Name) (length, proven int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	found, err := archive.WalkStreamed(f, info.Size(), name)
	return info.Size(), min(int64(found.End-found.Start), info.Size()), err
}

// Rewind has the stream begin at the segment's first byte.
func (s *Segment) Rewind() { s.at = 0 }

// End is the position behind the complete segment.
func (s *Segment) End() wal.LSN { return s.start + wal.LSN(s.size) }

// Walk walks the records of what the segment holds.
func (s *Segment) Walk() (wal.Result, error) { return archive.WalkStreamed(s.f, s.length, s.Name) }

// Position is where the next byte belongs.
func (s *Segment) Position() wal.LSN { return s.start + wal.LSN(s.at) }

// Durable is the position up to which what was received is durable.
func (s *Segment) Durable() wal.LSN { return s.start + wal.LSN(min(s.at, s.flushed)) }

// Append takes the next bytes of the stream, as many as belong to the segment, and returns the rest. Those that are there
// already are compared: where they differ, behind the last whole record, the server's replace them.
func (s *Segment) Append(p []byte) ([]byte, error) {
	n := min(int64(len(p)), s.size-s.at)
	fresh := p[:n]
	if known := min(n, s.length-s.at); known > 0 {
		there := make([]byte, known)
		if _, err := io.ReadFull(io.NewSectionReader(s.f, s.at, known), there); err != nil {
			return p, err
		}
		if !bytes.Equal(there, p[:known]) {
			if s.at+firstDifference(there, p) < s.proven {
				return p, fmt.Errorf("%s: %w", s.Name, ErrDiffers)
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

// Dirty tells whether anything was received that is not durable.
func (s *Segment) Dirty() bool { return s.flushed < s.length }

// Flush makes all that was received durable.
func (s *Segment) Flush() error {
	if !s.Dirty() {
		return nil
	}
	if err := s.f.Sync(); err != nil {
		s.failed = true
		return fmt.Errorf("fsync %s: %w", s.f.Name(), err)
	}
	s.flushed = s.length
	return nil
}

func (s *Segment) Full() bool { return s.at == s.size }

// Complete gives a segment that was streamed to its end its name.
func (s *Segment) Complete() error {
	if err := s.Flush(); err != nil {
		return err
	}
	if err := s.f.Close(); err != nil {
		return err
	}
	if err := durable.Replace(s.path, filepath.Join(filepath.Dir(s.path), s.Name.String())); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(s.path))
}

func (s *Segment) Close() error { return errors.Join(s.Flush(), s.f.Close()) }

// Abandon leaves what is known to be durable. After an fsync that failed, what was written since the one before may be
// lost, although it can still be read and the next fsync would succeed: it must be received and written anew. cutBack says
// whether that is still to be seen to.
func (s *Segment) Abandon() (cutBack bool) {
	if !s.failed {
		s.Flush()
	}
	cutBack = s.failed && s.f.Truncate(s.flushed) != nil
	s.f.Close()
	return cutBack
}

// CutBack cuts a file off that was abandoned, behind what is durable of it.
func (s *Segment) CutBack() error {
	if err := os.Truncate(s.path, s.flushed); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
