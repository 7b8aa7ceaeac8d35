package main_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/zeebo/xxh3"

	"walkeep/common/cmdtest"
)

var codecs = []string{"zstd", "s2", "lz4", "gzip", "none"}

// replace changes the content of a file that waits to be archived.
func (b bench) replace(t testing.TB, name string, content []byte) {
	t.Helper()
	cmdtest.Write(t, b.data.Path("pg_wal", name), content)
}

// TestEveryFile archives all kinds of files of all versions, twice, with all codecs.
func TestEveryFile(t *testing.T) {
	t.Parallel()
	for i, major := range []string{"11", "12", "13", "14", "15", "16", "17", "18", "19"} {
		codec := codecs[i%len(codecs)]
		t.Run(major+" "+codec, func(t *testing.T) {
			t.Parallel()
			files := cmdtest.WAL(t, major)
			dir := cmdtest.FastDir(t)
			if major == "15" {
				dir = cmdtest.Dir(t) // on a disk
			}
			b := newBench(t, dir, files)
			for _, again := range []bool{false, true} {
				for _, name := range files.Names() {
					say := " is archived as "
					if again {
						say = " was archived before, as "
					}
					b.run(t, name, "-v", "--codec", codec).Expect(t, 0, name+say)
				}
			}
			b.spool.Check(t, files)
			for _, name := range files.Segments() {
				if got := b.spool.Object(t, name).WALCheck(); got != cmdtest.Intact {
					t.Errorf("%s: WAL check %d, want %d", name, got, cmdtest.Intact)
				}
			}
		})
	}
}

func TestSegmentOf16MB(t *testing.T) {
	cmdtest.Long(t)
	t.Parallel()
	files := cmdtest.WAL(t, "10")
	names := []string{files.Segments()[0], files.Segments()[1], files.Kind(t, ".history"), files.Kind(t, ".backup")}
	for _, codec := range codecs {
		b := newBench(t, cmdtest.FastDir(t), files.Only(names...))
		for _, name := range names {
			b.run(t, name, "--codec", codec).Expect(t, 0)
		}
		b.spool.Check(t, files.Only(names...))
	}
}

// TestDuplicateUnderAnotherCodec holds that a changed setting never stores a file twice.
func TestDuplicateUnderAnotherCodec(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	names := []string{files.Segments()[0], files.Kind(t, ".history"), files.Kind(t, ".backup"), files.Kind(t, ".partial")}
	for _, first := range codecs {
		t.Run(first, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, cmdtest.FastDir(t), files.Only(names...))
			for _, codec := range slices.Concat([]string{first}, codecs) {
				for _, name := range names {
					b.run(t, name, "--codec", codec).Expect(t, 0)
				}
			}
			b.spool.Check(t, files.Only(names...))
		})
	}
}

// TestConflict archives another content under a name that is taken.
func TestConflict(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	segment, history, backup := files.Segments()[0], files.Kind(t, ".history"), files.Kind(t, ".backup")
	others := cmdtest.Files{
		segment: cmdtest.Fork(t, files[segment]),
		history: bytes.Replace(files[history], []byte("0/"), []byte("1/"), 1),
		backup:  append(slices.Clone(files[backup]), "LABEL: another\n"...),
	}
	for name, other := range others {
		if bytes.Equal(other, files[name]) {
			t.Fatalf("the other content of %s is the same", name)
		}
		for _, codec := range codecs {
			t.Run(name+" "+codec, func(t *testing.T) {
				t.Parallel()
				b := newBench(t, cmdtest.FastDir(t), files.Only(name))
				b.run(t, name).Expect(t, 0)
				before := b.spool.Object(t, name)
				b.replace(t, name, other)
				for range 2 {
					b.run(t, name, "--codec", codec).Expect(t, 3, "another content is archived under this name", "hint: two servers")
				}
				b.spool.Check(t, files.Only(name))
				if after := b.spool.Object(t, name); !bytes.Equal(before.Stored, after.Stored) || before.Path != after.Path {
					t.Error("the object that was first is not what it was")
				}
				b.replace(t, name, files[name])
				b.run(t, name, "--codec", codec).Expect(t, 0)
			})
		}
	}
}

// TestSecondPartial is about two servers that were promoted from one segment: both must be able to archive.
func TestSecondPartial(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	name := files.Kind(t, ".partial")
	first := files[name]
	second, third := cmdtest.Flip(first, 8*len(first)-1), cmdtest.Flip(first, 8*len(first)-2)
	variant := func(content []byte) string {
		sum := xxh3.Hash128(content).Bytes()
		return name + "." + hex.EncodeToString(sum[:])
	}
	b := newBench(t, cmdtest.FastDir(t), files.Only(name))
	b.run(t, name).Expect(t, 0)
	for _, content := range [][]byte{second, third} {
		b.replace(t, name, content)
		b.run(t, name).Expect(t, 0, "warning: another "+name+" is archived already", variant(content), "hint: two servers were promoted")
		b.run(t, name, "--codec", "lz4").Expect(t, 0) // now it is known
	}
	b.replace(t, name, first)
	b.run(t, name, "--codec", "s2").Expect(t, 0)
	b.spool.Check(t, cmdtest.Files{name: first, variant(second): second, variant(third): third})

	b.replace(t, name, cmdtest.OfCluster(second, 4711))
	b.run(t, name).Expect(t, 3, "another cluster")
}

