package verify

import (
	"context"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"walkeep/common/notes"
	"walkeep/common/recovery"
	"walkeep/common/wal"
)

// known reports the findings of earlier deep runs that are still valid.
func (v *verifier) known() {
	const deep = "; verify --deep has found it"
	for _, d := range v.inv.Damages {
		switch {
		case d.Stored:
			v.problem(Problem{Severity: Damage, Object: d.Segment.String(), Text: d.Reason + deep})
		case d.Found:
			v.problem(broken(d.Segment.String(), d.Reason+deep))
		}
	}
	for _, m := range v.inv.Backups {
		if found := v.inv.Records[m.ID].Deep; found != nil {
			for _, p := range found.Problems {
				if slices.ContainsFunc(v.result.Problems, func(known Problem) bool { return known.Object == p.Object }) {
					continue
				}
				v.problem(Problem{Severity: Damage, Object: p.Object, Text: p.Text + deep, backup: m.ID, known: true})
			}
		}
	}
}

// keep records the findings in the archive.
func (v *verifier) keep(ctx context.Context) error {
	var failed error
	note := func(err error) {
		if failed == nil && err != nil {
			failed = fmt.Errorf("record the findings: %w", err)
		}
	}
	now := time.Now().UTC().Truncate(time.Second)
	for _, m := range v.inv.Backups {
		seen, read := notes.Verified{At: now, Problems: []notes.Problem{}}, notes.Verified{At: now, Problems: []notes.Problem{}}
		for _, p := range v.result.Problems {
			switch found := (notes.Problem{Object: p.Object, Text: p.Text}); {
			case p.backup != m.ID || p.known:
			case p.open:
				seen.Problems = append(seen.Problems, found)
			default:
				read.Problems = append(read.Problems, found)
			}
		}
		if _, err := v.a.Manifest(ctx, m.ID); err != nil {
			continue // it was removed meanwhile
		}
		if v.Deep {
			note(v.a.Notes().NoteVerified(ctx, m.ID, true, read))
		}
		if !v.Deep || len(seen.Problems) > 0 { // a later run that is not deep can clear these
			note(v.a.Notes().NoteVerified(ctx, m.ID, false, seen))
		}
	}
	if !v.Deep {
		return failed
	}
	spoiled := make(map[string]bool)
	for _, p := range v.result.Problems {
		if p.segment != (wal.Name{}) {
			spoiled[notes.VerifiedName(p.segment.String())] = true
			note(v.noteSpoiled(ctx, p))
		}
	}
	kept, err := v.a.List(ctx, notes.VerifiedDir)
	if err != nil {
		return err
	}
	for _, e := range kept {
		n, err := wal.ParseName(strings.TrimSuffix(path.Base(e.Name), ".json"))
		broken := slices.ContainsFunc(v.inv.Damages, func(d recovery.Damaged) bool { return d.Segment == n && d.Found && !d.Stored })
		if err == nil && !spoiled[e.Name] && !(v.locked[n] && broken) { // it is whole again, or gone; or its records were not read
			note(v.a.Notes().ForgetSpoiled(ctx, n))
		}
	}
	return failed
}

// noteSpoiled records that a segment is damaged: its object, or, where there is a position, its records from there on.
func (v *verifier) noteSpoiled(ctx context.Context, p Problem) error {
	s := notes.Spoiled{Segment: p.segment, Reason: p.Text}
	if p.lsn != 0 {
		t, err := v.a.Trailer(ctx, p.segment)
		if err != nil {
			return err
		}
		s.LSN, s.Stored = p.lsn.String(), hex.EncodeToString(t.StoredSHA256[:])
	}
	return v.a.Notes().NoteSpoiled(ctx, s)
}
