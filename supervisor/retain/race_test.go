package retain_test

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"testing"

	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/storage"
	"walkeep/common/storage/mem"
	"walkeep/common/wal"
	"walkeep/supervisor/retain"
)

// A restore takes its steps while a cleanup runs: a lease on everything, the inventory, a lease on the backup that it
// has chosen; it then reads the backup and the WAL that the inventory has shown behind it.
type restore struct {
	t     *testing.T
	b     storage.Backend
	r     *rand.Rand
	lease archive.Lease
	step  int
	needs []string // objects
}

func (s *restore) next() {
	switch s.step {
	case 0:
		s.lease = archive.Lease{ID: "00000000000000aa", Kind: "restore"}
		note(s.t, s.b, s.lease)
	case 1:
		inv, err := archive.New(s.b).Inventory(context.Background())
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

func (s *restore) choose(inv *archive.Inventory, m *backup.Manifest) {
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

func note(t *testing.T, b storage.Backend, l archive.Lease) {
	t.Helper()
	content, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.(storage.Replacer).Replace(context.Background(), "leases/"+l.ID+".json", content); err != nil {
		t.Fatal(err)
	}
}

// Whatever a restore has seen after it took its lease is there until it is done, wherever a cleanup stands meanwhile.
func TestRestoreMeanwhile(t *testing.T) {
	base := seed(t)
	chosen, removed := 0, 0
	for i := range min(rounds(300), 20_000) {
		r := rand.New(rand.NewPCG(base, uint64(i)))
		m := random(r)
		m.policy = retain.Policy{Backups: 1}
		m.leases = nil
		for begin := 0; begin < 400; begin += 1 + r.IntN(12) {
			b := new(mem.Backend)
			m.store(t, b)
			s := &restore{t: t, b: b, r: r}
			calls := 0
			h := &hooked{Backend: b}
			h.anytime = func() {
				if calls++; calls > begin && (s.step == 0 || r.IntN(3) == 0) {
					s.next()
				}
			}
			gone, _ := clean(t, h, retain.Options{Policy: m.policy})
			if calls <= begin {
				break // the cleanup was done
			}
			for s.step < 3 {
				s.next()
			}
			removed += len(gone)
			chosen += len(s.needs)
			there := objects(t, b)
			for _, o := range s.needs {
				if !slices.Contains(there, o) {
					t.Fatalf("history %d, restore from call %d on: %s was removed\n%s", i, begin, o, m)
				}
			}
		}
	}
	if chosen == 0 || removed == 0 {
		t.Fatalf("%d objects were wanted and %d removed: the histories show nothing", chosen, removed)
	}
}

// A backup that is taken meanwhile is whole when it is done.
func TestBackupMeanwhile(t *testing.T) {
	base := seed(t)
	for i := range min(rounds(300), 20_000) {
		r := rand.New(rand.NewPCG(base, uint64(i)))
		m := random(r)
		m.policy = retain.Policy{Backups: 1}
		m.leases = nil
		newest := m.newestLine()
		mine := newManifest(77, newest, wal.LSN(3*last*size), wal.LSN(3*last*size+100), noon)
		for begin := 0; begin < 400; begin += 1 + r.IntN(12) {
			b := new(mem.Backend)
			m.store(t, b)
			steps := []func(){
				func() { note(t, b, archive.Lease{ID: "00000000000000bb", Kind: "backup"}) },
				func() { note(t, b, archive.Lease{ID: "00000000000000bb", Kind: "backup", Backup: mine.ID}) },
				func() { put(t, b, backup.Dir(mine.ID)+"data-0001.tar.zst", []byte("content")) },
				func() {
					note(t, b, archive.Lease{ID: "00000000000000bb", Kind: "backup", Backup: mine.ID, Timeline: newest, LSN: mine.Start})
				},
				func() { put(t, b, object(name(newest, 3*last)), []byte("content")) },
				func() { put(t, b, backup.Dir(mine.ID)+"data-0002.tar.zst", []byte("content")) },
				func() { put(t, b, backup.Dir(mine.ID)+"files.json.zst", []byte("content")) },
				func() {
					content, err := mine.Encode()
					if err != nil {
						t.Fatal(err)
					}
					put(t, b, backup.Dir(mine.ID)+backup.ManifestName, content)
				},
				func() {
					if err := b.Remove(context.Background(), "leases/00000000000000bb.json"); err != nil {
						t.Fatal(err)
					}
				},
			}
			calls := 0
			h := &hooked{Backend: b}
			step := func() { steps[0](); steps = steps[1:] }
			h.anytime = func() {
				for calls++; calls > begin && len(steps) > 0 && r.IntN(3) > 0; {
					step()
				}
			}
			clean(t, h, retain.Options{Policy: m.policy})
			if calls <= begin {
				break
			}
			for len(steps) > 0 {
				step()
			}
			checkWhole(t, b)
			there := objects(t, b)
			for _, o := range []string{backup.Dir(mine.ID) + backup.ManifestName, object(name(newest, 3*last))} {
				if !slices.Contains(there, o) {
					t.Fatalf("history %d, backup from call %d on: %s was removed\n%s", i, begin, o, m)
				}
			}
		}
	}
}
