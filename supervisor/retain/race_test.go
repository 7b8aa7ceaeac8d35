package retain_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/notes"
	"walkeep/common/recovery"
	"walkeep/common/storage"
	"walkeep/common/storage/flaky"
	"walkeep/common/storage/mem"
	"walkeep/common/wal"
	"walkeep/supervisor/retain"
)

// A restore takes its steps while a cleanup runs: it takes a lease on everything, reads the inventory, takes a lease
// on the chosen backup, and then reads the backup and its WAL as the inventory showed it.
type restore struct {
	t     *testing.T
	b     storage.Backend
	r     *rand.Rand
	lease notes.Lease
	step  int
	needs []string // objects
}

func (s *restore) next() {
	switch s.step {
	case 0:
		s.lease = notes.Lease{ID: "00000000000000aa", Kind: "restore"}
		note(s.t, s.b, s.lease)
	case 1:
		inv, err := recovery.ReadInventory(context.Background(), archive.New(s.b))
		if err != nil {
			s.t.Fatal(err)
		}
		if len(inv.Backups) > 0 {
			s.choose(inv, inv.Backups[s.r.IntN(len(inv.Backups))])
		}
	case 2:
		if s.needs != nil {
			note(s.t, s.b, s.lease)
		}
	}
	s.step++
}

func (s *restore) choose(inv *recovery.Inventory, m *backup.Manifest) {
	s.lease.Backup, s.lease.Timeline, s.lease.LSN = m.ID, m.Timeline, m.Start
	for _, v := range append(slices.Clone(m.Volumes), m.Index) {
		s.needs = append(s.needs, backup.Dir(m.ID)+v.Name)
	}
	for _, l := range inv.Lines {
		reach, err := inv.Reach(m, l.Timeline)
		if err != nil {
			continue
		}
		for at := m.Start / wal.LSN(size) * wal.LSN(size); at < reach.To; at += wal.LSN(size) {
			tli := l.History.TimelineOf(at + wal.LSN(size) - 1) // the one that has begun by the end of the segment
			s.needs = append(s.needs, object(wal.SegmentAt(tli, at, inv.SegmentSize)))
		}
	}
}

func note(t *testing.T, b storage.Backend, l notes.Lease) {
	t.Helper()
	content, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Replace(context.Background(), "leases/"+l.ID+".json", content); err != nil {
		t.Fatal(err)
	}
}

// graces are those of a spool and of a repository.
var graces = []time.Duration{0, 24 * time.Hour}

// interleave runs a cleanup once for each schedule of another command's steps: it takes some of them before one of
// the cleanup's calls to the archive, and the rest before a later call, or after the last. With a grace, an earlier cleanup has
// marked what this one removes.
func interleave(t *testing.T, r *rand.Rand, m *model, grace time.Duration, steps func(b *mem.Backend) []func(), check func(b *mem.Backend, begin int, schedule string)) {
	t.Helper()
	for begin := 1; ; begin++ {
		for first := 1; ; first++ {
			store := new(flaky.Backend)
			b := &store.Backend
			m.store(t, b)
			if grace > 0 {
				store.Manners = flaky.Manners{NoReadBack: true, SilentRemove: true, LateExist: true, Page: 5}
				clean(t, store, retain.Options{Policy: m.policy, Grace: grace, Now: noon.Add(-grace)})
			}
			left := steps(b)
			if first > len(left) {
				break
			}
			calls, second := 0, begin+1+r.IntN(30)
			take := func(n int) {
				for ; n > 0; n-- {
					left[0]()
					left = left[1:]
				}
			}
			h := &hooked{Backend: store}
			h.anytime = func() {
				switch calls++; calls {
				case begin:
					take(first)
				case second:
					take(len(left))
				}
			}
			clean(t, h, retain.Options{Policy: m.policy, Grace: grace})
			if calls < begin {
				return // the cleanup ended before that call
			}
			take(len(left))
			check(b, begin, fmt.Sprintf("%d steps before call %d, the rest before call %d\n%s", first, begin, second, m))
		}
	}
}

// Whatever a restore has seen after it took its lease stays until its end, whenever a cleanup runs.
func TestRestoreMeanwhile(t *testing.T) {
	base := seed(t)
	chosen := 0
	for i := range min(rounds(25), 1000) {
		r := rand.New(rand.NewPCG(base, uint64(i)))
		m := random(r)
		m.policy, m.leases = retain.Policy{Backups: 1}, nil
		var s *restore
		interleave(t, r, m, graces[i%2], func(b *mem.Backend) []func() {
			s = &restore{t: t, b: b, r: r}
			return []func(){s.next, s.next, s.next}
		}, func(b *mem.Backend, _ int, schedule string) {
			chosen += len(s.needs)
			there := objects(t, b)
			for _, o := range s.needs {
				if !slices.Contains(there, o) {
					t.Fatalf("history %d: %s was removed; %s", i, o, schedule)
				}
			}
		})
	}
	if chosen == 0 {
		t.Fatal("no restore has chosen a backup")
	}
}

