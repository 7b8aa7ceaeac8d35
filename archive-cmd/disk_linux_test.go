package main_test

import (
	"testing"

	"walkeep/common/cmdtest"
)

// TestDiskFull has room for so many bytes when a segment, and what waits after it, is to be archived.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	names := files.Segments()
	rooms := map[string][]int64{"zstd": {0, 4096, 16384}, "none": {8192, 100_000, 1 << 20, 1<<20 + 12288}}
	for _, ahead := range []int{0, 24} {
		for codec, rooms := range rooms {
			for _, room := range rooms {
				disk := cmdtest.SmallDisk(t, 10<<20)
				b := newBench(t, disk, nil)
				b.data = cmdtest.NewDataDir(t, cmdtest.FastDir(t), files.Only(names...))
				free := cmdtest.FillDisk(t, disk, room)
				r := b.ahead(t, ahead, names[0], "--codec", codec)
				stored := b.spool.CheckWhole(t, files)
				if _, there := stored[names[0]]; r.Code == 0 && !there {
					t.Errorf("%s in %d bytes: acknowledged, and not there", names[0], room)
				} else if r.Code != 0 {
					r.Expect(t, 1, "archive "+names[0]+": ", "no space left on device")
				}
				if room == 0 && r.Code == 0 || codec == "none" && room < 1<<20 && r.Code == 0 {
					t.Errorf("%s found room in %d bytes", names[0], room)
				}
				free()
				for range 2 {
					b.ahead(t, 24, names[0], "--codec", codec).Expect(t, 0)
				}
				b.ahead(t, 24, names[1], "--codec", codec).Expect(t, 0)
				b.spool.Check(t, files.Only(names...))
			}
		}
	}
}

// TestDiskFillsUp archives segment after segment until the disk is full, as PostgreSQL would, and keeps trying while
// room is made.
func TestDiskFillsUp(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	names := files.Segments()
	disk := cmdtest.SmallDisk(t, 3<<20+256<<10)
	b := newBench(t, disk, nil)
	b.data = cmdtest.NewDataDir(t, cmdtest.FastDir(t), files.Only(names...))
	acknowledged := make(cmdtest.Files)
	for _, name := range append(names, names...) {
		if r := b.ahead(t, 2, name, "--codec", "none"); r.Code == 0 {
			acknowledged[name] = files[name]
		} else {
			r.Expect(t, 1, "no space left on device")
		}
		b.spool.CheckWhole(t, files)
	}
	b.spool.Check(t, acknowledged)
	if len(acknowledged) != 3 {
		t.Errorf("%d segments found room, want 3", len(acknowledged))
	}
}
