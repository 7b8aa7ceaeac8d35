package main_test

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"walkeep/common/cmdtest"
)

const hintNotWAL = "hint: archive_command hands over %p"

func TestSourceMissing(t *testing.T) {
	t.Parallel()
	b := newBench(t, cmdtest.FastDir(t), nil)
	b.run(t, "000000010000000000000001").Expect(t, 1, "archive 000000010000000000000001: ", "no such file")
	b.run(t, "00000002.history").Expect(t, 1, "archive 00000002.history: ")
	b.spool.Check(t, nil)
}

// TestNoWALName archives a sound segment under names that PostgreSQL never uses.
func TestNoWALName(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	segment := files[files.Segments()[0]]
	for _, name := range []string{
		"RECOVERYXLOG", "0", "00000001000000000000000", "0000000100000000000000090", "00000001000000000000000g",
		"00000001000000000000000a", "000000000000000000000009", "000000010000000000000009.Partial",
		"000000010000000000000009.partial.partial", "000000010000000000000009.zst", "000000010000000000000009.28.backup",
		"000000010000000000000009 ", "0000000G.history", "00000000.history", "00000002.history.zst", ".history",
		"000000010000000000000009\n", "\xff\xfe000000010000000000000009",
	} {
		b := newBench(t, cmdtest.FastDir(t), cmdtest.Files{name: segment})
		b.run(t, name).Expect(t, 3, "not a WAL file of its name", hintNotWAL)
		b.spool.Check(t, nil)
	}
}

// TestNotOfItsName archives what is not the segment that its name says, into an archive that is its cluster's.
func TestNotOfItsName(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	names := files.Segments()
	name, segment := names[0], files[names[0]]
	patched := func(offset int, value uint64, size int) []byte {
		b := slices.Clone(segment)
		var v [8]byte
		binary.LittleEndian.PutUint64(v[:], value)
		copy(b[offset:offset+size], v[:])
		return b
	}
	page := 8192
	recycled := append(slices.Clone(segment[:page]), files[names[1]][page:]...) // only its first page is new
	tests := []struct {
		test, name string
		content    []byte
		code       int
		say        string
	}{
		{"empty", name, nil, 3, "not a WAL file"},
		{"one byte", name, segment[:1], 3, "not a WAL file"},
		{"header cut off", name, segment[:39], 3, "not a WAL file"},
		{"header alone", name, segment[:40], 3, "40 bytes"},
		{"one byte short", name, segment[:len(segment)-1], 3, "1048575 bytes"},
		{"half", name, segment[:len(segment)/2], 3, "524288 bytes"},
		{"one byte long", name, append(slices.Clone(segment), 0), 3, "1048577 bytes"},
		{"twice", name, append(slices.Clone(segment), segment...), 3, "2097152 bytes"},
		{"zeros", name, make([]byte, len(segment)), 3, "not a WAL file"},
		{"next segment's name", "00000001000000000000000A", segment, 3, "page address"},
		{"other log", "000000010000000100000009", segment, 3, "page address"},
		{"number of no segment", "000000010000000000001009", segment, 3, "not a WAL file"},
		{"older timeline's name", "00000001000000000000001E", files["00000003000000000000001E"], 3, "timeline 3"},
		{"first page of an older timeline", "000000010000000000000010", files["000000030000000000000010"], 0, "warning: "},
		{"magic", name, patched(0, 0xD0FF, 2), 3, "magic D0FF"},
		{"magic of no release", name, patched(0, 0, 2), 3, "magic 0000"},
		{"short header", name, patched(2, 0, 2), 3, "info bits"},
		{"timeline 0", name, patched(4, 0, 4), 3, "timeline 0"},
		{"timeline 2", name, patched(4, 2, 4), 3, "timeline 2"},
		{"page address 0", name, patched(8, 0, 8), 3, "page address 0/0"},
		{"system identifier", name, patched(24, 77, 8), 3, "another cluster"},
		{"system identifier 0", name, patched(24, 0, 8), 3, "another cluster"},
		{"segment size", name, patched(32, 2<<20, 4), 3, "not a WAL file"},
		{"segment size odd", name, patched(32, 1<<20+1, 4), 3, "segment size"},
		{"block size 0", name, patched(36, 0, 4), 3, "block size 0"},
		{"block size huge", name, patched(36, 1<<20, 4), 3, "block size"},
		{"recycled behind the first page", name, recycled, 0, "warning: "}, // a broken record, not a wrong file
		{"partial too long", name + ".partial", append(slices.Clone(segment), 0), 3, "1048577 bytes"},
		{"partial empty", name + ".partial", nil, 3, "not a WAL file"},
		{"partial of another name", "00000001000000000000000A.partial", segment[:page], 3, "page address"},
		{"partial of another cluster", name + ".partial", patched(24, 77, 8)[:page], 3, "another cluster"},
		{"history without entries", "00000002.history", []byte("# nothing\n"), 3, "no entries"},
		{"history empty", "00000002.history", nil, 3, "no entries"},
		{"history of its own future", "00000002.history", files["00000003.history"], 3, "not less than 2"},
		{"history of WAL", "00000002.history", segment, 3, "not a WAL file"},
		{"history huge", "00000002.history", make([]byte, 2<<20), 3, "2097152 bytes"},
		{"backup of another segment", name + ".00000028.backup", files[files.Kind(t, ".backup")], 3, "does not name segment " + name},
		{"backup empty", name + ".00000028.backup", nil, 3, "does not name segment"},
	}
	for _, test := range tests {
		t.Run(test.test, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, cmdtest.FastDir(t), cmdtest.Files{test.name: test.content})
			b.spool.Bind(t, cmdtest.SystemID(segment))
			r := b.run(t, test.name)
			if test.code == 0 {
				r.Expect(t, 0, test.say)
				b.spool.Check(t, cmdtest.Files{test.name: test.content})
				return
			}
			r.Expect(t, test.code, "archive "+test.name+": ", test.say, "hint: ")
			b.spool.Check(t, nil)
		})
	}
}

