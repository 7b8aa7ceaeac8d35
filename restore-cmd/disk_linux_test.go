package main_test

import (
	"os"
	"testing"

	"walkeep/common/cmdtest"
)

// TestDiskFull delivers to a disk without room: the target stays absent, and nothing is left that takes room.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	name := files.Segments()[0]
	h := newHost(t, files)
	for _, room := range []int64{0, 4096, 100_000, 1<<20 - 4096} {
		disk := cmdtest.SmallDisk(t, 4<<20)
		h.data = cmdtest.NewDataDir(t, disk, nil)
		free := cmdtest.FillDisk(t, disk, room)
		for range 3 {
			cmdtest.Run(t, h.call(name)).Expect(t, 126, "no space left on device")
			left, err := os.ReadDir(h.data.Path("pg_wal"))
			if err != nil || len(left) != 1 {
				t.Errorf("pg_wal has %v (%v)", left, err)
			}
		}
		if room == 0 {
			cmdtest.Run(t, h.call("00000002.history")).Expect(t, 126, "no space left on device")
		}
		free()
		h.deliver(t, name, files[name])
	}
}
