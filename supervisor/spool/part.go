package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"walkeep/common/archive"
	"walkeep/common/codec"
	"walkeep/common/durable"
	"walkeep/common/wal"
)

// KeepPart copies the part of a segment up to a position into partial/, as a stream would have written it. If the
// segment has been streamed there already, that file stays as it is.
func (s *Spool) KeepPart(name wal.Name, path string, to wal.LSN, size wal.SegmentSize) error {
	start, err := name.Start(size)
	if err != nil || to <= start {
		return err
	}
	if err := s.MakePartial(); err != nil {
		return err
	}
	kept := s.Partial(name.String() + ".partial")
	if _, err := os.Stat(kept); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	length := int64(to - start)
	if _, err := archive.WalkStreamed(io.NewSectionReader(f, 0, length), name); err != nil {
		return err
	}
	part, err := durable.Create(kept)
	if err != nil {
		return err
	}
	defer part.Discard()
	if _, err := io.Copy(part, io.NewSectionReader(f, 0, length)); err != nil {
		return err
	}
	if err := part.Commit(nil); err != nil && !errors.Is(err, fs.ErrExist) { // a stream made the file meanwhile
		return err
	}
	return nil
}

// DropPartial removes a partial segment if an archived segment contains all of it. If the archived segment has other
// records, the partial segment stays under another name, which is returned.
func (s *Spool) DropPartial(ctx context.Context, partial, archived wal.Name) (aside string, err error) {
	path := s.Partial(partial.String())
	same, err := contains(ctx, s.Archive, archived, path)
	if err != nil {
		return "", err
	}
	if same {
		return "", os.Remove(path)
	}
	aside = fmt.Sprintf("%s.differs-%d", path, time.Now().UnixNano())
	return aside, durable.Replace(path, aside)
}

// contains reports whether an archived segment begins with the whole records of a partial one. After a power cut any
// bytes can follow them.
func contains(ctx context.Context, a *archive.Archive, n wal.Name, path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	partial, err := wal.ParseName(filepath.Base(path))
	if err != nil {
		return false, err
	}
	_, proven, err := Lengths(f, partial)
	if err != nil {
		if errors.Is(err, archive.ErrNotWAL) {
			return false, nil
		}
		return false, err
	}
	c := codec.NewComparison(f)
	if _, err := a.Deliver(ctx, n, 0, c); err != nil {
		return false, err
	}
	first, differs, err := c.Result()
	return !differs || first >= proven, err
}
