package notes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"walkeep/common/storage"
	"walkeep/common/wal"
)

// A Damage is the note of a segment that was archived although its records are broken. It leads those who look for damage to
// the segments, because they cannot open all of them; what counts is what the segment's own trailer says.
type Damage struct {
	Segment wal.Name `json:"-"`
	LSN     string   `json:"lsn"`
	Reason  string   `json:"reason"`
}

// DamagedDir is the directory of the notes of damage.
const DamagedDir = "damaged/"

// DamageName is the name of a segment's note of damage.
func DamageName(segment wal.Name) string { return DamagedDir + segment.String() + ".json" }

// NoteDamage leaves a note of a segment that is about to be stored. The note stays if storing fails, and is of no account then.
func (n Notes) NoteDamage(ctx context.Context, segment wal.Name, d *wal.Damage) error {
	content, err := json.Marshal(Damage{LSN: d.LSN.String(), Reason: d.Reason})
	if err != nil {
		return err
	}
	name := DamageName(segment)
	if err := storage.PutAll(ctx, n.b, name, append(content, '\n')); err != nil && !errors.Is(err, storage.ErrExist) {
		return fmt.Errorf("store %s: %w", name, err)
	}
	return nil
}

// Damages reads the notes of all segments that were archived with broken records. The name of a note that cannot be read or
// understood leads to the segment all the same.
func (n Notes) Damages(ctx context.Context) ([]Damage, []Fault, error) {
	named := func(name string, d *Damage) (err error) {
		d.Segment, err = wal.ParseName(id(name))
		return err
	}
	all, faults, err := collect(ctx, n, DamagedDir, named)
	for _, f := range faults {
		if d := (Damage{Reason: "its records are broken"}); named(f.Object, &d) == nil {
			all = append(all, d)
		}
	}
	return all, faults, err
}
