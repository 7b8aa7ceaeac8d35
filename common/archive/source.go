package archive

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"walkeep/common/codec"
	"walkeep/common/durable"
	"walkeep/common/sealed"
	"walkeep/common/wal"
)

// maxSmall bounds history and backup label files, in bytes; real ones have a few hundred.
const maxSmall = 1 << 20

// A source is a file of pg_wal that is to be archived. Its header matches its name.
type source struct {
	file   *os.File
	name   wal.Name
	size   int64
	header wal.Header // of segments and partial segments
}

// openSource opens a file and refuses, with [ErrNotWAL], what is not a WAL file of its name.
func openSource(path string) (*source, error) {
	name, err := wal.ParseName(filepath.Base(path))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotWAL, err)
	}
	f, err := durable.Open(path)
	if err != nil {
		return nil, err
	}
	s := &source{file: f, name: name}
	if err := s.inspect(); err != nil {
		f.Close()
		return nil, err
	}
	return s, nil
}

func (s *source) inspect() error {
	info, err := s.file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%w: not a regular file", ErrNotWAL)
	}
	s.size = info.Size()
	if s.isWAL() {
		return s.inspectHeader()
	}
	return s.inspectText()
}

// isWAL reports whether the file holds pages of WAL.
func (s *source) isWAL() bool {
	return s.name.Kind == wal.KindSegment || s.name.Kind == wal.KindPartial
}

func (s *source) inspectHeader() error {
	b := make([]byte, wal.HeaderSize)
	n, err := s.file.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return err
	}
	if s.header, err = wal.ParseHeader(b[:n]); err == nil {
		err = s.header.Check(s.name)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotWAL, err)
	}
	full := int64(s.header.SegmentSize)
	if s.size > full || s.size < full && s.name.Kind == wal.KindSegment {
		return fmt.Errorf("%w: it has %d bytes, its header says %d", ErrNotWAL, s.size, full)
	}
	return nil
}

func (s *source) inspectText() error {
	if s.size > maxSmall {
		return fmt.Errorf("%w: a %s of %d bytes", ErrNotWAL, s.name.Kind, s.size)
	}
	content := make([]byte, s.size)
	if _, err := s.file.ReadAt(content, 0); err != nil && err != io.EOF {
		return err
	}
	if err := checkText(s.name, content); err != nil {
		return fmt.Errorf("%w: %w", ErrNotWAL, err)
	}
	return nil
}

// checkText checks a history or a backup label file.
func checkText(name wal.Name, content []byte) error {
	if name.Kind == wal.KindHistory {
		_, err := wal.ParseHistory(name.Timeline, content)
		return err
	}
	// The first line of a backup history file names the segment, as the file's own name does:
	// START WAL LOCATION: 0/2000028 (file 000000010000000000000002)
	first, _, _ := strings.Cut(string(content), "\n")
	if !strings.HasPrefix(first, "START WAL LOCATION: ") || !strings.Contains(first, "(file "+name.Segment().String()+")") {
		return errors.New("its first line does not name segment " + name.Segment().String())
	}
	return nil
}

// rewind makes the source ready to be read from its beginning.
func (s *source) rewind() error {
	_, err := s.file.Seek(0, io.SeekStart)
	return err
}

// sum reads the source to its end for its size and hash, and its comparison tag where there is a key for that.
func (s *source) sum(key *sealed.CompareKey) (content, error) {
	if err := s.rewind(); err != nil {
		return content{}, err
	}
	size, hash, err := codec.Sum(s.file)
	c := content{size: size, hash: hash, hashed: true}
	if key != nil {
		c.tag = key.Tag(s.name.String(), size, hash)
	}
	return c, err
}

// content identifies what a file holds.
type content struct {
	size   uint64   // bytes
	hash   [16]byte // XXH3-128, where it is known
	hashed bool
	tag    sealed.Tag // where it is known
}

// same reports whether two files hold the same. It fails with [sealed.ErrNoCompareKey] if nothing is known of both that could be
// compared.
func (c content) same(other content) (bool, error) {
	switch {
	case c.size != other.size:
		return false, nil
	case c.hashed && other.hashed:
		return c.hash == other.hash, nil
	case c.tag == sealed.Tag{} || c.tag.Key != other.tag.Key:
		return false, sealed.ErrNoCompareKey
	}
	return c.tag == other.tag, nil
}
