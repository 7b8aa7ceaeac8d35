package ship

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"path"
	"strings"
	"time"

	"walkeep/common/archive"
	"walkeep/common/notes"
	"walkeep/common/storage"
)

// noteInterval is the least time between two copies of a note.
const noteInterval = time.Minute

// maxNote is the largest size of a note in bytes.
const maxNote = 1 << 20

// An owned note is replaced by its owner, in the spool.
type owned struct {
	content []byte
	at      time.Time
}

// shipNotes copies the notes of the production server and of standbys, where they have changed.
func (q *queue) shipNotes(ctx context.Context) error {
	b := q.s.Spool.Archive.Backend()
	standbys, err := q.s.Spool.Archive.List(ctx, path.Dir(notes.StandbyName("x"))+"/")
	if err != nil {
		return err
	}
	for _, e := range append([]storage.Entry{{Name: notes.ServerName}}, standbys...) {
		was, known := q.notes[e.Name]
		if !strings.HasSuffix(e.Name, ".json") || known && time.Since(was.at) < noteInterval {
			continue
		}
		content, err := storage.ReadAll(ctx, b, e.Name, maxNote)
		if errors.Is(err, storage.ErrNotExist) || err == nil && bytes.Equal(undated(content), undated(was.content)) {
			continue
		}
		if err == nil && !known {
			known, err = q.isNewer(ctx, e.Name, content)
		}
		if err == nil && known {
			err = q.call(ctx, 0, func(ctx context.Context, a *archive.Archive) error {
				return a.Backend().Replace(ctx, e.Name, content)
			})
		}
		if err != nil {
			return err
		}
		q.notes[e.Name] = owned{content, time.Now()}
	}
	return nil
}

// isNewer reports whether the spool's note is newer than that of the repository: commands of other hosts write it there.
func (q *queue) isNewer(ctx context.Context, name string, content []byte) (bool, error) {
	var theirs []byte
	err := q.call(ctx, 0, func(ctx context.Context, a *archive.Archive) error {
		found, err := storage.ReadAll(ctx, a.Backend(), name, maxNote)
		if err == nil {
			theirs = found
		}
		if errors.Is(err, storage.ErrNotExist) {
			return nil
		}
		return err
	})
	return err == nil && (len(theirs) == 0 || written(content).After(written(theirs))), err
}

// undated is what a note says beside when it was written, by which nothing is decided.
func undated(note []byte) []byte {
	var fields map[string]json.RawMessage
	if json.Unmarshal(note, &fields) != nil {
		return note
	}
	delete(fields, "asked")
	delete(fields, "noted")
	rest, err := json.Marshal(fields)
	if err != nil {
		return note
	}
	return rest
}

// written is when a note was written, by its writer's clock.
func written(note []byte) time.Time {
	var at struct{ Asked, Noted time.Time }
	_ = json.Unmarshal(note, &at) // one that cannot be understood is older than any
	if at.Asked.IsZero() {
		return at.Noted
	}
	return at.Asked
}
