package retain_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"walkeep/common/backup"
	"walkeep/common/cmdtest"
	"walkeep/common/wal"
	"walkeep/supervisor/retain"
)

// asks returns the timeline under whose name recovery to tli asks for a segment: the newest one that has begun in it
// or before.
func (m *model) asks(tli wal.Timeline, n uint64) wal.Timeline {
	l := m.lines[tli]
	if n >= uint64(l.begin())/size {
		return tli
	}
	for i := len(l.left) - 1; i > 0; i-- {
		if n >= uint64(l.left[i-1].End)/size {
			return l.left[i].Timeline
		}
	}
	return l.left[0].Timeline
}

// leads reports whether a server at a position of one timeline may continue on another.
func (m *model) leads(from wal.Timeline, at wal.LSN, to wal.Timeline) bool {
	if from == to {
		return true
	}
	for _, e := range m.lines[to].left {
		if e.Timeline == from {
			return at <= e.End
		}
	}
	return false
}

// replays returns the number after the last segment that recovery of a backup to tli finds, one by one.
func (m *model) replays(b *backup.Manifest, tli wal.Timeline) uint64 {
	n := uint64(b.Start) / size
	for m.lines[m.asks(tli, n)].there[n] {
		n++
	}
	return n
}

// restorable reports whether a backup can be restored along the path to tli.
func (m *model) restorable(b *backup.Manifest, tli wal.Timeline) bool {
	l := m.lines[tli]
	if l.unread || !m.leads(b.Timeline, b.Stop, tli) {
		return false
	}
	if b.Start < m.lines[b.Timeline].begin() {
		return false
	}
	return m.replays(b, tli)*size >= uint64(b.Stop)
}

// doubtful reports whether the history of the backup's timeline cannot be read.
func (m *model) doubtful(b *backup.Manifest) bool { return m.lines[b.Timeline].unread }

type segment struct {
	tli    wal.Timeline
	number uint64
}

type want struct {
	kept   map[string]bool
	allWAL bool
	needed map[segment]bool
}

// oracle determines by trying what must be kept.
func (m *model) oracle() want {
	newest := m.newestLine()
	var sound, way []*backup.Manifest
	for _, b := range m.backups {
		any := false
		for tli := range m.lines {
			any = any || m.restorable(b, tli)
		}
		if any {
			sound = append(sound, b)
		}
		if m.restorable(b, newest) {
			way = append(way, b)
		}
	}
	w := want{kept: make(map[string]bool), needed: make(map[segment]bool)}
	blocked := m.lines[newest].unread
	for _, b := range m.backups {
		for _, l := range m.leases {
			w.kept[b.ID] = w.kept[b.ID] || l.Backup == b.ID || l.Backup == "" && l.Kind != "backup"
		}
		w.kept[b.ID] = w.kept[b.ID] || blocked || m.policy.Backups == 0 && m.policy.Days == 0
	}
	rules := make(map[string]bool)
	since := noon.Add(-time.Duration(m.policy.Days) * 24 * time.Hour)
	for of, list := range map[string][]*backup.Manifest{"way": way, "all": sound} {
		for i, b := range list {
			newer := len(list) - 1 - i
			if newer < m.policy.Backups || m.policy.Days > 0 && b.Ended.After(since) {
				rules[b.ID] = true
			}
			if of == "way" && m.policy.Days > 0 && !b.Ended.After(since) &&
				!slices.ContainsFunc(list[i+1:], func(b *backup.Manifest) bool { return !b.Ended.After(since) }) {
				rules[b.ID] = true
			}
		}
	}
	// One stays, on the path to the newest timeline if there is one.
	one := sound
	if len(way) > 0 {
		one = way
	}
	if len(one) > 0 && !slices.ContainsFunc(one, func(b *backup.Manifest) bool { return rules[b.ID] }) &&
		m.policy != (retain.Policy{}) {
		rules[one[len(one)-1].ID] = true
	}
	for id := range rules {
		w.kept[id] = true
	}
	for i, b := range m.backups {
		if slices.Contains(sound, b) || w.kept[b.ID] {
			continue
		}
		newer := slices.ContainsFunc(m.backups[i+1:], func(n *backup.Manifest) bool { return slices.Contains(sound, n) && w.kept[n.ID] })
		w.kept[b.ID] = !newer || m.doubtful(b)
	}
	w.allWAL = blocked || len(sound) == 0
	for _, l := range m.leases {
		w.allWAL = w.allWAL || l.Timeline == 0
	}
	m.need(&w, way)
	return w
}

