package notes

import (
	"context"
	"encoding/json"
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
func (n Notes) NoteLacking(ctx context.Context, lacks wal.Name, now time.Time) (time.Time, error) {
	if lacks == (wal.Name{}) {
		return now, n.remove(ctx, lackingName)
	}
	var known Lacking
	content, err := storage.ReadAll(ctx, n.b, lackingName, maxSize)
	if err == nil && json.Unmarshal(content, &known) == nil && known.Segment == lacks.String() && !known.Since.After(now) {
		return known.Since, nil
	}
	return now, n.replace(ctx, lackingName, Lacking{lacks.String(), now.UTC()})
}
