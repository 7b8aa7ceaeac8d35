package receive

import (
	"context"
	"errors"
	"fmt"

	"walkeep/common/archive"
	"walkeep/common/cli"
	"walkeep/common/storage"
	"walkeep/common/wal"
	"walkeep/supervisor/replication"
	"walkeep/supervisor/spool"
)

// ErrHistory reports that neither the archive nor the server has the history of a timeline.
var ErrHistory = cli.NewError("the history of a timeline is missing",
	"the server's timeline cannot be traced back without it: look for the file in pg_wal of every server of the cluster, and in older archives, and let archive-cmd store it (archive-cmd --spool SPOOL PATH)")

// connect opens a connection for replication commands, which must succeed within [replication.Timeout].
func connect(ctx context.Context, conninfo string) (*replication.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, replication.Timeout)
	defer cancel()
	return replication.Connect(ctx, conninfo, nil)
}

// StoreHistories archives the history of the server's timeline and those of the timelines on the way to it, if the archive
// lacks them. A server that switched to its timeline before it archived here does not archive them itself. It returns
// [ErrHistory] if neither the archive nor the server has the history of the server's own timeline.
func StoreHistories(ctx context.Context, s *spool.Spool, conninfo string) error {
	c, err := connect(ctx, conninfo)
	if err != nil {
		return err
	}
	defer c.Abort()
	id, err := c.IdentifySystem(ctx)
	if err != nil || id.Flushed.Timeline == 1 {
		return err
	}
	if err := s.MakePartial(); err != nil {
		return err
	}
	way := []wal.Timeline{id.Flushed.Timeline}
	for i := 0; i < len(way); i++ {
		tli := way[i]
		h, err := s.Archive.History(ctx, tli)
		if errors.Is(err, archive.ErrNotStored) || errors.Is(err, storage.ErrNotExist) {
			h, err = storeHistoryOf(ctx, c, s, tli)
			if i > 0 && replication.HasCode(err, replication.UndefinedFile) {
				continue // the server began on a later timeline, and never had it
			}
		}
		if replication.HasCode(err, replication.UndefinedFile) {
			name := wal.Name{Kind: wal.KindHistory, Timeline: tli}
			return fmt.Errorf("%w: the archive does not have %s, and the server does not either: %w", ErrHistory, name, err)
		}
		if err != nil {
			return err
		}
		if i == 0 {
			for _, e := range h.Entries {
				if e.Timeline > 1 {
					way = append(way, e.Timeline)
				}
			}
		}
	}
	return nil
}

// storeHistoryOf archives the server's history of a timeline.
func storeHistoryOf(ctx context.Context, c *replication.Conn, s *spool.Spool, tli wal.Timeline) (wal.History, error) {
	text, err := c.TimelineHistory(ctx, tli)
	if err != nil {
		return wal.History{}, err
	}
	h, err := wal.ParseHistory(tli, text)
	if err != nil {
		return h, err
	}
	return h, s.StoreHistory(ctx, tli, text)
}
