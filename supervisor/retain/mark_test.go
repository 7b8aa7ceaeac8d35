package retain_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/durable"
	"walkeep/common/notes"
	"walkeep/common/recovery"
	"walkeep/common/storage"
	"walkeep/common/storage/cache"
	"walkeep/common/storage/flaky"
	"walkeep/common/storage/local"
	"walkeep/common/storage/mem"
	"walkeep/common/wal"
	"walkeep/supervisor/retain"
)

const grace = 24 * time.Hour

// marking returns the options of a cleanup of a repository, so long after noon.
func marking(policy retain.Policy, after time.Duration) retain.Options {
	return retain.Options{Policy: policy, Grace: grace, Now: noon.Add(after), By: retain.By{Repository: "offsite", Host: "h", User: "u"}}
}

// data lists what is no mark.
func data(t *testing.T, b storage.Backend) []string {
	t.Helper()
	return slices.DeleteFunc(objects(t, b), func(o string) bool { return strings.HasPrefix(o, notes.RemovalsDir) })
}

// A cleanup marks and removes nothing; one within the grace does nothing more; one after it removes what a cleanup without grace
// would. The dry run says the same.
func TestMarkRandom(t *testing.T) {
	base := seed(t)
	for i := range min(rounds(60), 5000) {
		m := random(rand.New(rand.NewPCG(base, uint64(i))))
		m.policy.Days = 0 // the same at each time
		want := new(mem.Backend)
		m.store(t, want)
		clean(t, want, retain.Options{Policy: m.policy})
		b := new(mem.Backend)
		m.store(t, b)
		before := objects(t, b)
		marked := 0
		for n, after := range []time.Duration{0, time.Hour, grace, grace + time.Hour} {
			o := marking(m.policy, after)
			var would, did []string
			o.Marked = func(object string, _ int64) { would = append(would, object) }
			o.DryRun = true
			all := objects(t, b)
			wouldRemove, dry := clean(t, b, o)
			if got := objects(t, b); !slices.Equal(got, all) {
				t.Fatalf("history %d, run %d: the dry run has changed the archive", i, n)
			}
			o.Marked = func(object string, _ int64) { did = append(did, object) }
			o.DryRun = false
			removed, r := clean(t, b, o)
			if !slices.Equal(would, did) || !slices.Equal(wouldRemove, removed) || len(dry.Marks) != len(r.Marks) {
				t.Fatalf("history %d, run %d: the dry run says marked %q, removed %q; the run says %q, %q\n%s", i, n, would, wouldRemove, did, removed, m)
			}
			marked += len(did)
			switch {
			case n < 2 && (len(removed) > 0 || !slices.Equal(data(t, b), before)):
				t.Fatalf("history %d, run %d: removed %q\n%s", i, n, removed, m)
			case n > 0 && len(did) > 0:
				t.Fatalf("history %d, run %d: marked again: %q\n%s", i, n, did, m)
			case n == 2 && len(removed) != marked:
				t.Fatalf("history %d: marked %d, removed %d\n%s", i, marked, len(removed), m)
			case n == 3 && len(removed)+len(r.Marks) > 0:
				t.Fatalf("history %d: removed %q, left marks %v", i, removed, r.Marks)
			}
		}
		if got, want := objects(t, b), objects(t, want); !slices.Equal(got, want) {
			t.Fatalf("history %d: left %q\nwant %q\n%s", i, got, want, m)
		}
	}
}

// An object that is needed again loses its mark, and gets a new grace when it is no longer needed.
func TestMarkNarrows(t *testing.T) {
	b, backups := simple(t)
	clean(t, b, marking(retain.Policy{Backups: 1}, 0))
	inv, err := recovery.ReadInventory(t.Context(), archive.New(b))
	if err != nil {
		t.Fatal(err)
	}
	want := notes.Removal{
		ID: inv.Removals[0].ID, Repository: "offsite", Host: "h", User: "u", Marked: noon, Until: noon.Add(grace),
		Backups: []string{backups[0].ID, backups[1].ID},
		WAL:     []notes.Range{{First: name(1, 1).String(), Last: name(1, 14).String()}},
	}
	if len(inv.Removals) != 1 || !reflect.DeepEqual(inv.Removals[0], want) {
		t.Fatalf("got %+v, want %+v", inv.Removals, want)
	}
	_, r := clean(t, b, marking(retain.Policy{Backups: 2}, 10*time.Hour))
	if len(r.Marks) != 1 || !slices.Equal(r.Marks[0].Backups, []string{backups[0].ID}) || r.Marks[0].WAL[0].Last != name(1, 9).String() {
		t.Fatalf("got %+v, want only the oldest backup", r.Marks)
	}
	removed, r := clean(t, b, marking(retain.Policy{Backups: 1}, grace))
	if len(r.Backups) != 1 || r.Backups[0].ID != backups[0].ID || slices.Contains(removed, object(name(1, 10))) || !slices.Contains(removed, object(name(1, 9))) {
		t.Fatalf("removed %q", removed)
	}
	if len(r.Marks) != 1 || !slices.Equal(r.Marks[0].Backups, []string{backups[1].ID}) || !r.Marks[0].Marked.Equal(noon.Add(grace)) {
		t.Fatalf("got marks %+v", r.Marks)
	}
}