func TestNotAFile(t *testing.T) {
	t.Parallel()
	b := newBench(t, cmdtest.FastDir(t), nil)
	name := "000000010000000000000009"
	if err := os.Mkdir(b.data.Path("pg_wal", name), 0o755); err != nil {
		t.Fatal(err)
	}
	b.run(t, name).Expect(t, 3, "not a regular file", hintNotWAL)
	b.spool.Check(t, nil)
}

// TestTwoClusters holds that the first segment binds the archive, and that nothing of another cluster gets in.
func TestTwoClusters(t *testing.T) {
	t.Parallel()
	ours := cmdtest.WAL(t, "15")
	names := ours.Segments()
	theirs := cmdtest.OfCluster(ours[names[1]], 4711)
	b := newBench(t, cmdtest.FastDir(t), cmdtest.Files{names[0]: ours[names[0]], names[1]: theirs})
	b.run(t, names[0]).Expect(t, 0)
	b.run(t, names[1]).Expect(t, 3, "another cluster", "4711", "hint: give each cluster a spool of its own")
	b.spool.Check(t, ours.Only(names[0]))

	other := cmdtest.WAL(t, "10") // with segments of 16 MB
	large := other.Segments()[0]
	sameCluster := cmdtest.OfCluster(other[large], cmdtest.SystemID(ours[names[0]]))
	cmdtest.Write(t, b.data.Path("pg_wal", large), sameCluster)
	b.run(t, large).Expect(t, 3, "its segments have 16777216 bytes", "hint: ")
	b.spool.Check(t, ours.Only(names[0]))
}

// TestControlFile holds what is archived against the data directory that it comes from.
func TestControlFile(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	segment := files.Segments()[0]
	history, backup := files.Kind(t, ".history"), files.Kind(t, ".backup")
	id := cmdtest.SystemID(files[segment])

	t.Run("agrees", func(t *testing.T) {
		b := newBench(t, cmdtest.FastDir(t), files)
		b.data.SetControl(t, id)
		for _, name := range []string{history, segment, backup} {
			b.run(t, name).Expect(t, 0)
		}
		b.spool.Check(t, files.Only(history, segment, backup))
	})
	t.Run("is another cluster's than the segment", func(t *testing.T) {
		b := newBench(t, cmdtest.FastDir(t), files)
		b.data.SetControl(t, id+1)
		b.run(t, segment).Expect(t, 3, "another cluster", "that of the data directory", "hint: ")
		b.spool.Check(t, nil)
	})
	t.Run("is another cluster's than the archive", func(t *testing.T) {
		b := newBench(t, cmdtest.FastDir(t), files)
		b.data.SetControl(t, id+1)
		b.spool.Bind(t, id)
		for _, name := range []string{history, backup, segment} {
			b.run(t, name).Expect(t, 3, "another cluster", "hint: ")
		}
		b.spool.Check(t, nil)
	})
	t.Run("is none", func(t *testing.T) {
		b := newBench(t, cmdtest.FastDir(t), files)
		cmdtest.Write(t, b.data.Path("global/pg_control"), []byte("short"))
		b.run(t, segment).Expect(t, 1, "pg_control")
		cmdtest.Write(t, b.data.Path("global/pg_control"), make([]byte, 8192))
		b.run(t, segment).Expect(t, 1, "pg_control")
		b.spool.Check(t, nil)
	})
}

// TestDirectoryOfWALHasGone checks that archive-cmd does not make wal/ again if it was lost, or if its disk is not mounted: the
// archive would look empty.
func TestDirectoryOfWALHasGone(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	names := files.Segments()[:2]
	for _, lose := range []func(wal string) error{
		os.RemoveAll,
		func(wal string) error { return errors.Join(os.Rename(wal, wal+".off"), os.Symlink("nowhere", wal)) },
		func(wal string) error { return errors.Join(os.RemoveAll(wal), os.WriteFile(wal, nil, 0o600)) },
	} {
		b := newBench(t, cmdtest.FastDir(t), files)
		b.run(t, names[0]).Expect(t, 0)
		wal := filepath.Join(string(b.spool), "wal")
		if err := lose(wal); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{names[1], "00000002.history"} {
			b.run(t, name).Expect(t, 1, "wal")
		}
		if info, err := os.Stat(wal); err == nil && info.IsDir() {
			t.Error("wal/ was made again")
		}
	}
}
