package archive

import (
	"context"
	"fmt"
	"walkeep/common/codec"
	"walkeep/common/wal"
)

// History reads the history of a timeline; [ErrNotStored] if it is not there.
func (a *Archive) History(ctx context.Context, tli wal.Timeline) (wal.History, error) {
	n := wal.Name{Kind: wal.KindHistory, Timeline: tli}
	found, err := a.find(ctx, n)
	if err != nil {
		return wal.History{}, err
	}
	if len(found) == 0 {
		return wal.History{}, fmt.Errorf("%s is %w", n, ErrNotStored)
	}
	one, err := a.choose(ctx, n, found)
	if err != nil {
		return wal.History{}, err
	}
	text := codec.Memory{Limit: maxSmall}
	if _, err := a.deliver(ctx, n, Identity{}, one, &text); err != nil {
		return wal.History{}, fmt.Errorf("%s: %w", one.Name, err)
	}
	h, err := wal.ParseHistory(tli, text.Bytes())
	if err != nil {
		return h, fmt.Errorf("%s: %w: %w", one.Name, ErrDamaged, err)
	}
	return h, nil
}
