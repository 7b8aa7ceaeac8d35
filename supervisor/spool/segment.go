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

// A Segment is the file partial/NAME.partial, to which the stream of one segment is written. It can be longer than
// the position of the stream: bytes from an earlier stream stay until they have been received again and compared.
//
// One goroutine at a time may use it. After an error of Append, Flush, Complete or Close the caller must call
// Abandon.
type Segment struct {
	Name  wal.Name // the complete segment's
	f     *os.File
	path  string
	size  int64 // of the complete segment, bytes
	start wal.LSN
	// The following are offsets. at is where the next byte of the stream belongs, length the length of the file,
	// flushed its durable length, and proven the length of the whole records that were found when the file was
	// opened.
	at, length, flushed, proven int64
	failed                      bool // an fsync failed
}

// ErrDiffers reports that the server sends other bytes than those of whole records that were received before.
var ErrDiffers = errors.New("the server sends other WAL than what was streamed before under this name")

// OpenSegment opens a segment's file, or makes it. The stream continues behind its last whole record. A file that is
// not WAL of this segment is renamed.
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
			return nil, fmt.Errorf("continue %s: %w", s.path, err)
		}
		if err := s.PutAside("not-wal"); err != nil { // it may be valuable, so it is not removed
			return nil, err
		}
	}
}

// PutAside renames the file, so that no later stream continues it. The new name contains why.
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
	// The process that wrote it may have been killed before its fsync, or after a failed one, after which the next
	// fsync would succeed and do nothing. So all of it is written again.
	if _, err := io.Copy(io.NewOffsetWriter(s.f, 0), io.NewSectionReader(s.f, 0, s.length)); err != nil {
		return err
	}
	if err := s.f.Sync(); err != nil {
		return err
	}
	s.flushed = s.length
	return durable.SyncDir(filepath.Dir(s.path)) // its name may be new
}

// Lengths returns how many bytes a partial segment has, and how many of them are whole records. It fails with
// [archive.ErrNotWAL] if the file is not WAL of this segment.
func Lengths(f *os.File, name wal.Name) (length, proven int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	found, err := archive.WalkStreamed(io.NewSectionReader(f, 0, info.Size()), name)
	return info.Size(), min(int64(found.End-found.Start), info.Size()), err
}

// Rewind moves the position of the stream to the segment's first byte.
func (s *Segment) Rewind() { s.at = 0 }

// End returns the position behind the complete segment.
func (s *Segment) End() wal.LSN { return s.start + wal.LSN(s.size) }

// Walk walks the records of the file.
func (s *Segment) Walk() (wal.Result, error) {
	return archive.WalkStreamed(io.NewSectionReader(s.f, 0, s.length), s.Name)
}

// Position returns the position of the next byte of the stream.
func (s *Segment) Position() wal.LSN { return s.start + wal.LSN(s.at) }

// Durable returns the position up to which the received bytes are durable.
func (s *Segment) Durable() wal.LSN { return s.start + wal.LSN(min(s.at, s.flushed)) }

// Append writes the next bytes of the stream, as many as belong to the segment, and returns the rest. It compares
// them with existing bytes: a difference behind the last whole record is replaced by the server's bytes, any other is
// [ErrDiffers].
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

// firstDifference returns the index of the first byte that differs.
func firstDifference(a, b []byte) int64 {
	for i := range a {
		if a[i] != b[i] {
			return int64(i)
		}
	}
	return int64(len(a))
}

// Dirty reports whether the file has bytes that are not durable.
func (s *Segment) Dirty() bool { return s.flushed < s.length }

// Flush makes all received bytes durable.
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

// Complete renames the file of a completely streamed segment to the segment's name.
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

// Abandon flushes the file, or after a failed fsync cuts it to its durable length, and closes it. After a failed fsync
// the bytes since the one before may be lost, although they can still be read and the next fsync would succeed: they
// must be received and written again. cutBack reports whether the cut failed, so that CutBack must be called later.
func (s *Segment) Abandon() (cutBack bool) {
	if !s.failed {
		s.Flush()
	}
	cutBack = s.failed && s.f.Truncate(s.flushed) != nil
	s.f.Close()
	return cutBack
}

// CutBack cuts the file of an abandoned segment to its durable length.
func (s *Segment) CutBack() error {
	if err := os.Truncate(s.path, s.flushed); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
