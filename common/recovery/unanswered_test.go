package recovery_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"testing"

	"walkeep/common/archive"
	"walkeep/common/archive/archivetest"
	"walkeep/common/backup"
	"walkeep/common/recovery"
	"walkeep/common/storage"
	"walkeep/common/storage/mem"
)

// unanswered is a backend that lists, but cannot read: the key with which it would log in is missing, so that its errors are
// those of files that do not exist.
type unanswered struct {
	storage.Backend
	readable map[string]bool
}

func (u *unanswered) Open(ctx context.Context, name string) (storage.Object, error) {
	if u.readable[name] {
		return u.Backend.Open(ctx, name)
	}
	_, err := os.Open("/nonexistent/.ssh/id_ed25519")
	return nil, fmt.Errorf("log in: %w", err)
}

// An error of the way to the archive never means that an object is not there, even if something else is not there.
func TestUnansweredIsNotAbsent(t *testing.T) {
	b := &unanswered{Backend: new(mem.Backend)}
	r := archivetest.New(t, b)
	const id = "20261122T120000Z"
	layBackup(t, r.B, id, manifestOf(t, id, 4711))
	lay(t, r.B, "archive.json", []byte(`{"version":1,"system_identifier":"4711","segment_size":1048576}`))
	lay(t, r.B, "leases/one.json", []byte(`{}`))
	before := archivetest.Walk(t, b, "backups/")
	ctx := t.Context()
	if err := r.A.SweepBackups(ctx); err == nil {
		t.Error("backups are swept although no lease can be read")
	}
	b.readable = map[string]bool{"leases/one.json": true}
	if err := r.A.SweepBackups(ctx); err == nil {
		t.Error("backups are swept although no manifest can be read")
	}
	if got := archivetest.Walk(t, b, "backups/"); len(got) != len(before) {
		t.Errorf("left %q of %q", got, before)
	}
	_, identity := r.A.Identity(ctx)
	_, inventory := recovery.ReadInventory(ctx, r.A)
	_, _, fetched := r.Fetch("000000010000000000000001", 0)
	_, pushed := r.Push(archivetest.Segment, archivetest.File(t, archivetest.Segment))
	_, manifest := backup.ReadManifest(ctx, b, id)
	_, _, streamed := r.A.Streamed(ctx, archivetest.Parse(t, "000000010000000000000001"))
	for what, err := range map[string]error{
		"Identity": identity, "Inventory": inventory, "Fetch": fetched, "Push": pushed, "ReadManifest": manifest, "Streamed": streamed,
	} {
		if !errors.Is(err, fs.ErrNotExist) || errors.Is(err, storage.ErrNotExist) || errors.Is(err, archive.ErrUnbound) || errors.Is(err, recovery.ErrAbsent) {
			t.Errorf("%s: got %v, want the error of logging in", what, err)
		}
	}
}
