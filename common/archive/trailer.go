package archive

import (
	"context"
	"fmt"
	"walkeep/common/codec"
	"walkeep/common/wal"
)

// Trailer reads the trailer of a stored file, and nothing else of it; [ErrNotStored] if no object of the name is there.
// A foreign file has an empty trailer.
func (a *Archive) Trailer(ctx context.Context, n wal.Name) (codec.Trailer, error) {
	found, err := a.find(ctx, n)
	if err != nil {
		return codec.Trailer{}, err
	}
	if len(found) == 0 {
		return codec.Trailer{}, fmt.Errorf("%s is %w", n, ErrNotStored)
	}
	one, err := a.choose(ctx, n, found)
	if err != nil {
		return codec.Trailer{}, err
	}
	o, f, err := a.open(ctx, one)
	if err != nil {
		return codec.Trailer{}, fmt.Errorf("%s: %w", one.Name, err)
	}
	defer f.Close()
	if o.Trailer == nil {
		return codec.Trailer{}, nil
	}
	return *o.Trailer, checkTrailerName(o.Trailer, n)
}
