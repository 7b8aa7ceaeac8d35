package recovery_test

import (
	"testing"

	"walkeep/common/wal"
)

func TestFollow(t *testing.T) {
	_, inv := sketch{
		segments:  [][3]int{{1, 3, 20}, {2, 12, 15}, {2, 17, 18}},
		histories: map[int]string{2: from(1, within(12)), 3: from(1, within(12), 2, within(19)), 4: from(1, within(7))},
	}.archive(t)
	for _, test := range []struct {
		tli, along wal.Timeline
		newest     bool
		end        wal.LSN
	}{
		{1, 4, true, within(7)}, // the newest, of which there is but the beginning
		{2, 3, true, within(19)},
		{2, 2, false, begin(19)},
		{1, 1, false, begin(21)},
		{3, 3, true, within(19)},
		{7, 0, true, 0},
	} {
		along, end, ok := inv.Follow(test.tli, test.newest)
		if along != test.along || end != test.end || ok != (test.along != 0) {
			t.Errorf("from timeline %d, newest %t: got %d, %s, %t, want %d, %s", test.tli, test.newest, along, end, ok, test.along, test.end)
		}
	}
}