// A backup that is taken meanwhile is whole at its end.
func TestBackupMeanwhile(t *testing.T) {
	base := seed(t)
	for i := range min(rounds(6), 1000) {
		r := rand.New(rand.NewPCG(base, uint64(i)))
		m := random(r)
		m.policy, m.leases = retain.Policy{Backups: 1}, nil
		newest := m.newestLine()
		mine := newManifest(77, newest, wal.LSN(3*last*size), wal.LSN(3*last*size+100), noon)
		dir, needed := backup.Dir(mine.ID), object(name(newest, 3*last))
		interleave(t, r, m, graces[i%2], func(b *mem.Backend) []func() {
			lease := notes.Lease{ID: "00000000000000bb", Kind: "backup"}
			return []func(){
				func() { note(t, b, lease) },
				func() { lease.Backup = mine.ID; note(t, b, lease) },
				func() { put(t, b, dir+"data-0001.tar.zst", []byte("x")) },
				func() { lease.Timeline, lease.LSN = newest, mine.Start; note(t, b, lease) },
				func() { put(t, b, needed, []byte("content")) },
				func() { put(t, b, dir+"data-0002.tar.zst", []byte("x")) },
				func() { put(t, b, dir+"files.json.zst", []byte("x")) },
				func() {
					content, err := mine.Encode()
					if err != nil {
						t.Fatal(err)
					}
					put(t, b, dir+backup.ManifestName, content)
				},
				func() {
					if err := b.Remove(context.Background(), "leases/"+lease.ID+".json"); err != nil {
						t.Fatal(err)
					}
				},
			}
		}, func(b *mem.Backend, _ int, schedule string) {
			there := objects(t, b)
			for _, o := range []string{dir + backup.ManifestName, dir + "data-0001.tar.zst", dir + "data-0002.tar.zst", dir + "files.json.zst", needed} {
				if !slices.Contains(there, o) {
					t.Fatalf("history %d: %s was removed; %s", i, o, schedule)
				}
			}
		})
	}
}

// WAL that is archived meanwhile stays, on a timeline that is not needed and on one that has just begun.
func TestArchivedMeanwhile(t *testing.T) {
	base := seed(t)
	for i, left := 0, 5; left > 0; i++ {
		r := rand.New(rand.NewPCG(base, uint64(i)))
		m := random(r)
		m.policy, m.leases = retain.Policy{Backups: 1}, nil
		from := wal.Timeline(1 + r.IntN(len(m.lines)))
		if retain.Decide(m.inventory(), m.policy, noon).Needs(name(from, m.lines[from].newest), wal.SegmentSize(size)) {
			continue
		}
		left--
		fork := max(uint64(m.lines[from].newest)*size, uint64(m.lines[from].begin()))
		history := wal.History{Timeline: 9, Entries: append(slices.Clone(m.lines[from].left), wal.HistoryEntry{Timeline: from, End: wal.LSN(fork), Reason: "test"})}
		taken := inventoryCalls(t, m)
		came := []string{object(name(from, 3*last+1)), object(name(9, fork/size)), object(name(9, fork/size+1))}
		interleave(t, r, m, 0, func(b *mem.Backend) []func() {
			return []func(){
				func() { put(t, b, came[0], []byte("content")) },
				func() { put(t, b, "wal/00000009.history", history.Bytes()) },
				func() { put(t, b, came[1], []byte("content")) },
				func() { put(t, b, came[2], []byte("content")) },
			}
		}, func(b *mem.Backend, begin int, schedule string) {
			there := objects(t, b)
			for _, o := range came {
				// An object that the inventory knew may be of a timeline that nobody needs.
				if !slices.Contains(there, o) && begin > taken {
					t.Fatalf("history %d: %s was removed; %s", i, o, schedule)
				}
			}
		})
	}
}

// inventoryCalls returns the number of calls that an inventory makes.
func inventoryCalls(t *testing.T, m *model) int {
	t.Helper()
	b := new(mem.Backend)
	m.store(t, b)
	calls := 0
	h := &hooked{Backend: b, anytime: func() { calls++ }}
	if _, err := recovery.ReadInventory(t.Context(), archive.New(h)); err != nil {
		t.Fatal(err)
	}
	return calls
}
