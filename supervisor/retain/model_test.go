package retain_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/notes"
	"walkeep/common/recovery"
	"walkeep/common/storage"
	"walkeep/common/wal"
	"walkeep/supervisor/retain"
)

const (
	size   = uint64(1 << 20)
	system = wal.SystemID(4711)
	last   = 24 // greatest number of a segment
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// A model is a test's own description of an archive, made without the tested code.
type model struct {
	lines    map[wal.Timeline]*line
	backups  []*backup.Manifest
	leases   []notes.Lease
	standbys []notes.Standby
	policy   retain.Policy
}

// A line is a timeline: where each of those that lead to it was left, and which segments exist.
type line struct {
	left   []wal.HistoryEntry
	unread bool // its history is missing
	there  map[uint64]bool
	newest uint64
}

func (l *line) begin() wal.LSN {
	if len(l.left) == 0 {
		return 0
	}
	return l.left[len(l.left)-1].End
}

// random makes a small history: forks of forks, holes, backups, leases, standbys and a policy.
func random(r *rand.Rand) *model {
	m := &model{lines: make(map[wal.Timeline]*line)}
	var tlis []wal.Timeline
	for tli := wal.Timeline(1); tli <= wal.Timeline(1+r.IntN(5)); tli++ {
		l := &line{there: make(map[uint64]bool)}
		if tli > 1 {
			parent := tlis[r.IntN(len(tlis))]
			p := m.lines[parent]
			from := max(uint64(p.begin()), size)
			at := from + r.Uint64N(size*last/2)
			if r.IntN(3) == 0 {
				at = (at + size - 1) / size * size
			}
			l.left = append(slices.Clone(p.left), wal.HistoryEntry{Timeline: parent, End: wal.LSN(min(at, size*last)), Reason: "test"})
			if l.begin() < p.begin() {
				l.left[len(l.left)-1].End = p.begin()
			}
			l.unread = r.IntN(15) == 0
		}
		first := max(1, uint64(l.begin())/size)
		l.newest = first + r.Uint64N(last)
		if r.IntN(4) == 0 {
			first = min(l.newest, first+r.Uint64N(4)) // older segments were removed
		}
		for n := first; n <= l.newest; n++ {
			l.there[n] = r.IntN(25) > 0 || n == l.newest && l.unread // otherwise the archive would show nothing of the timeline
		}
		m.lines[tli] = l
		tlis = append(tlis, tli)
	}
	for range r.IntN(6) {
		m.addBackup(r, tlis[r.IntN(len(tlis))], noon.Add(-time.Duration(r.IntN(20*24))*time.Hour))
	}
	for i := range r.IntN(2) * r.IntN(3) {
		l := notes.Lease{ID: fmt.Sprintf("%016x", i), Kind: "restore"}
		l.Timeline, l.LSN = m.anywhere(r)
		if len(m.backups) > 0 && r.IntN(2) == 0 {
			b := m.backups[r.IntN(len(m.backups))]
			l.Backup, l.Timeline, l.LSN = b.ID, b.Timeline, b.Start
		} else {
			l.Kind = "backup"
		}
		if r.IntN(5) == 0 {
			l.Timeline, l.LSN = 0, 0
		}
		m.leases = append(m.leases, l)
	}
	for i := range r.IntN(2) * r.IntN(3) {
		tli, at := m.anywhere(r)
		n := wal.SegmentAt(tli, at, wal.SegmentSize(size))
		m.standbys = append(m.standbys, notes.Standby{ID: fmt.Sprintf("%016x", i), Host: "h", Data: "/d", Restartpoint: n.String()})
	}
	m.policy = retain.Policy{Backups: r.IntN(4), Days: r.IntN(3) * r.IntN(10)}
	return m
}

// anywhere returns a random position, sometimes one from before its timeline began, where that is known.
func (m *model) anywhere(r *rand.Rand) (wal.Timeline, wal.LSN) {
	tli := wal.Timeline(1 + r.IntN(len(m.lines)))
	at := wal.LSN(size + r.Uint64N(size*last))
	if l := m.lines[tli]; l.unread || r.IntN(4) > 0 {
		at = max(at, l.begin())
	}
	return tli, at
}

func (m *model) addBackup(r *rand.Rand, tli wal.Timeline, ended time.Time) {
	l := m.lines[tli]
	start := max(uint64(l.begin()), size) + r.Uint64N(size*8)
	m.backups = append(m.backups, newManifest(len(m.backups)+1, tli, wal.LSN(start), wal.LSN(start+r.Uint64N(size*3)), ended))
	slices.SortFunc(m.backups, recovery.CompareBackups)
}

func newManifest(n int, tli wal.Timeline, start, stop wal.LSN, ended time.Time) *backup.Manifest {
	return &backup.Manifest{
		Version: 1, ID: backup.NewID(noon, n), Type: "full", Codec: "none", SystemID: system, SegmentSize: wal.SegmentSize(size),
		Timeline: tli, Start: start, Stop: stop, Began: ended, Ended: ended, Tablespaces: []backup.Tablespace{}, Files: 1,
		Index:   backup.Stored{Name: "files.json.zst", Stored: 1},
		Volumes: []backup.Stored{{Name: "data-0001.tar.zst", Stored: 1}, {Name: "data-0002.tar.zst", Stored: 1}},
	}
}

// newestLine returns the newest timeline.
func (m *model) newestLine() wal.Timeline {
	var newest wal.Timeline
	for tli := range m.lines {
		newest = max(newest, tli)
	}
	return newest
}

// inventory returns what the archive's own code would find.
func (m *model) inventory() *recovery.Inventory {
	inv := &recovery.Inventory{Identity: archive.Identity{Version: 1, SystemID: system, SegmentSize: wal.SegmentSize(size)}}
	for tli := wal.Timeline(1); tli <= m.newestLine(); tli++ {
		l := m.lines[tli]
		a := recovery.Line{Timeline: tli, History: wal.History{Timeline: tli, Entries: l.left}}
		if l.unread {
			a.History, a.HistoryErr = wal.History{}, archive.ErrNotStored
			inv.Faults = append(inv.Faults, notes.Fault{Object: "wal/" + tli.String() + ".history", Err: archive.ErrNotStored})
		}
		for n := uint64(0); n <= 3*last; n++ {
			switch count := len(a.Segments); {
			case !l.there[n]:
			case count > 0 && a.Segments[count-1].Last == n-1:
				a.Segments[count-1].Last = n
			default:
				a.Segments = append(a.Segments, recovery.Span{First: n, Last: n})
			}
		}
		if len(a.Segments) > 0 || tli > 1 && !l.unread {
			inv.Lines = append(inv.Lines, a)
		}
	}
	inv.Backups = slices.Clone(m.backups)
	inv.Leases, inv.Standbys = slices.Clone(m.leases), slices.Clone(m.standbys)
	return inv
}

func name(tli wal.Timeline, n uint64) wal.Name {
	return wal.SegmentAt(tli, wal.LSN(n*size), wal.SegmentSize(size))
}

func object(n wal.Name) string {
	return fmt.Sprintf("wal/%s%08X/%s", n.Timeline, n.Log, n)
}

// store writes the archive.
func (m *model) store(t testing.TB, b storage.Backend) {
	t.Helper()
	put(t, b, "archive.json", []byte(`{"version":1,"system_identifier":"4711","segment_size":1048576}`))
	for tli, l := range m.lines {
		for n, there := range l.there {
			if there {
				put(t, b, object(name(tli, n)), []byte("content"))
			}
		}
		if len(l.left) > 0 && !l.unread {
			put(t, b, "wal/"+tli.String()+".history", wal.History{Timeline: tli, Entries: l.left}.Bytes())
		}
	}
	for _, m := range m.backups {
		storeBackup(t, b, m)
	}
	for _, l := range m.leases {
		content, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		put(t, b, "leases/"+l.ID+".json", content)
	}
	for _, s := range m.standbys {
		put(t, b, "standbys/"+s.ID+".json", fmt.Appendf(nil, `{"host":"h","data_directory":"/d","restartpoint":%q}`, s.Restartpoint))
	}
}

func storeBackup(t testing.TB, b storage.Backend, m *backup.Manifest) {
	t.Helper()
	content, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range append(slices.Clone(m.Volumes), m.Index) {
		put(t, b, backup.Dir(m.ID)+s.Name, make([]byte, s.Stored))
	}
	put(t, b, backup.Dir(m.ID)+backup.ManifestName, content)
}

func put(t testing.TB, b storage.Backend, name string, content []byte) {
	t.Helper()
	write := func(w io.Writer) error {
		_, err := io.Copy(w, bytes.NewReader(content))
		return err
	}
	if err := storage.Put(context.Background(), b, name, write, nil); err != nil {
		t.Fatal(err)
	}
}

// objects lists all objects of an archive.
func objects(t testing.TB, b storage.Backend) []string {
	t.Helper()
	var all []string
	var list func(prefix string)
	list = func(prefix string) {
		entries, err := storage.ListAll(context.Background(), b, prefix)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.IsDir() {
				list(e.Name)
			} else {
				all = append(all, e.Name)
			}
		}
	}
	list("")
	return all
}
