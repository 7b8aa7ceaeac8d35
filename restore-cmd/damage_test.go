package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"walkeep/common/cmdtest"
	main "walkeep/restore-cmd"
)

const hintDamaged = "hint: bring a sound copy into the archive, or recover to a target before it"

// forEach calls f for each number below n, in a host that holds this one file. Its data directory is the working directory,
// so no other test may run beside it.
func forEach(t *testing.T, file cmdtest.Files, codec string, n int, f func(h host, o cmdtest.Object, i int)) {
	t.Helper()
	h := newHost(t, file, "--codec", codec)
	o := h.spool.Object(t, file.Names()[0])
	t.Chdir(string(h.data))
	for i := 0; i < n && !t.Failed(); i++ {
		f(h, o, i)
	}
}

// runOne makes the call number i of thousands: each fiftieth is a process, the others are made within this one.
func (h host) runOne(t *testing.T, name string, i int) cmdtest.Result {
	t.Helper()
	call := h.call(name)
	if i%50 == 0 {
		return h.runCall(t, call)
	}
	cmdtest.Write(t, h.data.Path(target), []byte(old))
	r := cmdtest.Inside(main.Call, call)
	h.checkTarget(t, r)
	return r
}

// size is that of the stored object.
func size(t *testing.T, file cmdtest.Files, codec string) int {
	t.Helper()
	return len(newHost(t, file, "--codec", codec).spool.Object(t, file.Names()[0]).Stored)
}

// mustRefuse asks for a file whose object now holds other bytes.
func (h host) mustRefuse(t *testing.T, name string, o cmdtest.Object, stored []byte, i int, what string) {
	t.Helper()
	if err := os.WriteFile(o.Path, stored, 0o600); err != nil {
		t.Error(err)
	}
	if h.runOne(t, name, i).Expect(t, 126, name); t.Failed() {
		t.Errorf("%s %s", name, what)
	}
}

// TestEveryBit changes each bit of the stored object of a segment: nothing is ever delivered.
func TestEveryBit(t *testing.T) {
	cmdtest.Long(t)
	files := cmdtest.WAL(t, "15")
	name := files.Segments()[5] // the one that compresses best
	bits := 8 * size(t, files.Only(name), "zstd")
	forEach(t, files.Only(name), "zstd", bits, func(h host, o cmdtest.Object, i int) {
		h.mustRefuse(t, name, o, cmdtest.Flip(o.Stored, i), i, fmt.Sprintf("with bit %d changed", i))
	})
	t.Logf("%d bits", bits)
}

// TestEveryByte changes each byte of the stored object of a history.
func TestEveryByte(t *testing.T) {
	cmdtest.Long(t)
	files := cmdtest.WAL(t, "15")
	name := "00000003.history"
	for _, codec := range codecs {
		t.Run(codec, func(t *testing.T) {
			random := cmdtest.Rand(t)
			n := size(t, files.Only(name), codec)
			other := make([]byte, n)
			for i := range other {
				other[i] = byte(1 + random.IntN(255))
			}
			forEach(t, files.Only(name), codec, n, func(h host, o cmdtest.Object, i int) {
				stored := slices.Clone(o.Stored)
				stored[i] ^= other[i]
				h.mustRefuse(t, name, o, stored, i, fmt.Sprintf("with byte %d changed by %#x", i, other[i]))
			})
			t.Logf("%d bytes", n)
		})
	}
}

// TestTruncated cuts objects off at every length. If only the trailer is lost, the rest is like a file of another archiver, and
// may be delivered if its content is right.
func TestTruncated(t *testing.T) {
	cmdtest.Long(t)
	files := cmdtest.WAL(t, "15")
	for _, name := range []string{files.Segments()[5], "00000003.history"} {
		for i, codec := range codecs {
			if i > 0 && name != "00000003.history" {
				continue // one is long enough
			}
			n := size(t, files.Only(name), codec)
			var delivered []int
			forEach(t, files.Only(name), codec, n, func(h host, o cmdtest.Object, i int) {
				if err := os.WriteFile(o.Path, o.Stored[:i], 0o600); err != nil {
					t.Error(err)
				}
				if r := h.runOne(t, name, i); r.Code == 0 && i == o.Trailer() {
					h.wantTarget(t, name, files[name])
					delivered = append(delivered, i)
				} else {
					r.Expect(t, 126, name)
				}
			})
			t.Logf("%s, %s: %d lengths, delivered with %v", name, codec, n, delivered)
		}
	}
}