// need marks the segments that a kept backup or another user would ask for on any path.
func (m *model) need(w *want, way []*backup.Manifest) {
	from := func(tli wal.Timeline, at wal.LSN) {
		for to := range m.lines {
			if m.lines[to].unread && to != tli || !m.leads(tli, at, to) {
				continue
			}
			for n := uint64(at) / size; n <= 3*last; n++ {
				as := m.asks(to, n)
				if m.lines[to].unread {
					as = tli
				}
				w.needed[segment{as, n}] = true
			}
		}
	}
	for _, b := range m.backups {
		if w.kept[b.ID] {
			from(b.Timeline, b.Start)
		}
	}
	for _, l := range m.leases {
		if l.Timeline > 0 {
			from(l.Timeline, l.LSN)
		}
	}
	for _, s := range m.standbys {
		n, _ := wal.ParseName(s.Restartpoint)
		start, _ := n.Start(wal.SegmentSize(size))
		from(n.Timeline, start)
	}
	newest := m.newestLine()
	for tli, l := range m.lines {
		onWay := tli == newest || slices.ContainsFunc(m.lines[newest].left, func(e wal.HistoryEntry) bool { return e.Timeline == tli })
		if w.allWAL || l.unread || len(way) == 0 && onWay {
			for n := range l.there {
				w.needed[segment{tli, n}] = true
			}
		}
	}
}

// rounds returns how many random histories a test uses; WALKEEP_HISTORIES changes it.
func rounds(standard int) int {
	if n, err := strconv.Atoi(os.Getenv("WALKEEP_HISTORIES")); err == nil {
		return n
	}
	return standard
}

func seed(t *testing.T) uint64 {
	s := uint64(time.Now().UnixNano())
	if n, err := strconv.ParseUint(os.Getenv("WALKEEP_SEED"), 10, 64); err == nil {
		s = n
	}
	t.Logf("WALKEEP_SEED=%d", s)
	return s
}

// Decide keeps exactly what the oracle keeps.
func TestDecideRandom(t *testing.T) {
	cmdtest.Long(t)
	base := seed(t)
	kept, gone := 0, 0
	for i := range rounds(30_000) {
		m := random(rand.New(rand.NewPCG(base, uint64(i))))
		w := m.oracle()
		d := retain.Decide(m.inventory(), m.policy, noon)
		for _, b := range d.Keep {
			if !w.kept[b.ID] {
				t.Fatalf("history %d: backup %s is kept: %s\n%s", i, b.ID, b.Why, m)
			}
			kept++
		}
		for _, b := range d.Remove {
			if w.kept[b.ID] {
				t.Fatalf("history %d: backup %s is removed: %s\n%s", i, b.ID, b.Why, m)
			}
			gone++
		}
		for tli, l := range m.lines {
			for n, there := range l.there {
				if !there {
					continue
				}
				seg := name(tli, n)
				got, want := d.Needs(seg, wal.SegmentSize(size)), w.needed[segment{tli, n}]
				if got != want {
					t.Fatalf("history %d: %s is needed: got %v, want %v\n%s", i, seg, got, want, m)
				}
			}
		}
		m.checkWindows(t, i, d)
	}
	if kept == 0 || gone == 0 {
		t.Fatalf("%d backups were kept and %d removed: the histories show nothing", kept, gone)
	}
}

// checkWindows checks that every kept backup reaches as far as before, and that one stays.
func (m *model) checkWindows(t *testing.T, i int, d *retain.Decision) {
	t.Helper()
	after := m.without(d)
	sound := false
	for _, b := range m.backups {
		for tli := range m.lines {
			sound = sound || m.restorable(b, tli)
		}
	}
	left := false
	for _, b := range after.backups {
		for tli := range m.lines {
			before, now := m.restorable(b, tli), after.restorable(b, tli)
			if before != now || before && m.replays(b, tli) != after.replays(b, tli) {
				t.Fatalf("history %d: backup %s to timeline %d: could be restored before: %v, after: %v\n%s", i, b.ID, tli, before, now, m)
			}
			left = left || now
		}
	}
	if sound && !left {
		t.Fatalf("history %d: no backup that can be restored is left\n%s", i, m)
	}
}

// without returns the model after a cleanup.
func (m *model) without(d *retain.Decision) *model {
	after := &model{lines: make(map[wal.Timeline]*line), leases: m.leases, standbys: m.standbys, policy: m.policy}
	for tli, l := range m.lines {
		c := *l
		c.there = make(map[uint64]bool)
		for n, there := range l.there {
			c.there[n] = there && d.Needs(name(tli, n), wal.SegmentSize(size))
		}
		after.lines[tli] = &c
	}
	for _, b := range d.Keep {
		after.backups = append(after.backups, b.Manifest)
	}
	return after
}

func (m *model) String() string {
	s := fmt.Sprintf("policy %+v\n", m.policy)
	for _, l := range m.inventory().Lines {
		s += fmt.Sprintf("timeline %d from %v: %v %v\n", l.Timeline, m.lines[l.Timeline].left, l.Segments, l.HistoryErr)
	}
	for _, b := range m.backups {
		s += fmt.Sprintf("backup %s on %d from %s (%d) to %s (%d), %s\n", b.ID, b.Timeline, b.Start, uint64(b.Start)/size, b.Stop,
			uint64(b.Stop-1)/size, b.Ended)
	}
	return s + fmt.Sprintf("leases %+v\nstandbys %+v\n", m.leases, m.standbys)
}
