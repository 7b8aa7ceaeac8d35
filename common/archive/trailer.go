package archive

import (
	"context"
	"fmt"

	"walkeep/common/codec"
	"walkeep/common/wal"
)

// Trailer reads the trailer of a stored file, and nothing else of it; [ErrNotStored] if no object of the name is there.
// A foreign file has an empty trailer.
//
// Of an encrypted object it gives what the object says of itself without a private key, whether there is one or not: name, codec,
// plain size, cluster, positions and the result of the WAL check; and the SHA-256 of the encrypted bytes as StoredSHA256.
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
	o, err := a.openStored(ctx, one)
	if err != nil {
		return codec.Trailer{}, fmt.Errorf("%s: %w", one.Name, err)
	}
	defer o.Close()
	switch {
	case o.sealed == nil && o.Trailer != nil:
		return *o.Trailer, checkTrailerName(o.Trailer, n)
	case o.sealed == nil || o.sealed.Facts == nil:
		return codec.Trailer{}, nil
	}
	f := o.sealed.Facts
	return codec.Trailer{
		Name: n.String(), Codec: f.Codec, WALCheck: f.WALCheck, SystemID: f.SystemID, PlainSize: f.PlainSize,
		Start: f.Start, End: f.End, DamageLSN: f.DamageLSN, StoredSHA256: f.SHA256,
	}, checkFacts(f, n)
}
