package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walkeep/common/cmdtest"
)

// remove removes objects or whole directories from the spool.
func (h host) remove(t testing.TB, patterns ...string) {
	t.Helper()
	for _, pattern := range patterns {
		paths, err := filepath.Glob(filepath.Join(string(h.spool), pattern))
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s matches nothing (%v)", pattern, err)
		}
		for _, path := range paths {
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// put adds a file to the spool as another program would.
func (h host) put(t testing.TB, path string, content []byte) string {
	t.Helper()
	path = filepath.Join(string(h.spool), path)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const hintGap = "hint: bring the missing file back into the archive, or recover to a target before it"

// TestAbsentOrGap asks for what is not there. The test data of version 15 has on timeline 1 the segments 9, A, C to F and
// the partial segment 10, in which timelines 2 and 3 begin; on timeline 2 a partial segment 10; on 3 segments 10 and 1E.
func TestAbsentOrGap(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	nothing := func(*testing.T, host) {}
	without := func(patterns ...string) func(*testing.T, host) {
		return func(t *testing.T, h host) { h.remove(t, patterns...) }
	}
	with := func(path string) func(*testing.T, host) {
		return func(t *testing.T, h host) { h.put(t, path, []byte("whatever")) }
	}
	link := func(names ...string) func(*testing.T, host) {
		return func(t *testing.T, h host) {
			for _, name := range names {
				path := filepath.Join(string(h.spool), name)
				os.Rename(path, path+".off")
				if err := os.Symlink("nowhere/"+name, path); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	const absent, gap, unknown = 1, 126, 127 // unknown is 126 for another reason than a gap
	tests := []struct {
		test, name string
		change     func(*testing.T, host)
		want       int
	}{
		{"after the last segment", "00000003000000000000001F", nothing, absent},
		{"long after it", "000000030000001200000000", nothing, absent},
		{"first timeline's partial segment", "000000010000000000000010", nothing, absent},
		{"first timeline after that", "000000010000000000000011", nothing, absent},
		{"second timeline's partial segment", "000000020000000000000010", nothing, absent},
		{"second timeline before it began", "00000002000000000000000F", nothing, absent},
		{"third timeline before it began", "00000003000000000000000F", nothing, absent},
		{"third timeline long before", "000000030000000000000001", nothing, absent},
		{"timeline that never was", "000000040000000000000010", nothing, absent},
		{"history that never was", "00000004.history", nothing, absent},
		{"history of the last timeline", "FFFFFFFF.history", nothing, absent},
		{"history of the first timeline", "00000001.history", nothing, absent},
		{"partial segment", "00000003000000000000001F.partial", nothing, absent},
		{"backup history", "00000003000000000000001E.00000028.backup", nothing, absent},
		{"directory of nobody", "00000004.history", func(t *testing.T, h host) {
			if err := os.Mkdir(filepath.Join(string(h.spool), "wal", "0000000400000000"), 0o700); err != nil {
				t.Fatal(err)
			}
		}, absent},
		{"strange names beside", "00000003000000000000001F", with("wal/0000000300000000/zzzz"), absent},
		{"strange names above", "00000003000000000000001F", with("wal/00000003FFFFFFFFF/zzzz"), absent},
		{"temporary file of a later one", "00000003000000000000001F",
			with("wal/0000000300000000/.000000030000000000000020.zst.0123456789abcdef.tmp"), absent},

		{"hole that was there", "00000001000000000000000B", nothing, gap},
		{"hole before the first", "000000010000000000000008", nothing, gap},
		{"hole of many", "000000030000000000000011", nothing, gap},
		{"last of many", "00000003000000000000001D", nothing, gap},
		{"lost segment", "00000001000000000000000D", without("wal/*/00000001000000000000000D*"), gap},
		{"lost before a partial", "00000001000000000000000F", without("wal/*/00000001000000000000000F*"), gap},
		{"lost, and its successors", "00000001000000000000000C", without("wal/*/00000001000000000000000[C-F]*"), gap},
		{"lost with all of its timeline", "00000001000000000000000F", without("wal/0000000100000000"), gap},
		{"lost where its timeline began", "000000030000000000000010", without("wal/*/000000030000000000000010*"), gap},
		{"known by a backup that began in it", "00000003000000000000001F",
			with("wal/0000000300000000/00000003000000000000001F.00000028.backup.zst"), gap},
		{"later one in the next directory", "00000003000000000000001F", with("wal/0000000300000001/000000030000000100000000.zst"), gap},
		{"later one far away", "00000003000000000000001F", with("wal/00000003FFFFFFFF/00000003FFFFFFFF00000FFF.gz"), gap},
		{"later one that cannot be read here", "00000003000000000000001F", with("wal/0000000300000000/000000030000000000000020.zst.age"), gap},
		{"lost history", "00000003.history", without("wal/00000003.history*"), gap},
		{"lost history, and all of its timeline but a part", "00000002.history", without("wal/00000002.history*"), gap},
		{"lost history that a later one names", "00000002.history", without("wal/00000002.history*", "wal/0000000200000000"), gap},
		{"before a timeline whose history is lost", "00000003000000000000000F", without("wal/00000003.history*"), gap},

		{"streamed and not stored", "00000003000000000000001F", with("partial/00000003000000000000001F"), gap},
		{"streamed behind it", "00000003000000000000001F", with("partial/000000030000000000000020.partial"), gap},
		{"streamed behind it, and put aside", "00000003000000000000001F", with("partial/000000030000000000000020.partial.differs-1"), gap},
		{"being streamed", "00000003000000000000001F", with("partial/00000003000000000000001F.partial"), absent},
		{"streamed on another timeline", "00000003000000000000001F", with("partial/000000020000000000000020.partial"), absent},
		{"history of a timeline that is being streamed", "00000004.history", with("partial/00000004000000000000001F.partial"), gap},
		{"history that was streamed and is not stored", "00000004.history", func(t *testing.T, h host) {
			h.put(t, "partial/00000004.history", []byte("3\t0/20000000\tno reason\n"))
		}, gap},
		{"before a timeline whose history is not stored", "00000003000000000000001F", func(t *testing.T, h host) {
			h.put(t, "partial/00000004.history", []byte("3\t0/20000000\tno reason\n"))
		}, gap},
		{"a stream has it", "00000003000000000000001F", func(t *testing.T, h host) {
			h.put(t, "streams/walkeep.json", []byte(`{"slot":"walkeep","timeline":3,"flushed":"0/2000000"}`))
		}, gap},
		{"a stream is within it", "00000003000000000000001F", func(t *testing.T, h host) {
			h.put(t, "streams/walkeep.json", []byte(`{"slot":"walkeep","timeline":3,"flushed":"0/1FFFFFF"}`))
		}, absent},
		{"history of a timeline with a stream", "00000004.history", func(t *testing.T, h host) {
			h.put(t, "streams/walkeep.json", []byte(`{"slot":"walkeep","timeline":4,"flushed":"0/1F00028"}`))
		}, gap},

		{"no directory of WAL", "00000003000000000000001F", without("wal"), unknown},
		{"no directory of WAL, a history", "00000004.history", without("wal"), unknown},
		{"WAL moved to a disk that has gone", "00000003000000000000001F", link("wal"), unknown},
		{"WAL moved to a disk that has gone, a history", "00000004.history", link("wal"), unknown},
		{"a log moved to a disk that has gone", "00000003000000000000001F", link("wal/0000000300000000"), unknown},
		{"a log moved to a disk that has gone, its timeline's history", "00000003.history",
			func(t *testing.T, h host) { h.remove(t, "wal/00000003.history*"); link("wal/0000000300000000")(t, h) }, unknown},
		{"a later log on a disk that has gone", "00000003000000000000001F", link("wal/0000000300000001"), unknown},
		{"a segment on a disk that has gone", "00000003000000000000001E", link("wal/0000000300000000/00000003000000000000001E.zst"), unknown},
		{"streamed parts on a disk that has gone", "00000003000000000000001F", link("partial"), unknown},
		{"streams on a disk that has gone", "00000003000000000000001F", link("streams"), unknown},
		{"backups on a disk that has gone", "00000003000000000000001F", link("backups"), unknown},
		{"a backup on a disk that has gone", "00000004.history", func(t *testing.T, h host) {
			h.put(t, "backups/other", nil)
			link("backups/20261128T120000Z")(t, h)
		}, unknown},
		{"a file for a directory", "00000003000000000000001F", func(t *testing.T, h host) {
			h.put(t, "partial", nil)
		}, unknown},
		{"a loop of links", "00000003000000000000001F", func(t *testing.T, h host) {
			if err := os.Symlink("partial", filepath.Join(string(h.spool), "partial")); err != nil {
				t.Fatal(err)
			}
		}, unknown},

		{"history before a damaged one", "00000002.history", func(t *testing.T, h host) {
			h.remove(t, "wal/00000002.history*", "wal/0000000200000000")
			o := h.spool.Object(t, "00000003.history")
			cmdtest.Write(t, o.Path, cmdtest.Flip(o.Stored, 100))
		}, unknown},
		{"before a timeline whose history is damaged", "00000003000000000000000F", func(t *testing.T, h host) {
			o := h.spool.Object(t, "00000003.history")
			cmdtest.Write(t, o.Path, cmdtest.Flip(o.Stored, 100))
		}, unknown},
		{"history that cannot be read here", "00000004.history", with("wal/00000004.history.zst.age"), unknown},
		{"segment that cannot be read here", "00000003000000000000001F", with("wal/0000000300000000/00000003000000000000001F.xz"), unknown},
	}
	for _, test := range tests {
		t.Run(test.test, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, files)
			test.change(t, h)
			switch r := h.run(t, test.name); test.want {
			case absent:
				r.Expect(t, 1, test.name+" is not in the archive")
			case gap:
				r.Expect(t, 126, test.name+" is missing from the archive, which holds what came after it: ", hintGap)
			case unknown:
				if r.Expect(t, 126); strings.Contains(r.Stderr, "missing from the archive") {
					t.Errorf("it is not known to be a gap: %s", r.Stderr)
				}
			}
		})
	}
}

// TestAbsentHistories asks for histories as PostgreSQL does to find the next timeline's number.
func TestAbsentHistories(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	h := newHost(t, files.Only(files.Segments()[:3]...))
	h.run(t, "00000002.history").Expect(t, 1, "00000002.history is not in the archive")
	h = newHost(t, files)
	for _, name := range []string{"00000002.history", "00000003.history"} {
		h.deliver(t, name, files[name])
	}
	h.run(t, "00000004.history").Expect(t, 1, "00000004.history is not in the archive")
	h.remove(t, "wal/*") // an archive that was just begun holds nothing
	h.run(t, "00000002.history").Expect(t, 1, "00000002.history is not in the archive")
	h.run(t, "000000010000000000000001").Expect(t, 1, "not in the archive")
}

// TestStrayBeside delivers a segment that is there, whatever else lies beside it.
func TestStrayBeside(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	name := files.Segments()[0]
	h := newHost(t, files.Only(name))
	dir := filepath.Join(string(h.spool), "wal", name[:16])
	for _, stray := range []string{".zst.sha256", ".zst.tmp", ".zst.bak", ".zst.age", ".foo", ".", ".gz"} {
		cmdtest.Write(t, filepath.Join(dir, name+stray), nil)
	}
	for _, stray := range []string{"", ".lz4", ".dir"} {
		if err := os.Mkdir(filepath.Join(dir, name+stray), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, name+".s2")); err != nil {
		t.Fatal(err)
	}
	h.deliver(t, name, files[name])
}
