package archive

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"walkeep/common/backup"
	"walkeep/common/storage"
	"walkeep/common/wal"
)

// ErrUnsound says that a backup's stored objects are not whole.
var ErrUnsound = errors.New("cannot be restored: what is stored of it is not whole")

// A Record is what verify and drill have found out about a backup. It is kept in a note, so that everybody who decides
// something goes by it.
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
	// Damaged says that the drill failed because a stored object is damaged.
	Damaged bool `json:"damaged,omitempty"`
}

// flaw is what makes a backup one that cannot be restored; nil if nothing is known that does.
func (r Record) flaw() error {
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

// VerifiedNote is where the note of a backup or a segment is.
func VerifiedNote(name string) string { return VerifiedDir + name + ".json" }

// NoteVerified records what a verification of a backup has found. One with deep replaces all earlier ones.
func (a *Archive) NoteVerified(ctx context.Context, id string, deep bool, v Verified) error {
	return a.changeRecord(ctx, id, func(r *Record) {
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
func (a *Archive) NoteDrill(ctx context.Context, id string, d Drilled) error {
	return a.changeRecord(ctx, id, func(r *Record) { r.Drill = &d })
}

func (a *Archive) changeRecord(ctx context.Context, id string, change func(*Record)) error {
	if err := backup.CheckID(id); err != nil {
		return err
	}
	var r Record
	content, err := storage.ReadAll(ctx, a.b, VerifiedNote(id), maxNote)
	switch err = a.unread(ctx, VerifiedNote(id), err); {
	case err == nil:
		_ = json.Unmarshal(content, &r) // one that cannot be understood is replaced,
	case !errors.Is(err, storage.ErrNotExist) && !errors.Is(err, errUnread): // and so is one that cannot be read
		return err
	}
	change(&r)
	return a.replaceNote(ctx, VerifiedNote(id), r)
}

// replaceNote writes a note, in place of the one that is there.
func (a *Archive) replaceNote(ctx context.Context, name string, note any) error {
	content, err := json.Marshal(note)
	if err != nil {
		return err
	}
	return a.b.Replace(ctx, name, append(content, '\n'))
}

// spoiledNote is the note of a segment that verify --deep has found damaged.
type spoiledNote struct {
	Reason string    `json:"problem"`
	At     time.Time `json:"at"` // for people; nothing is decided by it
	// LSN is where records are broken that were whole as far as the segment alone could show; empty if the object itself is
	// damaged. Stored is the SHA-256 of the object of which that is so.
	LSN    string `json:"lsn,omitempty"`
	Stored string `json:"stored_sha256,omitempty"`
}

// NoteSpoiled records that a segment is damaged: its object, or, where lsn is not 0, its records from there on.
func (a *Archive) NoteSpoiled(ctx context.Context, n wal.Name, lsn wal.LSN, reason string) error {
	note := spoiledNote{Reason: reason, At: time.Now().UTC().Truncate(time.Second)}
	if lsn != 0 {
		t, err := a.Trailer(ctx, n)
		if err != nil {
			return err
		}
		note.LSN, note.Stored = lsn.String(), hex.EncodeToString(t.StoredHash[:])
	}
	return a.replaceNote(ctx, VerifiedNote(n.String()), note)
}

// ForgetSpoiled removes the note of a segment that is whole again.
func (a *Archive) ForgetSpoiled(ctx context.Context, n wal.Name) error {
	err := a.b.Remove(ctx, VerifiedNote(n.String()))
	if errors.Is(err, storage.ErrNotExist) {
		return nil
	}
	return err
}

// rereads is how many segments that were found damaged an inventory reads again, to see whether they still are. Where there
// are more, the others count as damaged until they are verified again.
const rereads = 4

// takeVerified reads the notes of verify and drill.
func (a *Archive) takeVerified(ctx context.Context, inv *Inventory) error {
	inv.Records = make(map[string]Record)
	read := 0
	take := func(name string, note json.RawMessage) error {
		of := strings.TrimSuffix(path.Base(name), ".json")
		if backup.CheckID(of) == nil {
			var r Record
			err := json.Unmarshal(note, &r)
			inv.Records[of] = r
			return err
		}
		n, err := wal.ParseName(of)
		if err != nil || n.Kind != wal.KindSegment {
			return fmt.Errorf("%w: %q is no backup and no segment", ErrDamaged, of)
		}
		var s spoiledNote
		if err := json.Unmarshal(note, &s); err != nil {
			return fmt.Errorf("%w: %v", ErrDamaged, err)
		}
		if read++; s.LSN == "" && read <= rereads || s.LSN != "" {
			still, err := a.stillSpoiled(ctx, inv.Identity, n, s)
			if err != nil || !still {
				return err
			}
		}
		at, err := n.Start(inv.SegmentSize)
		if s.LSN != "" && err == nil {
			at, err = wal.ParseLSN(s.LSN)
		}
		if err != nil {
			return fmt.Errorf("%w: %v", ErrDamaged, err)
		}
		inv.Damages = append(inv.Damages, Damaged{Segment: n, LSN: at, Reason: s.Reason, Found: true, Stored: s.LSN == ""})
		return nil
	}
	known := len(inv.Faults)
	if err := readNotes(ctx, a, inv, VerifiedDir, take); err != nil {
		return err
	}
	for _, f := range inv.Faults[known:] {
		_ = take(f.Object, json.RawMessage(`{"problem":"it was found damaged"}`)) // the name leads to the segment, and the fault is known
	}
	return a.takeObjects(ctx, inv)
}

// stillSpoiled reports whether a segment is still as it was found: the same object, or one that cannot be delivered.
func (a *Archive) stillSpoiled(ctx context.Context, id Identity, n wal.Name, s spoiledNote) (bool, error) {
	if s.LSN != "" {
		t, err := a.Trailer(ctx, n)
		switch {
		case errors.Is(err, ErrAbsent), errors.Is(err, ErrDamaged), errors.Is(err, ErrNoFormat), errors.Is(err, ErrConflict):
			return false, nil // that is a hole, or for others to find
		case err != nil:
			return false, err
		}
		return hex.EncodeToString(t.StoredHash[:]) == s.Stored, nil
	}
	_, err := a.Fetch(ctx, n, id.SystemID, discard{})
	switch {
	case errors.Is(err, ErrAbsent), errors.Is(err, ErrGap): // that is a hole
		return false, nil
	case errors.Is(err, storage.ErrUnavailable), ctx.Err() != nil:
		return false, err
	}
	return err != nil, nil
}

// discard takes what nobody wants to have.
type discard struct{}

func (discard) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// takeObjects compares the backups' directories with their manifests: whether the objects are there, with their sizes.
func (a *Archive) takeObjects(ctx context.Context, inv *Inventory) error {
	inv.Flaws = make(map[string]error)
	for _, m := range inv.Backups {
		entries, err := storage.ListAll(ctx, a.b, backup.Dir(m.ID))
		if err != nil {
			return err
		}
		if err := lacking(m, entries); err != nil {
			inv.Flaws[m.ID] = err
		} else if err := inv.Records[m.ID].flaw(); err != nil {
			inv.Flaws[m.ID] = err
		} else if len(m.PageErrors) > 0 {
			inv.Flaws[m.ID] = pageErrors{m}
		}
	}
	return nil
}

// lacking says what of a backup a listing of its directory lacks; nil if nothing.
func lacking(m *backup.Manifest, entries []storage.Entry) error {
	listed := make(map[string]storage.Entry, len(entries))
	for _, e := range entries {
		listed[strings.TrimSuffix(e.Name, "/")] = e
	}
	for _, s := range append(slices.Clone(m.Volumes), m.Index) {
		name := backup.Dir(m.ID) + s.Name
		e, there := listed[name]
		switch {
		case !there:
			return fmt.Errorf("%s: %w: it is missing", name, ErrDamaged)
		case e.IsDir():
			return fmt.Errorf("%s: %w: it is a directory", name, ErrDamaged)
		case e.Err != nil:
			return fmt.Errorf("%s: %w", name, e.Err)
		case e.Size != s.Stored:
			return fmt.Errorf("%s: %w: it has %d bytes instead of %d", name, ErrDamaged, e.Size, s.Stored)
		}
	}
	return nil
}

// ErrPageErrors says that a backup holds pages that were damaged on the server. It is an [ErrUnsound], too, until somebody
// accepts them.
var ErrPageErrors = errors.New("holds pages that were damaged on the server")

// pageErrors is the flaw of such a backup.
type pageErrors struct{ m *backup.Manifest }

func (e pageErrors) Error() string {
	return fmt.Sprintf("backup %s %v (%s), and is restored with --accept-page-errors only", e.m.ID, ErrPageErrors, e.m.PageErrors[0])
}

func (e pageErrors) Is(target error) bool { return target == ErrPageErrors || target == ErrUnsound }

// AcceptPageErrors has backups count as sound whose only flaw are pages that were damaged on the server.
func (inv *Inventory) AcceptPageErrors() {
	maps.DeleteFunc(inv.Flaws, func(_ string, flaw error) bool { return errors.Is(flaw, ErrPageErrors) })
}

// Unsound is the error of a backup of which something is known that makes it one that cannot be restored, an [ErrUnsound];
// nil if nothing is.
func (inv *Inventory) Unsound(id string) error {
	flaw := inv.Flaws[id]
	switch {
	case errors.Is(flaw, ErrPageErrors):
		return flaw
	case flaw != nil:
		return fmt.Errorf("backup %s %w: %w", id, ErrUnsound, flaw)
	}
	return nil
}

// Probe opens the objects of a backup, holds their trailers against the manifest, and reads its index; an [ErrUnsound] if
// something is wrong, which the inventory knows from then on.
func (a *Archive) Probe(ctx context.Context, inv *Inventory, m *backup.Manifest) error {
	err := m.CheckStored(ctx, a.b)
	if ctx.Err() != nil || errors.Is(err, storage.ErrUnavailable) {
		return err
	}
	if err != nil {
		if inv.Flaws == nil {
			inv.Flaws = make(map[string]error)
		}
		inv.Flaws[m.ID] = err
	}
	return inv.Unsound(m.ID)
}
