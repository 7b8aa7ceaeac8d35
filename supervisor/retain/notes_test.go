package retain_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/notes"
	"walkeep/common/recovery"
	"walkeep/common/storage/mem"
	"walkeep/common/wal"
	"walkeep/supervisor/retain"
)

// simple returns an archive with one timeline of segments 1 to 20, and backups that begin at 5, 10 and 15.
func simple(t *testing.T) (*mem.Backend, []*backup.Manifest) {
	t.Helper()
	m := &model{lines: map[wal.Timeline]*line{1: {there: make(map[uint64]bool), newest: 20}}}
	for n := uint64(1); n <= 20; n++ {
		m.lines[1].there[n] = true
	}
	for i := range 3 {
		start := uint64(i+1) * 5 * size
		m.backups = append(m.backups, newManifest(i+1, 1, wal.LSN(start+100), wal.LSN(start+200), noon.AddDate(0, 0, 10*(i-3))))
	}
	b := new(mem.Backend)
	m.store(t, b)
	return b, m.backups
}

// Notes and streamed files are removed with their segments. Objects that are not walkeep's always stay.
func TestWhatGoesWithSegments(t *testing.T) {
	b, backups := simple(t)
	dir := "wal/0000000100000000/"
	gone := []string{
		dir + "000000010000000000000003.00000028.backup.zst", dir + "000000010000000000000004.partial.zst",
		dir + "000000010000000000000004.partial.00112233445566778899aabbccddeeff.zst", dir + "000000010000000000000004.gz",
		"damaged/000000010000000000000003.json",
		"partial/" + name(1, 4).String() + ".partial", "partial/" + name(1, 4).String(), "partial/" + name(1, 3).String() + ".partial.differs-1",
	}

	stays := []string{
		dir + "000000010000000000000010.00000028.backup.zst", dir + "000000010000000000000011.partial.zst",
		dir + "000000010000000000000003.bz2", dir + "000000010000000000000003.zst.mine", dir + "README", dir + "000000020000000000000003.zst",
		"wal/000000010000000000000003.zst", "wal/notes.txt", "damaged/000000010000000000000012.json", "damaged/README",
		"partial/" + name(1, 20).String() + ".partial", "partial/" + name(1, 21).String() + ".partial", "partial/" + name(1, 21).String(), "partial/notes",
		"partial/" + name(1, 20).String() + ".partial.differs-1", "notes.txt", backup.Dir(backups[0].ID) + "notes.txt",
		"backups/mine/data-0001.tar.zst",
	}
	for _, o := range append(slices.Clone(gone), stays...) {
		content := "content"
		if strings.HasPrefix(o, "damaged/0") {
			content = `{"lsn":"0/300000","reason":"test"}`
		}
		put(t, b, o, []byte(content))
	}
	clean(t, b, retain.Options{Policy: retain.Policy{Backups: 2}})
	there := objects(t, b)
	for _, o := range gone {
		if slices.Contains(there, o) {
			t.Errorf("%s was not removed", o)
		}
	}
	for _, o := range stays {
		if !slices.Contains(there, o) {
			t.Errorf("%s was removed", o)
		}
	}
}

// If a need cannot be determined, everything that it may concern stays.
func TestBlocked(t *testing.T) {
	for _, test := range []struct {
		name    string
		spoil   func(t *testing.T, b *mem.Backend, backups []*backup.Manifest)
		backups bool // backups that no rule keeps are removed nevertheless
	}{
		{"nothing is wrong", nil, true},
		{"lease", func(t *testing.T, b *mem.Backend, _ []*backup.Manifest) { put(t, b, "leases/one.json", []byte("{")) }, false},
		{"lease of another name", func(t *testing.T, b *mem.Backend, _ []*backup.Manifest) {
			put(t, b, "leases/one.json", []byte(`{"id":"two"}`))
		}, false},
		{"standby", func(t *testing.T, b *mem.Backend, _ []*backup.Manifest) {
			put(t, b, "standbys/one.json", []byte(`{"restartpoint":"yesterday"}`))
		}, true},
		{"manifest", func(t *testing.T, b *mem.Backend, m []*backup.Manifest) {
			b.Replace(t.Context(), backup.Dir(m[1].ID)+backup.ManifestName, []byte("{}"))
		}, true},
		{"history of the newest timeline", func(t *testing.T, b *mem.Backend, _ []*backup.Manifest) {
			put(t, b, "wal/00000007.history", []byte("nonsense\n"))
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			b, backups := simple(t)
			if test.spoil != nil {
				test.spoil(t, b, backups)
			}
			removed, r := clean(t, b, retain.Options{Policy: retain.Policy{Backups: 1}})
			if got, want := r.Blocked, test.spoil != nil; got != want {
				t.Errorf("blocked: got %v, want %v", got, want)
			}
			hasWAL := slices.ContainsFunc(removed, func(o string) bool { return strings.HasPrefix(o, "wal/") })
			hasBackup := slices.ContainsFunc(removed, func(o string) bool { return strings.HasPrefix(o, "backups/") })
			if hasWAL != (test.spoil == nil) || hasBackup != test.backups {
				t.Errorf("removed %q", removed)
			}
		})
	}
}

