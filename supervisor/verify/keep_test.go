package verify_test

import (
	"errors"
	"slices"
	"testing"

	"walkeep/common/archive"
	"walkeep/common/notes"
	"walkeep/common/recovery"
	"walkeep/common/storage/mem"
	"walkeep/common/wal"
)

func inventory(t *testing.T, b *mem.Backend) *recovery.Inventory {
	t.Helper()
	inv, err := recovery.ReadInventory(t.Context(), archive.New(b))
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

// flip changes one byte of an object, and returns the previous content.
func flip(t *testing.T, b *mem.Backend, name string) []byte {
	t.Helper()
	before := all(t, b)[name]
	content := slices.Clone(before)
	content[len(content)/3] ^= 1
	if err := b.Replace(t.Context(), name, content); err != nil {
		t.Fatal(err)
	}
	return before
}

// A damaged backup counts as damaged for every command until a run that is as deep finds it whole.
func TestFindingsOfBackupsAreKept(t *testing.T) {
	b := newArchive(t)
	const id = "20261122T120000Z"
	unsound := func(want bool, when string) {
		t.Helper()
		inv := inventory(t, b)
		if err := inv.Unsound(id); errors.Is(err, recovery.ErrUnsound) != want {
			t.Errorf("%s: got %v, unsound: want %v", when, err, want)
		}
		if _, err := inv.Reach(inv.Backup(id), 1); want && !errors.Is(err, recovery.ErrUnsound) {
			t.Errorf("%s: Reach: got %v", when, err)
		}
	}
	known := lines(run(t, b, false))
	volume := flip(t, b, backupDir+"data-0001.tar.zst")
	unsound(false, "before anybody has read it")
	run(t, b, true)
	unsound(true, "after verify --deep")
	again := lines(run(t, b, false))
	if want := append([]string{"damaged " + backupDir + "data-0001.tar.zst"}, known...); !slices.Equal(again, want) {
		t.Errorf("verify after verify --deep: got %q, want %q", again, want)
	}
	unsound(true, "after a verify that does not read volumes")
	b.Replace(t.Context(), backupDir+"data-0001.tar.zst", volume)
	unsound(true, "until it is read again")
	run(t, b, true)
	unsound(false, "when it was read again")

	for _, change := range []func(name string){
		func(name string) { remove(t, b, name) },
		func(name string) { b.Replace(t.Context(), name, all(t, b)[name][1:]) },
		func(name string) { b.Replace(t.Context(), name, nil) },
	} {
		for _, name := range []string{"data-0001.tar.zst", "data-0002.tar.zst", "files.json.zst"} {
			whole := all(t, b)[backupDir+name]
			change(backupDir + name)
			unsound(true, name+" is missing or cut, and nobody has verified")
			b.Replace(t.Context(), backupDir+name, whole)
			unsound(false, name+" is back")
		}
	}
}

// A damaged segment limits what can be recovered until it is whole again.
func TestFindingsOfSegmentsAreKept(t *testing.T) {
	b := newArchive(t)
	const object = walDir + "00000001000000000000000A.zst"
	gap := func(want string, when string) {
		t.Helper()
		inv, got := inventory(t, b), ""
		r, err := inv.Reach(inv.Backups[0], 1)
		if r.Gap != nil && r.Gap.Damage != nil {
			got = r.Gap.String()
		}
		if got != want || want != "" && err == nil && r.To != r.Gap.Begin {
			t.Errorf("%s: got %q (%v, to %s), want %q", when, got, err, r.To, want)
		}
	}
	gap("", "whole")
	before := flip(t, b, object)
	gap("", "before anybody has read it")
	run(t, b, true)
	gap("00000001000000000000000A is damaged in the archive", "after verify --deep")
	if got := lines(run(t, b, false)); !slices.Contains(got, "damaged 00000001000000000000000A") {
		t.Errorf("verify after verify --deep: %q", got)
	}
	b.Replace(t.Context(), object, before)
	gap("", "replaced")
	run(t, b, true)
	if _, there := all(t, b)[notes.VerifiedName("00000001000000000000000A")]; there {
		t.Error("the note of a segment that was read and is whole is still there")
	}

	// A record that began in the segment before is broken: each segment alone seems whole.
	repush(t, b, "00000001000000000000000A", 20_000)
	run(t, b, true)
	inv := inventory(t, b)
	i := slices.IndexFunc(inv.Damages, func(d recovery.Damaged) bool { return d.Segment.String() == "00000001000000000000000A" })
	if i < 0 || inv.Damages[i].Stored || inv.Damages[i].LSN == 0 {
		t.Fatalf("got %+v", inv.Damages)
	}
	remove(t, b, object)
	push(t, b, "00000001000000000000000A", load(t, "00000001000000000000000A"))
	if inv := inventory(t, b); slices.ContainsFunc(inv.Damages, func(d recovery.Damaged) bool { return d.Segment.Kind == wal.KindSegment && d.Found }) {
		t.Errorf("replaced: got %+v", inv.Damages)
	}
}