// A lease that comes after the mark keeps what it needs, and the mark lasts until it is given back.
func TestMarkLeased(t *testing.T) {
	b, backups := simple(t)
	clean(t, b, marking(retain.Policy{Backups: 1}, 0))
	held, err := notes.In(b).Hold(t.Context(), notes.Lease{Kind: "restore", Backup: backups[1].ID, Timeline: 1, LSN: backups[1].Start})
	if err != nil {
		t.Fatal(err)
	}
	_, r := clean(t, b, marking(retain.Policy{Backups: 1}, grace))
	there := objects(t, b)
	for _, o := range []string{backup.Dir(backups[1].ID) + backup.ManifestName, object(name(1, 10))} {
		if !slices.Contains(there, o) {
			t.Errorf("%s was removed, which the lease needs", o)
		}
	}
	if slices.Contains(there, object(name(1, 9))) || len(r.Marks) != 1 {
		t.Errorf("there is %q, marks %+v", there, r.Marks)
	}
	if err := held.Release(); err != nil {
		t.Fatal(err)
	}
	if _, r := clean(t, b, marking(retain.Policy{Backups: 1}, grace+time.Minute)); len(r.Backups) != 1 || len(r.Marks) != 0 {
		t.Errorf("removed %+v, left %+v", r.Backups, r.Marks)
	}
}

// An object whose mark was withdrawn is not removed, and the next cleanup marks it again.
func TestUndelete(t *testing.T) {
	b, _ := simple(t)
	before := objects(t, b)
	clean(t, b, marking(retain.Policy{Backups: 1}, 0))
	for _, dry := range []bool{true, false} {
		done, faults, err := retain.Undelete(t.Context(), archive.New(b), dry)
		if len(done) != 1 || done[0].Begun || len(done[0].Lost)+len(faults) > 0 || err != nil || len(done[0].Backups) != 2 {
			t.Fatalf("dry run %v: got %+v, %v, %v", dry, done, faults, err)
		}
	}
	if got := objects(t, b); !slices.Equal(got, before) {
		t.Fatalf("left %q, want %q", got, before)
	}
	if removed, r := clean(t, b, marking(retain.Policy{Backups: 1}, 2*grace)); len(removed) > 0 || len(r.MarkedBackups) != 2 {
		t.Fatalf("removed %q, marked %+v", removed, r.MarkedBackups)
	}
	// Taken back at any moment of a cleanup, either all of it stays, or it is said to be begun and which backups are lost.
	for call := 1; ; call++ {
		b, _ := simple(t)
		clean(t, b, marking(retain.Policy{Backups: 1}, 0))
		calls := 0
		var done []retain.Undeleted
		h := &hooked{Backend: b, anytime: func() {
			if calls++; calls == call {
				var err error
				if done, _, err = retain.Undelete(t.Context(), archive.New(b), false); err != nil {
					t.Fatal(err)
				}
			}
		}}
		removed, _ := clean(t, h, marking(retain.Policy{Backups: 1}, grace))
		if calls < call {
			break
		}
		if len(done) == 0 {
			continue // all was removed already
		}
		if len(removed) > 0 && !done[0].Begun {
			t.Fatalf("before call %d: removed %q, and nothing was said to be begun", call, removed)
		}
		more := 0 // the cleanup may complete what it is at
		for _, id := range done[0].Backups {
			there := slices.Contains(objects(t, b), backup.Dir(id)+backup.ManifestName)
			if lost := slices.Contains(done[0].Lost, id); there && lost {
				t.Fatalf("before call %d: backup %s is there, and said to be lost", call, id)
			} else if !there && !lost {
				more++
			}
		}
		if more > 1 {
			t.Fatalf("before call %d: %d backups were removed afterwards", call, more)
		}
	}
}

