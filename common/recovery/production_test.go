package recovery_test

import (
	"errors"
	"fmt"
	"testing"

	"walkeep/common/archive"
	"walkeep/common/archive/archivetest"
	"walkeep/common/notes"
	"walkeep/common/recovery"
	"walkeep/common/wal"
)

func TestProductionTimeline(t *testing.T) {
	said := func(tli, newest wal.Timeline) *notes.Server {
		return &notes.Server{Timeline: tli, Newest: newest, LSN: wal.LSN(8 * mb)}
	}
	one := lineOf(1, nil, 1, 9)
	copied := lineOf(2, left(1, 4*mb+40), 4, 5)
	for _, test := range []struct {
		name   string
		server *notes.Server
		lines  []recovery.Line
		want   recovery.Production
	}{
		{"nothing", nil, nil, recovery.Production{}},
		{"never asked", nil, []recovery.Line{one, copied}, recovery.Production{Timeline: 2}},
		{"a copy's was there already", said(1, 2), []recovery.Line{one, copied}, recovery.Production{Timeline: 1, Said: true}},
		{"a newer one came since", said(1, 1), []recovery.Line{one, copied}, recovery.Production{Timeline: 2}},
		{"a failover beside a copy", said(1, 2), []recovery.Line{one, copied, lineOf(3, left(1, 9*mb+40), 9, 9)}, recovery.Production{Timeline: 3}},
		{"a copy of a copy", said(1, 2), []recovery.Line{one, copied, lineOf(3, left(1, 4*mb+40, 2, 5*mb+40), 5, 5)}, recovery.Production{Timeline: 1, Said: true}},
		{"back to before its own begin", said(2, 2), []recovery.Line{one, copied, lineOf(3, left(1, 3*mb+40), 3, 3)}, recovery.Production{Timeline: 3}},
		{"a copy of another branch", said(2, 3), []recovery.Line{one, copied, lineOf(3, left(1, 3*mb+40), 3, 3), lineOf(4, left(1, 3*mb+40, 3, 3*mb+80), 3, 3)},
			recovery.Production{Timeline: 2, Said: true}},
		{"its own is not archived yet", said(2, 1), []recovery.Line{one}, recovery.Production{Timeline: 2, Said: true}},
		{"two more since", said(1, 1), []recovery.Line{one, copied, lineOf(3, left(1, 4*mb+40, 2, 5*mb+40), 5, 5)}, recovery.Production{Timeline: 3}},
	} {
		inv := &recovery.Inventory{Identity: archive.Identity{SegmentSize: wal.SegmentSize(mb)}, Lines: test.lines, Server: test.server}
		if got := inv.Production(); got != test.want {
			t.Errorf("%s: got %+v, want %+v", test.name, got, test.want)
		}
	}
}

func TestBranches(t *testing.T) {
	inv := &recovery.Inventory{Identity: archive.Identity{SegmentSize: wal.SegmentSize(mb)}, Lines: []recovery.Line{
		lineOf(1, nil, 1, 9), lineOf(2, left(1, 4*mb+40), 4, 5), lineOf(3, left(1, 8*mb+40), 8, 8), lineOf(4, left(1, 8*mb+40, 3, 9*mb)),
	}}
	for tli, want := range map[wal.Timeline]string{
		1: "[{2 4MB+40 6MB true} {3 8MB+40 9MB true}]",
		2: "[{1 4MB+40 10MB false} {3 4MB+40 9MB true}]",
		4: "[{1 8MB+40 10MB false} {2 4MB+40 6MB true}]",
	} {
		text := "["
		for i, b := range inv.Branches(tli) {
			if i > 0 {
				text += " "
			}
			text += fmt.Sprintf("{%d %s %s %t}", b.Timeline, size(b.Left), size(b.End), b.Copy)
		}
		if text += "]"; text != want {
			t.Errorf("beside timeline %d: got %s, want %s", tli, text, want)
		}
	}
}

func size(l wal.LSN) string {
	if uint64(l)%mb == 0 {
		return fmt.Sprintf("%dMB", uint64(l)/mb)
	}
	return fmt.Sprintf("%dMB+%d", uint64(l)/mb, uint64(l)%mb)
}

func TestNoteServer(t *testing.T) {
	r := archivetest.New(t, newLocal(t))
	r.MustPush(archivetest.Segment, archivetest.File(t, archivetest.Segment))
	inventory := func() *recovery.Inventory {
		inv, err := recovery.ReadInventory(t.Context(), r.A)
		if err != nil {
			t.Fatal(err)
		}
		return inv
	}
	if inv := inventory(); inv.Server != nil || inv.Production().Said {
		t.Errorf("before: got %+v, %+v", inv.Server, inv.Production())
	}
	id, err := r.A.Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	newest, err := r.A.Newest(t.Context())
	if err != nil || newest != 1 {
		t.Fatalf("newest timeline: got %d, %v", newest, err)
	}
	want := notes.Server{SystemID: id.SystemID, Timeline: 3, LSN: 0x5000028, Newest: newest}
	if err := r.A.Notes().NoteServer(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	got := inventory().Server
	if got == nil || got.Asked.IsZero() {
		t.Fatalf("got %+v", got)
	}
	if want.Asked = got.Asked; *got != want {
		t.Errorf("got %+v, want %+v", *got, want)
	}
	want.SystemID++
	if err := r.A.Notes().NoteServer(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if inv := inventory(); inv.Server != nil || len(inv.Faults) != 1 || !errors.Is(inv.Faults[0].Err, archive.ErrForeign) {
		t.Errorf("of another cluster: got %+v, %v", inv.Server, inv.Faults)
	}
}