// TestShortPartial archives what a server had received of its last segment.
func TestShortPartial(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	name := files.Kind(t, ".partial")
	for _, size := range []int{40, 8191, 8192, 8193, 100_000, len(files[name]) - 1} {
		want := cmdtest.Files{name: files[name][:size]}
		b := newBench(t, cmdtest.FastDir(t), want)
		b.run(t, name, "--verify", "strict").Expect(t, 0)
		b.run(t, name).Expect(t, 0)
		b.spool.Check(t, want)
	}
}

// TestDuplicateOverDamage offers a segment again whose stored copy is no longer sound: it must not be acknowledged.
func TestDuplicateOverDamage(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	large := cmdtest.WAL(t, "10")
	segment, history := files.Segments()[1], files.Kind(t, ".history")
	tests := []struct {
		name   string
		file   string
		files  cmdtest.Files
		damage func(stored []byte) []byte
	}{
		{"first byte", segment, files, func(b []byte) []byte { return cmdtest.Flip(b, 0) }},
		{"in the middle", segment, files, func(b []byte) []byte { return cmdtest.Flip(b, 8*150) }},
		{"in the trailer", segment, files, func(b []byte) []byte { return cmdtest.Flip(b, 8*(len(b)-60)) }},
		{"last byte", segment, files, func(b []byte) []byte { return cmdtest.Flip(b, 8*len(b)-1) }},
		{"one byte short", segment, files, func(b []byte) []byte { return b[:len(b)-1] }},
		{"one byte long", segment, files, func(b []byte) []byte { return append(b, 0) }},
		{"half", segment, files, func(b []byte) []byte { return b[:len(b)/2] }},
		{"empty", segment, files, func([]byte) []byte { return nil }},
		{"zeros", segment, files, func(b []byte) []byte { return make([]byte, len(b)) }},
		{"history's byte", history, files, func(b []byte) []byte { return cmdtest.Flip(b, 8*20) }},
		{"history empty", history, files, func([]byte) []byte { return nil }},
		{"cut after some chunks", large.Segments()[0], large, afterChunks(5)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, cmdtest.FastDir(t), test.files.Only(test.file))
			b.run(t, test.file).Expect(t, 0)
			o := b.spool.Object(t, test.file)
			damaged := test.damage(slices.Clone(o.Stored))
			if err := os.WriteFile(o.Path, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			for _, codec := range []string{"zstd", "lz4"} {
				b.run(t, test.file, "--codec", codec).Expect(t, 1, "damaged", "hint: the copy in the spool is damaged")
			}
			if got := b.spool.Object(t, test.file); !bytes.Equal(got.Stored, damaged) {
				t.Error("the damaged object was changed")
			}
			// What the hint says to do helps.
			if err := os.Remove(o.Path); err != nil {
				t.Fatal(err)
			}
			b.run(t, test.file).Expect(t, 0)
			b.spool.Check(t, test.files.Only(test.file))
		})
	}
}

// afterChunks cuts a zstd object after some of its chunks, so that ordinary tools expand the rest without an error.
func afterChunks(n int) func(stored []byte) []byte {
	return func(stored []byte) []byte {
		frame := []byte{0x28, 0xB5, 0x2F, 0xFD}
		end := 0
		for range n {
			end += len(frame) + bytes.Index(stored[end+len(frame):], frame)
		}
		return stored[:end]
	}
}

// TestSettledDuplicate archives a file that was not changed for a while, as PostgreSQL's are not. The mark that is kept of it
// must hide neither a change of the file nor one of its stored copy.
func TestSettledDuplicate(t *testing.T) {
	cmdtest.Long(t)
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	name := files.Segments()[0]
	b := newBench(t, cmdtest.FastDir(t), files.Only(name))
	path := b.data.Path("pg_wal", name)
	before := time.Now().Add(-time.Hour)
	settle := func() {
		t.Helper()
		if err := os.Chtimes(path, before, before); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1500 * time.Millisecond)
	}
	settle()
	for range 2 {
		b.run(t, name).Expect(t, 0)
	}
	o := b.spool.Object(t, name)
	damage := func(stored []byte) {
		t.Helper()
		if err := os.WriteFile(o.Path, stored, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, bit := range []int{0, 8 * 5000, 8*len(o.Stored) - 8*60, 8*len(o.Stored) - 1} {
		damage(cmdtest.Flip(o.Stored, bit))
		b.run(t, name).Expect(t, 1, "damaged", "hint: the copy in the spool is damaged")
	}
	damage(o.Stored)
	b.run(t, name).Expect(t, 0)

	b.replace(t, name, cmdtest.Fork(t, files[name])) // the same file
	settle()
	b.run(t, name).Expect(t, 3, "another content")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	b.replace(t, name, cmdtest.Fork(t, files[name])) // another file
	settle()
	b.run(t, name).Expect(t, 3, "another content")
	b.replace(t, name, files[name])
	settle()
	b.run(t, name).Expect(t, 0)
	b.spool.Check(t, files.Only(name))
}