// Who has kept the manifest of a backup that is being removed does not take it for one that can be read.
func TestKeptManifest(t *testing.T) {
	b, backups := simple(t)
	kept := archive.New(cache.New(b, cache.Options{
		Dir: t.TempDir(), Repository: "far", Identity: archive.IdentityName, Limit: 1 << 20,
		Keep: func(name string) bool { return strings.HasSuffix(name, backup.ManifestName) },
	}))
	if _, err := recovery.ReadInventory(t.Context(), kept); err != nil {
		t.Fatal(err)
	}
	l := &locked{Backend: b, objects: []string{backup.Dir(backups[0].ID) + backups[0].Volumes[0].Name}}
	r, err := retain.Clean(t.Context(), archive.New(l), retain.Options{Policy: retain.Policy{Backups: 1}, Now: noon, Live: live})
	if !errors.Is(err, retain.ErrRefused) {
		t.Fatalf("got %v, %+v", err, r)
	}
	if err := kept.CheckBackup(t.Context(), backups[0]); !errors.Is(err, storage.ErrNotExist) || !strings.Contains(err.Error(), backup.ManifestName+" was removed") {
		t.Errorf("got %v", err)
	}
}

// A wrong clock removes nothing.
func TestMarkClocks(t *testing.T) {
	for _, test := range []struct {
		name      string
		marked    retain.By
		now       retain.By
		after     []time.Duration // of the cleanups after the one at noon
		removed   int             // the cleanup that removes, by its number in after
		doubtless bool
	}{
		{name: "another host", after: []time.Duration{grace - time.Second, grace}, removed: 1, doubtless: true},
		{name: "clock set back", after: []time.Duration{-time.Hour, grace - 2*time.Hour, grace - time.Hour}, removed: 2},
		{name: "far ahead", after: []time.Duration{1000 * grace, 1000*grace + time.Hour, 1001 * grace}, removed: 2},
		{name: "far ahead, and set right", after: []time.Duration{1000 * grace, 2 * time.Hour, grace + time.Hour, grace + 2*time.Hour}, removed: 3},
		{
			name: "uptime", marked: retain.By{Host: "h", Machine: "m", Boot: "b", Uptime: time.Hour},
			now: retain.By{Host: "h", Machine: "m", Boot: "b", Uptime: 2 * time.Hour}, after: []time.Duration{2 * grace, 2000 * grace}, removed: -1,
		},
		{
			name: "uptime agrees", marked: retain.By{Host: "h", Machine: "m", Boot: "b", Uptime: time.Hour},
			now: retain.By{Host: "h", Machine: "m", Boot: "b", Uptime: grace + time.Hour}, after: []time.Duration{1000 * grace}, doubtless: true,
		},
		{
			name: "uptime a second short", marked: retain.By{Host: "h", Machine: "m", Boot: "b", Uptime: time.Hour},
			now: retain.By{Host: "h", Machine: "m", Boot: "b", Uptime: grace + time.Hour - time.Second}, after: []time.Duration{grace}, doubtless: true,
		},
		{
			name: "another boot", marked: retain.By{Host: "h", Machine: "m", Boot: "a", Uptime: time.Hour},
			now: retain.By{Host: "h", Machine: "m", Boot: "b", Uptime: 2 * time.Hour}, after: []time.Duration{grace}, doubtless: true,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			b, _ := simple(t)
			o := marking(retain.Policy{Backups: 1}, 0)
			o.By = test.marked
			clean(t, b, o)
			doubted := false
			for i, after := range test.after {
				o = marking(retain.Policy{Backups: 1}, after)
				o.By = test.now
				removed, r := clean(t, b, o)
				if got, want := len(removed) > 0, i == test.removed; got != want {
					t.Errorf("cleanup %d, %s later: removed %q; %s", i, after, removed, r.Clock)
				}
				doubted = doubted || r.Clock != ""
			}
			if doubted == test.doubtless {
				t.Errorf("doubted: got %v", doubted)
			}
		})
	}
}

// locked refuses to remove some objects.
type locked struct {
	storage.Backend
	objects []string
	asked   int
}

func (l *locked) Remove(ctx context.Context, names ...string) error {
	for _, n := range names {
		l.asked++
		if slices.Contains(l.objects, n) || slices.Contains(l.objects, "") {
			return fmt.Errorf("remove %s: object is locked: %w", n, storage.ErrDenied)
		}
	}
	return l.Backend.Remove(ctx, names...)
}

