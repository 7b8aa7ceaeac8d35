package recovery

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/notes"
	"walkeep/common/sealed"
	"walkeep/common/storage"
	"walkeep/common/wal"
)

// ErrUnsound says that a backup's stored objects are not whole.
var ErrUnsound = errors.New("cannot be restored: what is stored of it is not whole")

// rereads is how many segments that were found damaged an inventory reads again, to see whether they still are. Where there
// are more, the others count as damaged until they are verified again.
const rereads = 4

// takeVerified reads the notes of verify and drill.
func (a reader) takeVerified(ctx context.Context, inv *Inventory) error {
	records, spoiled, faults, err := a.Notes().Verified(ctx)
	if err != nil {
		return err
	}
	inv.Records = records
	inv.Faults = append(inv.Faults, faults...)
	read := 0
	for _, s := range spoiled {
		if err := a.takeSpoiled(ctx, inv, s, &read); err != nil {
			inv.fault(notes.VerifiedName(s.Segment.String()), err)
		}
	}
	return a.takeObjects(ctx, inv)
}

// takeSpoiled adds a segment that was found damaged, if it still is. read counts those that were read again.
func (a reader) takeSpoiled(ctx context.Context, inv *Inventory, s notes.Spoiled, read *int) error {
	if s.LSN == "" {
		*read++
	}
	if s.LSN != "" || *read <= rereads {
		still, err := a.stillSpoiled(ctx, inv.Identity, s)
		if err != nil || !still {
			return err
		}
	}
	at, err := s.Segment.Start(inv.SegmentSize)
	if s.LSN != "" && err == nil {
		at, err = wal.ParseLSN(s.LSN)
	}
	if err != nil {
		return fmt.Errorf("%w: %v", archive.ErrDamaged, err)
	}
	inv.Damages = append(inv.Damages, Damaged{Segment: s.Segment, LSN: at, Reason: s.Reason, Found: true, Stored: s.LSN == ""})
	return nil
}

// stillSpoiled reports whether a segment is still as it was found: the same object, or one that cannot be delivered.
func (a reader) stillSpoiled(ctx context.Context, id archive.Identity, s notes.Spoiled) (bool, error) {
	if s.LSN != "" {
		t, err := a.Trailer(ctx, s.Segment)
		switch {
		case errors.Is(err, archive.ErrNotStored), errors.Is(err, archive.ErrDamaged), errors.Is(err, archive.ErrNoFormat), errors.Is(err, archive.ErrConflict):
			return false, nil // that is a hole, or for others to find
		case err != nil:
			return false, err
		}
		return hex.EncodeToString(t.StoredSHA256[:]) == s.Stored, nil
	}
	_, err := a.Deliver(ctx, s.Segment, id.SystemID, discard{})
	if errors.Is(err, sealed.ErrNoKey) {
		_, err = a.CheckFile(ctx, s.Segment, id)
	}
	switch {
	case errors.Is(err, archive.ErrNotStored): // that is a hole
		return false, nil
	case errors.Is(err, storage.ErrUnavailable), ctx.Err() != nil:
		return false, err
	}
	return err != nil, nil
}

// discard drops what is written to it.
type discard struct{}

func (discard) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// takeObjects compares the backups' directories with their manifests: whether the objects are there, with their sizes.
func (a reader) takeObjects(ctx context.Context, inv *Inventory) error {
	inv.Flaws = make(map[string]error)
	for _, m := range inv.Backups {
		entries, err := a.List(ctx, backup.Dir(m.ID))
		if err != nil {
			return err
		}
		if err := lacking(m, entries); err != nil {
			inv.Flaws[m.ID] = err
		} else if err := inv.Records[m.ID].Flaw(); err != nil {
			inv.Flaws[m.ID] = err
		} else if len(m.PageErrors) > 0 {
			inv.Flaws[m.ID] = pageErrors{m}
		}
	}
	return nil
}

// lacking returns what a listing of a backup's directory lacks of the backup; nil if it lacks nothing.
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
			return fmt.Errorf("%s: %w: it is missing", name, archive.ErrDamaged)
		case e.IsDir():
			return fmt.Errorf("%s: %w: it is a directory", name, archive.ErrDamaged)
		case e.Err != nil:
			return fmt.Errorf("%s: %w", name, e.Err)
		case e.Size != s.Stored:
			return fmt.Errorf("%s: %w: it has %d bytes instead of %d", name, archive.ErrDamaged, e.Size, s.Stored)
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

// Unsound returns an [ErrUnsound] if the inventory knows a reason why a backup cannot be restored; nil otherwise.
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
func (inv *Inventory) Probe(ctx context.Context, m *backup.Manifest) error {
	err := inv.a.CheckBackup(ctx, m)
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
