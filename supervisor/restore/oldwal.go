package restore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"

	"walkeep/common/archive"
	"walkeep/common/durable"
	"walkeep/common/wal"
)

// keptName is the directory in pg_wal that keeps WAL which the archive does not hold. PostgreSQL looks at no directory
// there but its own, and pg_verifybackup at none.
const keptName = "walkeep.kept"

// keepWAL moves the WAL of an existing data directory aside that the archive does not hold.
func (r *restorer) keepWAL() error {
	p, dir := r.places[0], "pg_wal"
	if last := r.places[len(r.places)-1]; last.prefix == "pg_wal" {
		p, dir = last, "."
	}
	entries, err := fs.ReadDir(p.root.FS(), dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	at := filepath.Join(p.dir, filepath.FromSlash(dir))
	for _, e := range entries {
		n, err := wal.ParseName(e.Name())
		if err != nil || !e.Type().IsRegular() || n.Kind == wal.KindBackup || archived(r.inv, n) {
			continue
		}
		if n.Kind != wal.KindHistory {
			used, err := r.isUsed(p, filepath.ToSlash(filepath.Join(dir, e.Name())), n)
			if err != nil {
				return err
			}
			if !used {
				continue
			}
		}
		if err := r.keep(at, e.Name()); err != nil {
			return fmt.Errorf("keep %s: %w", filepath.Join(at, e.Name()), err)
		}
	}
	if len(r.done.Kept) == 0 {
		return nil
	}
	r.done.KeptDir = filepath.Join(at, keptName)
	// The only copies must not be lost between the two directories.
	return errors.Join(durable.SyncDir(r.done.KeptDir), durable.SyncDir(at))
}

func (r *restorer) keep(dir, name string) error {
	if err := durable.MkdirAll(dir, keptName); err != nil {
		return err
	}
	kept := filepath.Join(dir, keptName)
	if err := r.owner.give(kept); err != nil {
		return err
	}
	to := filepath.Join(kept, name)
	for i := 2; exists(to); i++ {
		to = filepath.Join(kept, fmt.Sprintf("%s.%d", name, i))
	}
	r.done.Kept = append(r.done.Kept, filepath.Base(to))
	return durable.Replace(filepath.Join(dir, name), to)
}

// isUsed tells WAL from a segment that was made ready for later use: an old one under a new name, or one of zeros.
func (r *restorer) isUsed(p *place, file string, n wal.Name) (bool, error) {
	f, err := p.root.Open(file)
	if err != nil {
		return false, err
	}
	defer f.Close()
	b := make([]byte, wal.HeaderSize)
	if _, err := io.ReadFull(f, b); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return false, nil
		}
		return false, err
	}
	h, err := wal.ParseHeader(b)
	return err == nil && h.Check(n) == nil && h.SystemID == r.m.SystemID, nil
}

// archived tells whether the archive has a file.
func archived(inv *archive.Inventory, n wal.Name) bool {
	l := inv.Line(n.Timeline)
	if l == nil {
		return false
	}
	switch n.Kind {
	case wal.KindHistory:
		return l.HistoryErr == nil && n.Timeline > 1
	case wal.KindPartial:
		return slices.Contains(l.Partials, n)
	}
	number, err := n.Number(inv.SegmentSize)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(l.Segments, func(s archive.Span) bool { return s.First <= number && number <= s.Last })
}
