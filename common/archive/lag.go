package archive

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"walkeep/common/storage"
	"walkeep/common/wal"
)

// A Lacking is the oldest segment that the server had finished and the archive did not have, and when that was first seen,
// by the server's clock.
type Lacking struct {
	Segment string    `json:"segment"`
	Since   time.Time `json:"since"`
}

const lackingName = "lag.json"

// NoteLacking records which segment the archive lacks at this time of the server, and gives since when that is known.
// Without a segment it forgets what it knew.
func (a *Archive) NoteLacking(ctx context.Context, n wal.Name, now time.Time) (time.Time, error) {
	if n == (wal.Name{}) {
		err := a.b.Remove(ctx, lackingName)
		if errors.Is(err, storage.ErrNotExist) {
			err = nil
		}
		return now, err
	}
	var known Lacking
	content, err := storage.ReadAll(ctx, a.b, lackingName, maxNote)
	if err == nil && json.Unmarshal(content, &known) == nil && known.Segment == n.String() && !known.Since.After(now) {
		return known.Since, nil
	}
	return now, a.replaceNote(ctx, lackingName, Lacking{n.String(), now.UTC()})
}
