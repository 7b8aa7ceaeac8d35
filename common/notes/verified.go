package notes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"walkeep/common/backup"
	"walkeep/common/codec"
	"walkeep/common/storage"
	"walkeep/common/wal"
)

// A Record is what verify and drill found of a backup. Every decision about the backup uses it.
type Record struct {
	// Verify is the last verification without --deep since the last one with it, which looks at all that one looks at.
	Verify *Verified `json:"verify,omitempty"`
	Deep   *Verified `json:"deep_verify,omitempty"` // the last one with --deep
	Drill  *Drilled  `json:"drill,omitempty"`       // the last drill
}

// Verified is a verification of a backup.
type Verified struct {
	At       time.Time `json:"at"` // for people; nothing is decided by it
	Problems []Problem `json:"problems"`
}

// A Problem is a stored object that is not what it was, and why.
type Problem struct {
	Object string `json:"object"`
	Text   string `json:"problem"`
}

// Drilled is a drill of a backup.
type Drilled struct {
	At    time.Time `json:"at"` // for people; nothing is decided by it
	OK    bool      `json:"ok"`
	Error string    `json:"error,omitempty"` // the step that failed, and why
	// Seconds is how long the drill took; 0 in notes of earlier versions.
	Seconds float64 `json:"seconds,omitempty"`
	// Damaged says that the drill failed because a stored object is damaged.
	Damaged bool `json:"damaged,omitempty"`
}

// Flaw returns why a backup cannot be restored, as far as the record shows; nil if it shows no reason.
func (r Record) Flaw() error {
	for _, v := range []*Verified{r.Deep, r.Verify} {
		if v != nil && len(v.Problems) > 0 {
			p := v.Problems[0]
			return fmt.Errorf("%s: %s", p.Object, p.Text)
		}
	}
	if r.Drill != nil && r.Drill.Damaged {
		return errors.New("the last drill failed: " + r.Drill.Error)
	}
	return nil
}

// VerifiedDir is where the notes of verify and drill are: <backup id>.json, and <segment>.json.
const VerifiedDir = "verified/"

// VerifiedName is where the note of a backup or a segment is.
func VerifiedName(name string) string { return VerifiedDir + name + ".json" }

// NoteVerified records what a verification of a backup has found. One with deep replaces all earlier ones.
func (n Notes) NoteVerified(ctx context.Context, id string, deep bool, v Verified) error {
	return n.changeRecord(ctx, id, func(r *Record) {
		if !deep {
			r.Verify = &v
			return
		}
		r.Verify, r.Deep = nil, &v
		if len(v.Problems) == 0 && r.Drill != nil && r.Drill.Damaged {
			r.Drill = nil // what it found is whole again
		}
	})
}

// NoteDrill records how a drill of a backup went.
func (n Notes) NoteDrill(ctx context.Context, id string, d Drilled) error {
	return n.changeRecord(ctx, id, func(r *Record) { r.Drill = &d })
}

func (n Notes) changeRecord(ctx context.Context, id string, change func(*Record)) error {
	if err := backup.CheckID(id); err != nil {
		return err
	}
	var r Record
	content, err := storage.ReadAll(ctx, n.b, VerifiedName(id), maxSize)
	switch err = n.unread(ctx, VerifiedName(id), err); {
	case err == nil:
		_ = json.Unmarshal(content, &r) // one that cannot be understood is replaced,
	case !errors.Is(err, storage.ErrNotExist) && !errors.Is(err, ErrUnread): // and so is one that cannot be read
		return err
	}
	change(&r)
	return n.replace(ctx, VerifiedName(id), r)
}

// A Spoiled is the note of a segment that verify --deep has found damaged.
type Spoiled struct {
	Segment wal.Name  `json:"-"`
	Reason  string    `json:"problem"`
	At      time.Time `json:"at"` // for people; nothing is decided by it
	// LSN is where records are broken that were whole as far as the segment alone could show; empty if the object itself is
	// damaged. Stored is the SHA-256 of the damaged object.
	LSN    string `json:"lsn,omitempty"`
	Stored string `json:"stored_sha256,omitempty"`
}

// NoteSpoiled records that a segment is damaged.
func (n Notes) NoteSpoiled(ctx context.Context, s Spoiled) error {
	s.At = time.Now().UTC().Truncate(time.Second)
	return n.replace(ctx, VerifiedName(s.Segment.String()), s)
}

// ForgetSpoiled removes the note of a segment that is whole again. That there is none is no error.
func (n Notes) ForgetSpoiled(ctx context.Context, segment wal.Name) error {
	return n.remove(ctx, VerifiedName(segment.String()))
}

// Verified reads what verify and drill have found of backups, by their ids, and of segments. The name of a segment's note that
// cannot be read or understood leads to the segment all the same.
func (n Notes) Verified(ctx context.Context) (records map[string]Record, spoiled []Spoiled, faults []Fault, err error) {
	records = make(map[string]Record)
	take := func(name string, note json.RawMessage) error {
		of := id(name)
		if backup.CheckID(of) == nil {
			var r Record
			err := json.Unmarshal(note, &r)
			records[of] = r
			return err
		}
		segment, err := wal.ParseName(of)
		if err != nil || segment.Kind != wal.KindSegment {
			return fmt.Errorf("%w: %q is no backup and no segment", codec.ErrDamaged, of)
		}
		s := Spoiled{Segment: segment}
		if err := json.Unmarshal(note, &s); err != nil {
			return fmt.Errorf("%w: %v", codec.ErrDamaged, err)
		}
		spoiled = append(spoiled, s)
		return nil
	}
	faults, err = read(ctx, n, VerifiedDir, take)
	for _, f := range faults {
		_ = take(f.Object, json.RawMessage(`{"problem":"it was found damaged"}`)) // the fault is known
	}
	return records, spoiled, faults, err
}
