// Package spool handles the directory on this host that archive-cmd writes: an archive, and files on their way into
// it.
//
// An [archive.Archive] can be anywhere. This package needs the directory itself: segments grow in partial/ and are
// renamed there, processes lock each other out, and archive-cmd is called with files of it.
//
//	.supervisor-<host>.lock  locked by the one supervisor of a host that works here; see [Spool.Lock]
//	partial/.lock            locked by the one process that streams; see [Spool.LockPartial]
//	partial/<name>.partial   a growing [Segment]
//	partial/<name>           a completely streamed segment, or a history; [Spool.StoreComplete] archives it
package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"walkeep/common/account"
	"walkeep/common/archive"
	"walkeep/common/durable"
	"walkeep/common/storage/local"
	"walkeep/common/wal"
)

// A Spool is a directory that is an archive. Its methods may be called concurrently, those of one [Segment] may not.
type Spool struct {
	Dir     string // an absolute path, or one that is relative to the working directory
	Archive *archive.Archive
	// Store archives a file as archive-cmd does; see [Command]. It returns nil once the archive holds the file
	// durably.
	Store func(ctx context.Context, path string) error
}

// Open opens an existing spool. The caller sets Store.
func Open(dir string) (*Spool, error) {
	b, err := local.Open(dir)
	if err != nil {
		return nil, err
	}
	return &Spool{Dir: dir, Archive: archive.New(b)}, nil
}

// Command returns a Store that calls archive-cmd. A process of its own compresses without delaying the caller, and
// returns its memory at its end. It runs as the spool's owner. args are options of archive-cmd.
func (s *Spool) Command(program string, args ...string) func(ctx context.Context, path string) error {
	return func(ctx context.Context, path string) error {
		var said bytes.Buffer
		cmd := exec.CommandContext(ctx, program, append(args[:len(args):len(args)], path)...)
		cmd.Stderr = &said
		owner, err := account.OwnerOf(s.Dir)
		if err != nil {
			return err
		}
		owner.Use(cmd)
		if err := cmd.Run(); err != nil {
			if text := bytes.TrimSpace(said.Bytes()); len(text) > 0 {
				return errors.New(string(bytes.ReplaceAll(text, []byte("\n"), []byte("; "))))
			}
			return fmt.Errorf("archive %s: %w", filepath.Base(path), err)
		}
		return nil
	}
}

// partialDir is the directory of streamed files, below the spool.
const partialDir = "partial"

// Partial returns the path of a file in partial/.
func (s *Spool) Partial(name string) string { return filepath.Join(s.Dir, partialDir, name) }

// MakePartial makes partial/ durably.
func (s *Spool) MakePartial() error {
	if err := durable.MkdirAll(s.Dir, partialDir); err != nil {
		return err
	}
	return durable.SyncDir(s.Dir) // otherwise a power cut could remove the directory with all its files
}

// ListPartial lists partial/, in the order of names. The list is empty if the directory was never made. If partial/
// is a link whose target is missing, the target's file system is not mounted, and ListPartial fails.
func (s *Spool) ListPartial() ([]os.DirEntry, error) {
	entries, err := os.ReadDir(s.Partial(""))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(s.Partial("")); err == nil {
			return nil, fmt.Errorf("the link %s leads nowhere", s.Partial(""))
		}
		return nil, nil
	}
	return entries, err
}

// StoreComplete archives the completely streamed segments and the histories in partial/, in their order. It skips a
// segment for which wait, if given, returns true and that the archive does not have yet. A file that cannot be
// archived stays and does not delay the others; all errors are joined. File times are ignored: clocks can be wrong.
func (s *Spool) StoreComplete(ctx context.Context, wait func(segment string) bool) error {
	entries, err := s.ListPartial()
	if err != nil {
		return err
	}
	var failed error
	for _, e := range entries {
		n, err := wal.ParseName(e.Name())
		if err != nil || n.Kind != wal.KindSegment && n.Kind != wal.KindHistory {
			continue
		}
		// Segments of a timeline cannot be used without its history, which is never skipped.
		if n.Kind == wal.KindSegment && wait != nil && wait(e.Name()) {
			if there, err := s.Archive.HasName(ctx, n); err == nil && !there {
				continue
			}
		}
		failed = errors.Join(failed, s.storeOne(ctx, s.Partial(e.Name())))
	}
	return failed
}

// StoreHistory archives a history that was read from a server.
func (s *Spool) StoreHistory(ctx context.Context, tli wal.Timeline, text []byte) error {
	path, err := s.WriteHistory(tli, text)
	if err != nil {
		return err
	}
	return s.storeOne(ctx, path)
}

// WriteHistory writes a history to partial/ for the next [Spool.StoreComplete], and returns its path.
func (s *Spool) WriteHistory(tli wal.Timeline, text []byte) (string, error) {
	path := s.Partial(wal.Name{Kind: wal.KindHistory, Timeline: tli}.String())
	return path, durable.WriteFile(path, text)
}

// storeOne archives one file of partial/, and then removes it. Another process may do the same at the same time.
func (s *Spool) storeOne(ctx context.Context, path string) error {
	gone := func() bool {
		_, err := os.Lstat(path)
		return errors.Is(err, fs.ErrNotExist)
	}
	if gone() {
		return nil
	}
	if err := s.Store(ctx, path); err != nil { // it compares the file with an existing object
		if gone() {
			return nil
		}
		return err
	}
	if err := durable.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