// An object that the store does not remove stays with those that belong to it. The rest is removed, and a later cleanup completes it.
func TestRefused(t *testing.T) {
	for _, days := range graces {
		b, backups := simple(t)
		dir := func(i int) string { return backup.Dir(backups[i].ID) }
		l := &locked{Backend: b}
		if days > 0 {
			clean(t, l, marking(retain.Policy{Backups: 1}, 0))
		}
		refused := func(o ...string) *retain.Report {
			t.Helper()
			l.objects = o
			with := marking(retain.Policy{Backups: 1}, days)
			with.Grace, with.Live = days, live
			r, err := retain.Clean(t.Context(), archive.New(l), with)
			if !errors.Is(err, retain.ErrRefused) || len(r.Refused) != len(o) {
				t.Fatalf("%q: got %v, %+v", o, err, r.Refused)
			}
			checkWhole(t, b)
			return r
		}
		refused(dir(0)+backup.ManifestName, object(name(1, 3)))
		there := objects(t, b)
		for n := uint64(1); n <= 20; n++ { // the first backup stays, and with it what follows its beginning
			if got, want := slices.Contains(there, object(name(1, n))), n >= 3; got != want {
				t.Errorf("segment %d: there %v, want %v", n, got, want)
			}
		}
		if slices.Contains(there, dir(1)+backup.ManifestName) {
			t.Error("the second backup is still there")
		}
		volume := dir(0) + backups[0].Volumes[0].Name
		refused(volume)
		there = objects(t, b)
		if !slices.Contains(there, volume) || slices.Contains(there, dir(0)+backups[0].Index.Name) || slices.Contains(there, object(name(1, 14))) {
			t.Errorf("there is %q", there)
		}
		l.objects = nil
		with := marking(retain.Policy{Backups: 1}, days)
		with.Grace = days
		_, r := clean(t, l, with)
		if slices.Contains(objects(t, b), volume) || len(r.Marks) > 0 {
			t.Errorf("after that there is %q, marks %+v", objects(t, b), r.Marks)
		}
	}
}

// A credential that may not remove makes cleanup fail, after few requests, with all objects left.
func TestRefusedAll(t *testing.T) {
	b, _ := simple(t)
	l := &locked{Backend: &flaky.AppendOnly{Backend: b}, objects: []string{""}}
	clean(t, l, marking(retain.Policy{Backups: 1}, 0)) // marks
	before := data(t, b)
	r, err := retain.Clean(t.Context(), archive.New(l), marking(retain.Policy{Backups: 1}, grace))
	if !errors.Is(err, retain.ErrRefused) || !strings.Contains(err.Error(), "object is locked") || len(r.Marks) != 1 {
		t.Errorf("got %v, marks %+v", err, r.Marks)
	}
	if got := data(t, b); !slices.Equal(got, before) {
		t.Errorf("left %q, want %q", got, before)
	}
	if l.asked > 5 {
		t.Errorf("the store was asked %d times", l.asked)
	}
}

// Released notes are removed. An unreadable mark removes nothing, and does not prevent a cleanup.
func TestMarksAndNotes(t *testing.T) {
	b, _ := simple(t)
	for _, o := range []string{"leases/one.json", "offers/one.json", "standbys/one.json", "lag.json", "verified/one.json"} {
		put(t, b, o, []byte(`{"released":true}`+"\n"))
	}
	put(t, b, "removals/one.json", []byte("{"))
	put(t, b, "removals/begun/two", []byte("begun\n"))
	_, r := clean(t, b, marking(retain.Policy{Backups: 1}, 0))
	if r.Notes.Objects != 5 || len(r.Faults) != 1 || r.Faults[0].Object != "removals/one.json" {
		t.Errorf("removed %d notes, faults %v", r.Notes.Objects, r.Faults)
	}
	for _, o := range objects(t, b) {
		if strings.HasSuffix(o, "one.json") && o != "removals/one.json" || o == "lag.json" || strings.HasPrefix(o, "removals/begun/") {
			t.Errorf("%s is still there", o)
		}
	}
}

// Pieces of the open segment are removed after their segment is stored, the last one first; those of a segment that is not stay.
func TestPieces(t *testing.T) {
	b, _ := simple(t)
	old, open := "partial/"+name(1, 20).String()+"/", "partial/"+name(1, 21).String()+"/"
	for _, dir := range []string{old, open} {
		for _, piece := range []string{"00000000-00001000.zst", "00001000-00002000.zst"} {
			put(t, b, dir+piece, []byte("x"))
		}
	}
	if _, r := clean(t, b, marking(retain.Policy{}, 0)); r.MarkedStreamed.Objects != 2 {
		t.Errorf("marked %+v", r.MarkedStreamed)
	}
	removed, r := clean(t, b, marking(retain.Policy{}, grace))
	removed = slices.DeleteFunc(removed, func(o string) bool { return strings.HasPrefix(o, "wal/") })
	if want := []string{old + "00001000-00002000.zst", old + "00000000-00001000.zst"}; !slices.Equal(removed, want) || len(r.Marks) > 0 {
		t.Errorf("removed %q, marks %+v", removed, r.Marks)
	}
}