// A backup of which the note of verify and drill cannot be read stays, and takes no place of a sound one.
func TestUnreadRecord(t *testing.T) {
	for _, content := range []string{"{", "null"} {
		b, backups := simple(t)
		put(t, b, notes.VerifiedName(backups[2].ID), []byte(content))
		clean(t, b, retain.Options{Policy: retain.Policy{Backups: 1}})
		there := objects(t, b)
		for i, stays := range []bool{false, true, true} {
			if got := slices.Contains(there, backup.Dir(backups[i].ID)+backup.ManifestName); got != stays {
				t.Errorf("%s: backup %d is there: got %v, want %v", content, i, got, stays)
			}
		}
	}
}

// Dead leases are removed, and hold nothing.
func TestDeadLeases(t *testing.T) {
	b, backups := simple(t)
	note(t, b, notes.Lease{ID: "dead", Kind: "restore", Backup: backups[0].ID, Timeline: 1, LSN: backups[0].Start})
	note(t, b, notes.Lease{ID: "live", Kind: "restore", Backup: backups[1].ID, Timeline: 1, LSN: backups[1].Start})
	removed, r := clean(t, b, retain.Options{
		Policy: retain.Policy{Backups: 1}, Live: func(l notes.Lease) bool { return l.ID == "live" },
	})
	if len(r.Leases) != 1 || r.Leases[0].ID != "dead" || !slices.Contains(removed, "leases/dead.json") || slices.Contains(removed, "leases/live.json") {
		t.Errorf("leases %v, removed %q", r.Leases, removed)
	}
	var kept []string
	for _, k := range r.Keep {
		kept = append(kept, k.ID)
	}
	if want := []string{backups[1].ID, backups[2].ID}; !slices.Equal(kept, want) {
		t.Errorf("kept %q, want %q", kept, want)
	}
	if l := r.Lines[0]; l.Oldest != name(1, 10).String() || !strings.Contains(l.HeldBy, backups[1].ID) {
		t.Errorf("oldest WAL: got %s for %s, want %s for a backup", l.Oldest, l.HeldBy, name(1, 10))
	}
}

// A lagging standby is named, and can be forgotten.
func TestStandbyHolds(t *testing.T) {
	b, _ := simple(t)
	put(t, b, "standbys/slow.json", []byte(`{"host":"h","data_directory":"/d","restartpoint":"000000010000000000000003"}`))
	o := retain.Options{Policy: retain.Policy{Backups: 1}}
	_, r := clean(t, b, o)
	if len(r.Holders) != 1 || r.Holders[0].ID != "slow" || r.Holders[0].Segments != 12 {
		t.Errorf("holders %+v: want standby slow with 12 segments, 3 to 14", r.Holders)
	}
	if l := r.Lines[0]; l.Kept != 18 || l.Removed.Objects != 2 {
		t.Errorf("kept %d segments and removed %d, want 18 and 2", l.Kept, l.Removed.Objects)
	}
	o.Forget, o.DryRun = "slow", true
	dry, _ := clean(t, b, o)
	o.DryRun = false
	removed, r := clean(t, b, o)
	if len(r.Holders) != 0 || !slices.Equal(dry, removed) || len(removed) != 13 || removed[0] != "standbys/slow.json" {
		t.Errorf("holders %+v, the dry run said %q, removed %q", r.Holders, dry, removed)
	}
	o.Now = noon
	if _, err := retain.Clean(context.Background(), archive.New(b), o); !errors.Is(err, retain.ErrNoStandby) {
		t.Errorf("forgotten twice: got %v, want %v", err, retain.ErrNoStandby)
	}
}

// A wrong clock never removes more.
func TestClocks(t *testing.T) {
	for _, test := range []struct {
		name string
		now  time.Time
		want int // backups that stay
	}{
		{"as it is", noon, 2}, // 10 days old, and the one before
		{"a month ago", noon.AddDate(0, -1, 0), 3},
		{"1970", time.Unix(0, 0), 3},
		{"a year ahead", noon.AddDate(1, 0, 0), 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			b, _ := simple(t)
			inv, err := recovery.ReadInventory(t.Context(), archive.New(b))
			if err != nil {
				t.Fatal(err)
			}
			if got := len(retain.Decide(inv, retain.Policy{Days: 15}, test.now).Keep); got != test.want {
				t.Errorf("kept %d backups, want %d", got, test.want)
			}
		})
	}
}

// A host whose clock is a year ahead removes no backup that it would keep otherwise, and reports why.
func TestCleanWithClockAhead(t *testing.T) {
	for _, test := range []struct {
		name    string
		now     time.Time
		removed int
		said    bool
	}{
		{"as it is", noon, 1, false},
		{"a year ahead", noon.AddDate(1, 0, 0), 0, true}, // the newest backup counts as the present
	} {
		t.Run(test.name, func(t *testing.T) {
			b, _ := simple(t)
			_, r := clean(t, b, retain.Options{Policy: retain.Policy{Days: 15}, Now: test.now})
			if len(r.Backups) != test.removed || (r.Clock != "") != test.said {
				t.Errorf("removed %d backups, want %d; said %q", len(r.Backups), test.removed, r.Clock)
			}
		})
	}
}
