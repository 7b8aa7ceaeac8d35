package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/zeebo/xxh3"

	"walkeep/common/archive"
	"walkeep/common/codec"
	"walkeep/common/durable"
	"walkeep/common/recovery"
	"walkeep/common/wal"
)

// keptName is the directory in pg_wal for kept WAL that the archive lacks. PostgreSQL reads no foreign directory
// there, and neither does pg_verifybackup.
const keptName = "walkeep.kept"

// keepWAL moves the WAL of an existing data directory that the archive lacks to the directory of kept WAL.
func (r *restorer) keepWAL(ctx context.Context) error {
	p, dir := r.roots[0], "pg_wal"
	if last := r.roots[len(r.roots)-1]; last.prefix == "pg_wal" {
		p, dir = last, "."
	}
	entries, err := fs.ReadDir(p.handle.FS(), dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	at := filepath.Join(p.dir, filepath.FromSlash(dir))
	moved := false
	for _, e := range entries {
		n, err := wal.ParseName(e.Name())
		if err != nil || !e.Type().IsRegular() || n.Kind == wal.KindBackup {
			continue
		}
		file := filepath.Join(at, e.Name())
		wanted, err := r.isOnlyCopy(ctx, p, filepath.ToSlash(filepath.Join(dir, e.Name())), n)
		if err != nil {
			return fmt.Errorf("compare %s with the archive's: %w", file, err)
		}
		if !wanted {
			continue
		}
		if err := r.keep(at, e.Name()); err != nil {
			return fmt.Errorf("keep %s: %w", file, err)
		}
		moved = true
	}
	r.done.KeptDir = filepath.Join(at, keptName)
	if err := r.countKept(); err != nil || !moved {
		return err
	}
	// The only copies must not be lost between the two directories.
	return errors.Join(durable.SyncDir(r.done.KeptDir), durable.SyncDir(at))
}

// countKept finds the files that were kept since the restore began, the first time if it was interrupted, and the end
// of their records.
func (r *restorer) countKept() error {
	for _, name := range r.keptNow() {
		if slices.Contains(r.keptBefore, name) {
			continue
		}
		file := filepath.Join(r.done.KeptDir, name)
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		r.done.Kept = append(r.done.Kept, name)
		r.done.KeptBytes += info.Size()
	}
	before := r.done.Before
	if before == nil {
		return nil
	}
	var last wal.Name
	file := ""
	for _, name := range r.done.Kept {
		n, err := wal.ParseName(name)
		if err == nil && n.Kind == wal.KindSegment && n.Timeline == before.Timeline && (file == "" || wal.Compare(n, last) > 0) {
			last, file = n, filepath.Join(r.done.KeptDir, name)
		}
	}
	if file == "" {
		return nil
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	end, err := endOfRecords(f, last)
	before.LSN = max(before.LSN, end)
	return err
}

// isOnlyCopy reports whether the archive lacks the content of a file of pg_wal.
func (r *restorer) isOnlyCopy(ctx context.Context, p *rootDir, file string, n wal.Name) (bool, error) {
	there := archived(r.inv, n)
	if there && r.shared(n) {
		return false, nil
	}
	if n.Kind != wal.KindHistory {
		if used, err := r.isUsed(p, file, n); err != nil || !used {
			return false, err
		}
	}
	if !there {
		return true, nil
	}
	f, err := p.handle.Open(file)
	if err != nil {
		return false, err
	}
	defer f.Close()
	differs, err := r.differs(ctx, f, n)
	if differs && err == nil {
		r.done.Conflicts = append(r.done.Conflicts, n.String())
	}
	return differs, err
}

// differs reports whether a file has records that the archive's file of this name lacks. Old bytes follow the last
// record of an incomplete segment.
func (r *restorer) differs(ctx context.Context, f *os.File, n wal.Name) (bool, error) {
	a := r.a
	if t, err := a.Trailer(ctx, n); err == nil && t.PlainSize > 0 {
		h := xxh3.New()
		size, err := io.Copy(h, f)
		if err != nil {
			return false, err
		}
		if uint64(size) == t.PlainSize && h.Sum128().Bytes() == t.PlainHash {
			return false, nil
		}
	}
	end, start := wal.LSN(0), wal.LSN(0)
	if n.Kind != wal.KindHistory {
		var err error
		end, err = endOfRecords(f, n)
		if err == nil {
			start, err = n.Start(r.inv.SegmentSize)
		}
		if err != nil || end <= start {
			return false, err
		}
	}
	c := codec.NewComparison(f)
	if _, err := recovery.Fetch(ctx, a, n, r.m.SystemID, c); err != nil {
		return true, ctx.Err() // then this may be the only sound copy
	}
	first, differs, err := c.Result()
	return differs && (n.Kind == wal.KindHistory || end > start+wal.LSN(first)), err
}

// endOfRecords returns the end of the last sound record of a segment.
func endOfRecords(f *os.File, n wal.Name) (wal.LSN, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	found, err := archive.WalkStreamed(io.NewSectionReader(f, 0, info.Size()), n) // bytes behind the records do not matter
	if errors.Is(err, archive.ErrNotWAL) {
		return 0, nil
	}
	return found.End, err
}

func (r *restorer) keep(dir, name string) error {
	if err := durable.MkdirAll(dir, keptName); err != nil {
		return err
	}
	kept := filepath.Join(dir, keptName)
	to := filepath.Join(kept, name)
	for i := 2; exists(to); i++ {
		to = filepath.Join(kept, fmt.Sprintf("%s.%d", name, i))
	}
	return durable.Replace(filepath.Join(dir, name), to)
}

// isUsed reports whether a segment contains WAL of its name. A segment that was prepared for later use does not: it
// has zeros, or is an old one under a new name.
func (r *restorer) isUsed(p *rootDir, file string, n wal.Name) (bool, error) {
	f, err := p.handle.Open(file)
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

// archived reports whether the archive has a file.
func archived(inv *recovery.Inventory, n wal.Name) bool {
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
	return slices.ContainsFunc(l.Segments, func(s recovery.Span) bool { return s.First <= number && number <= s.Last })
}