// A timeline of a repository is marked first, and removed by a later cleanup, unless it is needed by then.
func TestDropMarked(t *testing.T) {
	for _, needed := range []bool{false, true} {
		a, b := copied(t)
		before := objects(t, b)
		o := marking(retain.Policy{}, 0)
		for range 2 {
			d, err := retain.Drop(t.Context(), a, 2, o)
			if err != nil || d.Until == nil || !d.Until.Equal(noon.Add(grace)) || d.Removed.Objects > 0 {
				t.Fatalf("got %+v, %v", d, err)
			}
		}
		if removed, _ := clean(t, b, marking(retain.Policy{}, time.Hour)); len(removed) > 0 || !slices.Equal(data(t, b), before) {
			t.Fatalf("within the grace: removed %q", removed)
		}
		if needed {
			say(t, a, 2)
		}
		o = marking(retain.Policy{}, grace)
		o.DryRun = true
		would, _ := clean(t, b, o)
		removed, r := clean(t, b, marking(retain.Policy{}, grace))
		if !slices.Equal(would, removed) {
			t.Errorf("the dry run says %q, the run removed %q", would, removed)
		}
		left := slices.ContainsFunc(objects(t, b), func(o string) bool { return strings.HasPrefix(o, "wal/00000002") })
		marked := slices.ContainsFunc(r.Marks, func(m notes.Removal) bool { return len(m.Timelines) > 0 })
		if left != needed || (len(r.Dropped) == 0) != needed || (len(r.KeptTimelines) > 0) != needed || marked != needed {
			t.Errorf("needed %v: there is %q, dropped %+v, kept %q, marks %+v", needed, objects(t, b), r.Dropped, r.KeptTimelines, r.Marks)
		}
	}
}

// Objects that standbys and leases in other places need stay, too.
func TestOthersHold(t *testing.T) {
	b, _ := simple(t)
	spool := new(mem.Backend)
	put(t, spool, "standbys/one.json", fmt.Appendf(nil, `{"host":"h","data_directory":"/d","restartpoint":%q}`, name(1, 12)))
	note(t, spool, notes.Lease{ID: "00000000000000aa", Kind: "backup", Timeline: 1, LSN: wal.LSN(14 * size)})
	o := retain.Options{Policy: retain.Policy{Backups: 1}, Others: []notes.Notes{notes.In(spool)}}
	clean(t, b, o)
	there := objects(t, b)
	if slices.Contains(there, object(name(1, 11))) || !slices.Contains(there, object(name(1, 12))) {
		t.Errorf("there is %q", there)
	}
	put(t, spool, "leases/two.json", []byte("{"))
	r, err := retain.Clean(t.Context(), archive.New(b), o)
	if err != nil || !r.Blocked {
		t.Errorf("a lease elsewhere cannot be read: got %v, blocked %v", err, r.Blocked)
	}
}

// Of a spool from which everything is shipped, only what killed commands have left is removed.
func TestShipped(t *testing.T) {
	b, _ := simple(t)
	before := objects(t, b)
	put(t, b, "backups/20200101T000000Z/data-0001.tar.zst", []byte("x"))
	put(t, b, "leases/one.json", []byte(`{"released":true}`+"\n"))
	removed, r := clean(t, b, retain.Options{Policy: retain.Policy{Backups: 1}, Shipped: true})
	if got := objects(t, b); !slices.Equal(got, before) || len(removed) != 2 || r.Blocked {
		t.Errorf("removed %q, blocked %v", removed, r.Blocked)
	}
}

// Files of killed writers go, also from directories in which nothing else is removed. Those of a writer that lives stay.
func TestKilledWriters(t *testing.T) {
	mem, _ := simple(t)
	dir := t.TempDir()
	b, err := local.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range objects(t, mem) {
		content, err := storage.ReadAll(t.Context(), mem, name, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		put(t, b, name, content)
	}
	w, err := b.Create(t.Context(), object(name(1, 21)), storage.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Discard()
	killed := filepath.Join(dir, "wal/0000000100000000", ".walkeep-killed.tmp")
	if !durable.IsTemp(filepath.Base(killed)) {
		t.Fatal("it is not named as a temporary file")
	}
	if err := os.WriteFile(killed, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	clean(t, b, retain.Options{})
	if _, err := os.Stat(killed); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file of a killed writer: got %v", err)
	}
	if err := w.Commit(t.Context()); err != nil {
		t.Errorf("the writer that lives: %v", err)
	}
}
