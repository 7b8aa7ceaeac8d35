package notes_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"walkeep/common/notes"
	"walkeep/common/storage"
	"walkeep/common/storage/flaky"
	"walkeep/common/storage/mem"
	"walkeep/common/wal"
)

// If nobody may remove objects, an owner releases a note in place of removing it. A released note counts as absent, and cleanup
// finds it.
func TestReleased(t *testing.T) {
	ctx := t.Context()
	b := &flaky.AppendOnly{Backend: new(mem.Backend)}
	n := notes.In(b)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	held, err := n.Hold(ctx, notes.Lease{Kind: "restore"})
	must(err)
	must(held.Change(ctx, func(l *notes.Lease) { l.Timeline = 1 }))
	must(n.NoteOffer(ctx, notes.Offer{ID: "one"}))
	must(n.NoteStandby(ctx, notes.Standby{Host: "elsewhere", Data: "/data", Restartpoint: "000000010000000000000003"}))
	spoiled, err := wal.ParseName("000000010000000000000003")
	must(err)
	must(n.NoteSpoiled(ctx, notes.Spoiled{Segment: spoiled, Reason: "test"}))
	_, err = n.NoteLacking(ctx, spoiled, time.Now())
	must(err)

	must(held.Release())
	must(n.WithdrawOffer(ctx, "one"))
	must(n.WithdrawOffer(ctx, "none"))
	must(n.ForgetStandby(ctx, notes.StandbyID("elsewhere", "/data")))
	must(n.ForgetSpoiled(ctx, spoiled))
	for range 2 {
		_, err = n.NoteLacking(ctx, wal.Name{}, time.Now())
		must(err)
	}
	if err := n.ForgetStandby(ctx, notes.StandbyID("elsewhere", "/data")); !errors.Is(err, notes.ErrAbsent) {
		t.Errorf("a standby that is forgotten already: got %v, want %v", err, notes.ErrAbsent)
	}

	leases, faults, err := n.Leases(ctx)
	if len(leases)+len(faults) > 0 || err != nil {
		t.Errorf("leases: got %v, %v, %v", leases, faults, err)
	}
	offers, faults, err := n.Offers(ctx)
	if len(offers)+len(faults) > 0 || err != nil {
		t.Errorf("offers: got %v, %v, %v", offers, faults, err)
	}
	standbys, faults, err := n.Standbys(ctx)
	if len(standbys)+len(faults) > 0 || err != nil {
		t.Errorf("standbys: got %v, %v, %v", standbys, faults, err)
	}
	records, damaged, faults, err := n.Verified(ctx)
	if len(records)+len(damaged)+len(faults) > 0 || err != nil {
		t.Errorf("verified: got %v, %v, %v, %v", records, damaged, faults, err)
	}
	released, err := n.Released(ctx)
	if len(released) != 5 || err != nil {
		t.Errorf("released: got %v, %v, want 5", released, err)
	}

	// The owner can come back.
	must(n.NoteStandby(ctx, notes.Standby{Host: "elsewhere", Data: "/data", Restartpoint: "000000010000000000000004"}))
	if standbys, _, err := n.Standbys(ctx); len(standbys) != 1 || err != nil {
		t.Errorf("a standby that came back: got %v, %v", standbys, err)
	}
	if since, err := n.NoteLacking(ctx, spoiled, time.Unix(1, 0)); err != nil || !since.Equal(time.Unix(1, 0)) {
		t.Errorf("a segment that is lacking again: got %v, %v", since, err)
	}
	held, err = n.Hold(ctx, notes.Lease{ID: held.Lease().ID, Kind: "restore"})
	if !errors.Is(err, storage.ErrExist) {
		t.Errorf("a lease with the ID of a released one: got %v, %v", held, err)
	}
}

// A store that lets nobody remove or replace notes makes the owner fail.
func TestReleaseDenied(t *testing.T) {
	b := new(mem.Backend)
	if err := notes.In(b).NoteOffer(t.Context(), notes.Offer{ID: "one"}); err != nil {
		t.Fatal(err)
	}
	if err := notes.In(readOnly{&flaky.AppendOnly{Backend: b}}).WithdrawOffer(t.Context(), "one"); !errors.Is(err, storage.ErrDenied) {
		t.Errorf("got %v, want %v", err, storage.ErrDenied)
	}
}

type readOnly struct{ storage.Backend }

func (readOnly) Replace(_ context.Context, name string, _ []byte) error {
	return storage.ErrDenied
}
