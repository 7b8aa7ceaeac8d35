package main_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"walkeep/common/cmdtest"
)

// foreign are the forms in which other archivers store files, by ending.
var foreign = map[string]func(w io.Writer) (io.WriteCloser, error){
	"":     func(w io.Writer) (io.WriteCloser, error) { return plain{w}, nil },
	".gz":  func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
	".zst": func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) },
	".lz4": func(w io.Writer) (io.WriteCloser, error) { return lz4.NewWriter(w), nil },
	".s2":  func(w io.Writer) (io.WriteCloser, error) { return s2.NewWriter(w), nil },
}

type plain struct{ io.Writer }

func (plain) Close() error { return nil }

// putForeign stores a file as another archiver would have done.
func (h host) putForeign(t testing.TB, name, ending string, content []byte) {
	t.Helper()
	var packed bytes.Buffer
	w, err := foreign[ending](&packed)
	if err == nil {
		_, err = w.Write(content)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	h.putRaw(t, name, ending, packed.Bytes())
}

func (h host) putRaw(t testing.TB, name, ending string, stored []byte) {
	t.Helper()
	directory := "wal"
	if len(name) >= 24 {
		directory = filepath.Join("wal", name[:16])
	}
	h.put(t, filepath.Join(directory, name+ending), stored)
}

// TestForeign delivers what other archivers have stored, in an archive that is bound and in one that is not.
func TestForeign(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	id := cmdtest.SystemID(files[files.Segments()[0]])
	for ending := range foreign {
		for _, bound := range []bool{false, true} {
			t.Run(ending, func(t *testing.T) {
				t.Parallel()
				h := newHost(t, nil)
				if bound {
					h.spool.Bind(t, id)
				}
				for _, name := range files.Names() {
					if filepath.Ext(name) == ".partial" {
						continue
					}
					h.putForeign(t, name, ending, files[name])
				}
				for _, name := range files.Segments() {
					h.deliver(t, name, files[name])
				}
				for _, name := range []string{"00000002.history", "00000003.history", files.Kind(t, ".backup")} {
					h.deliver(t, name, files[name])
				}
				h.run(t, files.Segments()[0], "-v").Expect(t, 0, "which another archiver made")
				if bound {
					h.run(t, "00000003000000000000001F").Expect(t, 1, "not in the archive")
					h.run(t, "00000001000000000000000B").Expect(t, 126, hintGap)
				} else {
					h.run(t, "00000003000000000000001F").Expect(t, 126, "this is not an archive")
				}
			})
		}
	}
}

// TestForeignDamaged has foreign files that are not what their names say.
func TestForeignDamaged(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	names := files.Segments()
	name, segment := names[0], files[names[0]]
	id := cmdtest.SystemID(segment)
	backup := files.Kind(t, ".backup")
	tests := []struct {
		test, name string
		content    []byte
		say        string
	}{
		{"broken record", name, cmdtest.Break(t, segment), "damaged"},
		{"last record's last byte", names[1], cmdtest.Flip(files[names[1]], 8*lastByte(t, files[names[1]])), "damaged"},
		{"next segment", name, files[names[1]], "page address"},
		{"another cluster's", name, cmdtest.OfCluster(segment, 4711), "another cluster"},
		{"another magic", name, cmdtest.Flip(segment, 8), "magic"},
		{"short", name, segment[:len(segment)-1], "damaged"},
		{"half", name, segment[:len(segment)/2], "damaged"},
		{"a page", name, segment[:8192], "damaged"},
		{"empty", name, nil, "damaged"},
		{"long", name, append(slices.Clone(segment), 0), "damaged"},
		{"very long", name, append(slices.Clone(segment), make([]byte, 64<<20)...), "damaged"},
		{"zeros", name, make([]byte, len(segment)), "damaged"},
		{"other size of segments", "000000010000000000000002", cmdtest.OfCluster(cmdtest.WAL(t, "10")["000000010000000000000002"], id), "16777216"},
		{"history of WAL", "00000002.history", segment, "damaged"},
		{"history empty", "00000002.history", nil, "damaged"},
		{"history of another timeline", "00000002.history", files["00000003.history"], "damaged"},
		{"history without an end", "00000003.history", files["00000003.history"][:30], "damaged"},
		{"history far too long", "00000003.history", append(slices.Clone(files["00000003.history"]), bytes.Repeat([]byte("\n"), 2<<20)...), "damaged"},
		{"backup of another segment", backup, bytes.ReplaceAll(files[backup], []byte("00000B"), []byte("00000C")), "damaged"},
	}
	for _, test := range tests {
		t.Run(test.test, func(t *testing.T) {
			t.Parallel()
			for ending := range foreign {
				h := newHost(t, nil)
				h.spool.Bind(t, id)
				h.putForeign(t, test.name, ending, test.content)
				h.run(t, test.name).Expect(t, 126, test.say)
			}
		})
	}
}

// lastByte is that of a segment's last record but the switch: a byte that only its checksum covers.
func lastByte(t *testing.T, segment []byte) int {
	t.Helper()
	l := cmdtest.Read(t, segment)
	for _, r := range slices.Backward(l.Records) {
		if r.Complete && r.Length > cmdtest.RecData {
			return l.Offset(r.At + r.Length - 1)
		}
	}
	t.Fatal("no record")
	return 0
}

// TestForeignStream has compressed files that are damaged themselves.
func TestForeignStream(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	name := files.Segments()[5]
	random := cmdtest.Rand(t)
	for ending, pack := range foreign {
		if ending == "" {
			continue
		}
		var packed bytes.Buffer
		w, err := pack(&packed)
		if err == nil {
			_, err = w.Write(files[name])
		}
		if err != nil || w.Close() != nil {
			t.Fatal(err)
		}
		h := newHost(t, nil)
		h.spool.Bind(t, cmdtest.SystemID(files[name]))
		for range 40 {
			stored := slices.Clone(packed.Bytes())
			if random.IntN(2) == 0 {
				stored = stored[:random.IntN(len(stored))]
			} else {
				stored[random.IntN(len(stored))] ^= byte(1 + random.IntN(255))
			}
			h.putRaw(t, name, ending, stored)
			r := h.run(t, name)
			if r.Code == 0 { // a bit that means nothing: what comes out must be right
				h.wantTarget(t, name, files[name])
				continue
			}
			r.Expect(t, 126, name+ending)
		}
	}
}

// TestForeignForms delivers what the gzip tool would expand, and does not call damaged what only this program does not.
func TestForeignForms(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	name := files.Segments()[0]
	h := newHost(t, nil)
	h.spool.Bind(t, cmdtest.SystemID(files[name]))
	h.putForeign(t, name, ".gz", files[name])
	gz := filepath.Join(string(h.spool), "wal", name[:16], name+".gz")
	stored, err := os.ReadFile(gz)
	if err != nil {
		t.Fatal(err)
	}
	cmdtest.Write(t, gz, append(stored, make([]byte, 512)...))
	h.deliver(t, name, files[name])
	h.remove(t, filepath.Join("wal", name[:16], name+".gz"))
	pack := exec.Command("zstd", "-q", "-c", "--long=30")
	pack.Stdin = bytes.NewReader(files[name])
	if stored, err = pack.Output(); err != nil {
		t.Skip(err)
	}
	h.putRaw(t, name, ".zst", stored)
	r := h.run(t, name)
	if r.Expect(t, 126, "its window is larger than 128 MB"); strings.Contains(r.Stderr, "damaged") {
		t.Errorf("it is not damaged: %s", r.Stderr)
	}
}
