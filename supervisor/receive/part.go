package receive

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"walkeep/common/archive"
	"walkeep/common/durable"
	"walkeep/common/wal"
)

// KeepPart keeps the part of a segment up to a position in partial/, as a stream would have left it. What was streamed of it
// stays as it is.
func KeepPart(spool string, name wal.Name, path string, to wal.LSN, size wal.SegmentSize) error {
	start, err := name.Start(size)
	if err != nil || to <= start {
		return err
	}
	dir := filepath.Join(spool, Dir)
	if err := durable.MkdirAll(spool, Dir); err != nil {
		return err
	}
	kept := filepath.Join(dir, name.String()+".partial")
	if _, err := os.Stat(kept); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	length := int64(to - start)
	if _, err := archive.WalkStreamed(f, length, name); err != nil {
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
	if err := part.Commit(nil); err != nil && !errors.Is(err, fs.ErrExist) { // a stream was quicker
		return err
	}
	return nil
}
