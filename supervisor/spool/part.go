package spool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"walkeep/common/archive"
	"walkeep/common/codec"
	"walkeep/common/durable"
	"walkeep/common/storage"
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

// offered ends the name of a copy of what another archive has of a segment that was being written.
const offered = ".offered"

// KeepStreamed makes sure that partial/ holds the first bytes of what was streamed of a segment, so many of them, and returns
// the object that does: the stream's own, or a copy, which [Spool.DropOffered] removes. from is the archive that has them, of which the
// spool can be a part; streamed is where it has them.
func (s *Spool) KeepStreamed(ctx context.Context, from *archive.Archive, streamed string, length int64) (object string, err error) {
	name, err := wal.ParseName(path.Base(streamed))
	if err != nil {
		return "", err
	}
	o, err := s.Archive.Backend().Open(ctx, streamed)
	if err == nil {
		defer o.Close()
		if o.Size() >= length {
			return streamed, nil
		}
	} else if !errors.Is(err, storage.ErrNotExist) {
		return "", err
	}
	streamed += offered
	source, err := from.OpenStreamed(ctx, name)
	if err != nil {
		return "", err
	}
	defer source.Close()
	r, err := source.Reader(ctx, 0, length)
	if err != nil {
		return "", err
	}
	defer r.Close()
	if err := s.MakePartial(); err != nil {
		return "", err
	}
	kept := s.Partial(path.Base(streamed))
	if err := durable.Remove(kept); err != nil && !errors.Is(err, fs.ErrNotExist) { // of an earlier promotion
		return "", err
	}
	part, err := durable.Create(kept)
	if err != nil {
		return "", err
	}
	defer part.Discard()
	if n, err := io.Copy(part, r); err != nil || n < length {
		return "", fmt.Errorf("copy what was streamed of %s into the spool: %d of %d bytes: %w", name.Segment(), n, length, cmp.Or(err, io.ErrUnexpectedEOF))
	}
	return streamed, part.Commit(nil)
}

// DropOffered removes an object of KeepStreamed if it is a copy, which is not encrypted.
func (s *Spool) DropOffered(object string) error {
	if !strings.HasSuffix(object, offered) {
		return nil
	}
	if err := durable.Remove(s.Partial(path.Base(object))); !errors.Is(err, fs.ErrNotExist) {
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
		return "", durable.Remove(path)
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
