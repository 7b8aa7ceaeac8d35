package recovery_test

import (
	"errors"
	"testing"

	"walkeep/common/archive"
	"walkeep/common/archive/archivetest"
	"walkeep/common/notes"
	"walkeep/common/recovery"
	"walkeep/common/wal"
)

// TestOnWay is about up to which segment a server gets a timeline's WAL. Segments have 1 MB.
func TestOnWay(t *testing.T) {
	history := func(tli wal.Timeline, pairs ...uint64) []byte {
		return wal.History{Timeline: tli, Entries: left(pairs...)}.Bytes()
	}
	latest := recovery.Follower{}
	for _, test := range []struct {
		name      string
		histories map[wal.Timeline][]byte
		streamed  []string // objects in partial/
		server    *notes.Server
		follower  recovery.Follower
		tli       wal.Timeline
		last      uint64 // the number of the last segment that it gets; 0: it gets all
		err       error  // of the one after that; nil: ErrLeft
	}{
		{name: "one timeline", follower: latest, tli: 1},
		{name: "left inside of a segment", histories: map[wal.Timeline][]byte{2: history(2, 1, 6*mb+40)}, tli: 1, last: 5},
		{name: "left at a border", histories: map[wal.Timeline][]byte{2: history(2, 1, 6*mb)}, tli: 1, last: 5},
		{name: "the newest itself", histories: map[wal.Timeline][]byte{2: history(2, 1, 6*mb)}, tli: 2},
		{name: "by its number", histories: map[wal.Timeline][]byte{2: history(2, 1, 6*mb)}, follower: recovery.Follower{Along: 1}, tli: 1},
		{name: "to a number", histories: map[wal.Timeline][]byte{2: history(2, 1, 6*mb), 3: history(3, 1, 8*mb)}, follower: recovery.Follower{Along: 2}, tli: 1, last: 5},
		{name: "to a number, another branch", histories: map[wal.Timeline][]byte{2: history(2, 1, 6*mb), 3: history(3, 1, 8*mb)}, follower: recovery.Follower{Along: 3}, tli: 2},
		{name: "two in one segment", histories: map[wal.Timeline][]byte{2: history(2, 1, 6*mb+40), 3: history(3, 1, 6*mb+40, 2, 6*mb+80)}, tli: 2, last: 5},
		{name: "two branches", histories: map[wal.Timeline][]byte{2: history(2, 1, 6*mb+40), 3: history(3, 1, 8*mb+80)}, tli: 1, last: 7},
		{name: "two branches, the later one shorter", histories: map[wal.Timeline][]byte{2: history(2, 1, 8*mb+40), 3: history(3, 1, 4*mb+80)}, tli: 1, last: 3},
		{name: "a number was left out", histories: map[wal.Timeline][]byte{3: history(3, 1, 6*mb+40)}, tli: 1, last: 5},
		{name: "it never came to where it was to begin", histories: map[wal.Timeline][]byte{2: history(2, 1, 6*mb+40), 3: history(3, 1, 6*mb+40, 2, 5*mb+40)}, tli: 1, last: 4},
		{name: "the server has passed the fork", histories: map[wal.Timeline][]byte{2: history(2, 1, 6*mb+40)},
			follower: recovery.Follower{At: wal.LSN(6*mb + 41), On: 1}, tli: 1},
		{name: "it has passed one of two", histories: map[wal.Timeline][]byte{2: history(2, 1, 8*mb+40), 3: history(3, 1, 4*mb+80)},
			follower: recovery.Follower{At: wal.LSN(6 * mb), On: 1}, tli: 1, last: 7},
		{name: "production stays", histories: map[wal.Timeline][]byte{2: history(2, 1, 6*mb+40)}, server: &notes.Server{Timeline: 1, Newest: 2}, tli: 1},
		{name: "production has left it for an older number", histories: map[wal.Timeline][]byte{2: history(2, 1, 6*mb+40), 3: history(3, 1, 4*mb)},
			server: &notes.Server{Timeline: 2, Newest: 3}, tli: 1, last: 5},
		{name: "streamed history", streamed: []string{"00000002.history"}, tli: 1, last: 5},
		{name: "streamed part without a history", streamed: []string{"000000020000000000000006.partial"}, tli: 1, last: 5, err: archive.ErrNotStored},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := archivetest.New(t, newLocal(t))
			r.Bind(7, wal.SegmentSize(mb))
			for tli, text := range test.histories {
				r.MustPush(tli.String()+".history", text)
			}
			for _, name := range test.streamed {
				r.Put("partial/"+name, history(2, 1, 6*mb+40))
			}
			if test.server != nil {
				test.server.SystemID = 7
				if err := r.A.Notes().NoteServer(t.Context(), *test.server); err != nil {
					t.Fatal(err)
				}
			}
			want := test.err
			if want == nil {
				want = recovery.ErrLeft
			}
			for number := uint64(1); number < 12; number++ {
				n := wal.SegmentAt(test.tli, wal.LSN(number*mb), wal.SegmentSize(mb))
				err := recovery.OnWay(t.Context(), r.A, n, test.follower)
				if gets := test.last == 0 || number <= test.last; gets && err != nil || !gets && !errors.Is(err, want) {
					t.Errorf("segment %d: %v", number, err)
				}
			}
		})
	}
}
