package notes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"walkeep/common/codec"
	"walkeep/common/storage"
	"walkeep/common/wal"
)

// A Server is what the production server, the one that clients write to, answered when it was last asked: by a backup,
// a stream, a check, a status or a promotion.
type Server struct {
	SystemID wal.SystemID `json:"system_identifier,string"`
	Timeline wal.Timeline `json:"timeline"` // to which it writes
	LSN      wal.LSN      `json:"lsn"`      // up to which it had written
	// Newest is the highest timeline of which the archive held anything then. A timeline with a higher number came after
	// the question, one with another number up to this is a copy's or was left.
	Newest wal.Timeline `json:"newest_timeline"`
	Asked  time.Time    `json:"asked"` // for people; nothing is decided by it
	// Promoted: promote opened it on this timeline.
	Promoted bool `json:"promoted,omitempty"`
}

// ServerName is the name of the note of what the production server has said.
const ServerName = "server.json"

// NoteServer records what a server says that is open for writing. Newest must have been looked up before the server was
// asked, see archive.Newest. That promote opened the server is kept for as long as the timeline is the same.
func (n Notes) NoteServer(ctx context.Context, s Server) error {
	if was, err := n.Server(ctx); err == nil && was != nil && was.SystemID == s.SystemID && was.Timeline == s.Timeline {
		s.Promoted = s.Promoted || was.Promoted
	}
	s.Asked = time.Now().UTC().Truncate(time.Millisecond)
	return n.replace(ctx, ServerName, s)
}

// Server reads what the production server said last; nil if it was never asked.
func (n Notes) Server(ctx context.Context) (*Server, error) {
	content, err := storage.ReadAll(ctx, n.b, ServerName, maxSize)
	if errors.Is(err, storage.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, n.unread(ctx, ServerName, err)
	}
	var s Server
	if err := json.Unmarshal(content, &s); err != nil {
		return nil, fmt.Errorf("%w: %v", codec.ErrDamaged, err)
	}
	if s.Timeline == 0 {
		return nil, fmt.Errorf("%w: it names no timeline", codec.ErrDamaged)
	}
	return &s, nil
}