// TestDamaged has objects with what storage and people do to them.
func TestDamaged(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	large := cmdtest.WAL(t, "10")
	trailer := func(stored []byte) int { return cmdtest.Object{Ending: ".zst", Stored: stored}.Trailer() }
	small, big := files.Segments()[5], large.Segments()[0]
	for _, test := range []struct {
		test, name string
		files      cmdtest.Files
		change     func(b []byte) []byte
	}{
		{"empty", small, files, func([]byte) []byte { return nil }},
		{"zeros", small, files, func(b []byte) []byte { return make([]byte, len(b)) }},
		{"one byte long", small, files, func(b []byte) []byte { return append(b, 0) }},
		{"twice", small, files, func(b []byte) []byte { return append(b, b...) }},
		{"block of zeros at the end", big, large, func(b []byte) []byte { return append(b[:len(b)-4096], make([]byte, 4096)...) }},
		{"block of zeros in the middle", big, large, func(b []byte) []byte { copy(b[8192:], make([]byte, 4096)); return b }},
		{"last byte of a chunk", big, large, func(b []byte) []byte { return cmdtest.Flip(b, 8*trailer(b)-1) }},
		{"without its first chunk's first byte", big, large, func(b []byte) []byte { return b[1:] }},
		{"another object's content", small, files, func([]byte) []byte {
			h := newHost(t, files.Only(files.Segments()[4]))
			return h.spool.Object(t, files.Segments()[4]).Stored
		}},
		{"chunks of one, trailer of another", small, files, func(b []byte) []byte {
			h := newHost(t, files.Only(files.Segments()[4]))
			o := h.spool.Object(t, files.Segments()[4])
			return append(slices.Clone(o.Stored[:o.Trailer()]), b[trailer(b):]...)
		}},
	} {
		t.Run(test.test, func(t *testing.T) {
			h := newHost(t, test.files.Only(test.name))
			o := h.spool.Object(t, test.name)
			if err := os.WriteFile(o.Path, test.change(slices.Clone(o.Stored)), 0o600); err != nil {
				t.Fatal(err)
			}
			h.run(t, test.name).Expect(t, 126, "damaged", hintDamaged)
		})
	}
}

// TestRenamedObject has a sound object under another file's name.
func TestRenamedObject(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	h := newHost(t, files)
	for _, names := range [][2]string{
		{"00000001000000000000000E", "00000001000000000000000F"},
		{"00000003000000000000001E", "00000003000000000000001F"},
		{"00000003.history", "00000002.history"},
		{"00000003.history", "00000004.history"},
		{"000000020000000000000010.partial", "000000020000000000000010"},
	} {
		from := h.spool.Object(t, names[0])
		to := filepath.Join(string(h.spool), "wal", names[1]+".zst")
		if len(names[1]) >= 24 {
			to = filepath.Join(string(h.spool), "wal", names[1][:16], names[1]+".zst")
		}
		if err := os.WriteFile(to, from.Stored, 0o600); err != nil {
			t.Fatal(err)
		}
		h.run(t, names[1]).Expect(t, 126, `it says that it is "`+names[0]+`"`, hintDamaged)
	}
}

// TestTwoObjects has a file stored under two endings.
func TestTwoObjects(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	name := files.Segments()[0]
	fork := cmdtest.Files{name: cmdtest.Fork(t, files[name])}
	same, other := newHost(t, files.Only(name), "--codec", "s2"), newHost(t, fork, "--codec", "s2")
	add := func(t *testing.T, h, from host, change func([]byte) []byte) {
		t.Helper()
		h.put(t, filepath.Join("wal", name[:16], name+".s2"), change(slices.Clone(from.spool.Object(t, name).Stored)))
	}
	asItIs := func(b []byte) []byte { return b }
	t.Run("same", func(t *testing.T) {
		h := newHost(t, files.Only(name))
		add(t, h, same, asItIs)
		h.deliver(t, name, files[name])
	})
	t.Run("different", func(t *testing.T) {
		h := newHost(t, files.Only(name))
		add(t, h, other, asItIs)
		h.run(t, name).Expect(t, 126, "differ", "hint: move away the object that does not belong")
	})
	t.Run("one damaged", func(t *testing.T) {
		h := newHost(t, files.Only(name))
		add(t, h, same, func(b []byte) []byte { return cmdtest.Flip(b, 8*1000) })
		h.run(t, name).Expect(t, 126, ".s2", "damaged", hintDamaged)
	})
	t.Run("partial segments", func(t *testing.T) {
		partial := files.Kind(t, ".partial")
		h := newHost(t, files.Only(partial))
		data := cmdtest.NewDataDir(t, cmdtest.FastDir(t), cmdtest.Files{partial: cmdtest.Flip(files[partial], 8<<20-1)})
		cmdtest.Run(t, cmdtest.Command("archive-cmd", "--spool", string(h.spool), "-q", data.Path("pg_wal", partial))).Expect(t, 0)
		h.run(t, partial).Expect(t, 126, "differ", "hint: move away")
	})
}
