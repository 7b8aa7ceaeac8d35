package notes

import (
	"context"
	"fmt"
	"time"

	"walkeep/common/codec"
	"walkeep/common/wal"
)

// A Shipping is how far a repository holds what the spool holds. The process that ships keeps its note in the spool, and replaces
// it every few seconds, and every half minute where nothing changes.
type Shipping struct {
	Repository string    `json:"repository"`
	URL        string    `json:"url"` // the marks are those of the repository there
	Updated    time.Time `json:"updated"`
	Ended      bool      `json:"ended,omitempty"` // the process has ended in order
	Marks      []Mark    `json:"marks,omitempty"` // one for each timeline, ascending
	// Objects and Bytes are what waits to be shipped, Oldest one of those that wait longest, and Since when that was first seen.
	Objects int       `json:"objects"`
	Bytes   int64     `json:"bytes"`
	Oldest  string    `json:"oldest,omitempty"`
	Since   time.Time `json:"since,omitzero"`
	// Recoverable is a time up to which all that the spool had is in the repository.
	Recoverable time.Time `json:"recoverable,omitzero"`
	Answered    time.Time `json:"answered,omitzero"` // when the repository answered last
	// Looked is a time up to which all notes and finished backups that the spool had are in the repository.
	Looked time.Time `json:"looked,omitzero"`
	// Error is the last error, of the time Failed, and there was no success since Failing; empty after a success. Refused says that
	// waiting does not help: the repository is another cluster's.
	Error   string    `json:"error,omitempty"`
	Failed  time.Time `json:"failed,omitzero"`
	Failing time.Time `json:"failing,omitzero"`
	Refused bool      `json:"refused,omitempty"`
	// Stuck are objects that cannot be shipped, such as one under whose name the repository holds another content.
	Stuck []Problem `json:"stuck,omitempty"`
	// Requests and Sent are how many requests were made, and how many bytes written, since the process began.
	Requests int   `json:"requests"`
	Sent     int64 `json:"sent"`
}

// A Mark says that a repository holds all WAL of a timeline, as far as the spool had it, up to a position.
type Mark struct {
	Timeline wal.Timeline `json:"timeline"`
	LSN      wal.LSN      `json:"lsn"`
}

// Mark returns the mark of a timeline; 0 if there is none.
func (s Shipping) Mark(tli wal.Timeline) wal.LSN {
	for _, m := range s.Marks {
		if m.Timeline == tli {
			return m.LSN
		}
	}
	return 0
}

// ShippingDir is the directory of the notes of shipping.
const ShippingDir = "ship/"

// ShippingName is the name of the note of what is shipped to a repository.
func ShippingName(repository string) string { return ShippingDir + repository + ".json" }

// NoteShipping records how far a repository has come.
func (n Notes) NoteShipping(ctx context.Context, s Shipping) error {
	return n.replace(ctx, ShippingName(s.Repository), s)
}

// Shippings reads the notes of all repositories.
func (n Notes) Shippings(ctx context.Context) ([]Shipping, []Fault, error) {
	return collect(ctx, n, ShippingDir, func(name string, s *Shipping) error {
		if ShippingName(s.Repository) != name {
			return fmt.Errorf("%w: it is that of repository %q", codec.ErrDamaged, s.Repository)
		}
		return nil
	})
}

// Shipping reads the note of a repository; an empty one if there is none, or it cannot be understood.
func (n Notes) Shipping(ctx context.Context, repository string) (Shipping, error) {
	all, _, err := n.Shippings(ctx)
	for _, s := range all {
		if s.Repository == repository {
			return s, err
		}
	}
	return Shipping{Repository: repository}, err
}
