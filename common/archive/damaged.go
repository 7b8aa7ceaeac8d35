package archive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"walkeep/common/codec"
	"walkeep/common/storage"
	"walkeep/common/wal"
)

// A Damaged is a segment that was archived although its records are broken, or one that verify --deep has found damaged.
type Damaged struct {
	Segment wal.Name
	LSN     wal.LSN // where replay ends
	Reason  string
	Found   bool // by verify --deep, not when it was archived
	Left    bool // LSN is where the server left the timeline for another: nothing comes behind it
	Stored  bool // the stored object is damaged, and LSN is where the segment begins
}

// damageNote is a Damaged in its note. The note leads those who look for damage to the segments, because they cannot open
// all of them; what counts is what the segment's own trailer says.
type damageNote struct {
	LSN    string `json:"lsn"`
	Reason string `json:"reason"`
}

// noteDamage leaves a note of a segment that is about to be stored. It stays if that fails, and is of no account then.
func (a *Archive) noteDamage(ctx context.Context, n wal.Name, d *wal.Damage) error {
	content, err := json.Marshal(damageNote{d.LSN.String(), d.Reason})
	if err != nil {
		return err
	}
	name := DamageNote(n)
	if err := storage.PutAll(ctx, a.b, name, append(content, '\n')); err != nil && !errors.Is(err, storage.ErrExist) {
		return fmt.Errorf("store %s: %w", name, err)
	}
	return nil
}

// DamageNote is where a segment's note of damage is.
func DamageNote(n wal.Name) string { return "damaged/" + n.String() + ".json" }

func (a *Archive) takeDamages(ctx context.Context, inv *Inventory) error {
	take := func(name string, note damageNote) error {
		n, err := wal.ParseName(strings.TrimSuffix(path.Base(name), ".json"))
		if err != nil {
			return err
		}
		t, err := a.Trailer(ctx, n)
		if errors.Is(err, ErrAbsent) || err == nil && t.WALCheck != codec.Damaged {
			return nil // it was not stored, or removed, or another one was stored
		}
		if err != nil {
			return err
		}
		d := Damaged{Segment: n, LSN: wal.LSN(t.DamageLSN), Reason: note.Reason}
		d.Left = inv.leftAt(n, d.LSN)
		inv.Damages = append(inv.Damages, d)
		return nil
	}
	known := len(inv.Faults)
	if err := readNotes(ctx, a, inv, "damaged/", take); err != nil {
		return err
	}
	for _, f := range inv.Faults[known:] {
		_ = take(f.Object, damageNote{Reason: "its records are broken"}) // the name leads to the segment, and the fault is known
	}
	return nil
}

// leftAt reports whether a timeline was left for another at a position, in its last segment. A server that did not archive when
// it was promoted archives that segment later, as if it were complete.
func (inv *Inventory) leftAt(n wal.Name, at wal.LSN) bool {
	own := inv.Line(n.Timeline)
	number, err := n.Number(inv.SegmentSize)
	if err != nil || own == nil || len(own.Segments) == 0 || own.Segments[len(own.Segments)-1].Last != number {
		return false
	}
	return slices.ContainsFunc(inv.Lines, func(l Line) bool {
		return slices.ContainsFunc(l.History.Entries, func(e wal.HistoryEntry) bool { return e.Timeline == n.Timeline && e.End == at })
	})
}

// Trailer reads what a stored file says about itself, and nothing else of it. [ErrAbsent]: it is not there, for whatever
// reason. A foreign file has an empty trailer.
func (a *Archive) Trailer(ctx context.Context, n wal.Name) (codec.Trailer, error) {
	found, err := a.find(ctx, n)
	if err != nil {
		return codec.Trailer{}, err
	}
	if len(found) == 0 {
		return codec.Trailer{}, fmt.Errorf("%s is %w", n, ErrAbsent)
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
