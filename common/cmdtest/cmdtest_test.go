package cmdtest_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"walkeep/common/cmdtest"
)

// A witness records the failures of a check.
type witness struct {
	testing.TB
	said string
}

func (w *witness) Helper()                           {}
func (w *witness) Errorf(format string, args ...any) { w.said += fmt.Sprintf(format, args...) + "\n" }

// TestSpoolIsChecked tests the check that all other tests rely on: it must report every fault of a spool.
func TestSpoolIsChecked(t *testing.T) {
	files := cmdtest.WAL(t, "15")
	name, history := files.Segments()[0], files.Kind(t, ".history")
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	object := filepath.Join("wal", name[:16], name+".zst")
	tests := []struct {
		name   string
		change func(write func(path string, content []byte), remove func(path string))
		say    string // "": no failure
	}{
		{"right", func(func(string, []byte), func(string)) {}, ""},
		{"missing", func(_ func(string, []byte), remove func(string)) { remove(object) }, name + " is missing"},
		{"temporary file", func(write func(string, []byte), _ func(string)) { write(filepath.Dir(object)+"/.x.tmp", nil) }, "temporary files are left"},
		{"temporary identity", func(write func(string, []byte), _ func(string)) { write(".archive.json.0.tmp", nil) }, "temporary files are left"},
		{"stray file", func(write func(string, []byte), _ func(string)) { write("wal/notes", nil) }, "does not belong"},
		{"wrong directory", func(write func(string, []byte), _ func(string)) {
			write("wal/0000000200000000/"+name+".zst", enc.EncodeAll(files[name], nil))
		}, "does not belong"},
		{"no ending", func(write func(string, []byte), _ func(string)) { write("wal/00000009.history", nil) }, "does not belong"},
		{"not asked for", func(write func(string, []byte), _ func(string)) { write("wal/00000009.history.zst", nil) }, "should not be"},
		{"twice", func(write func(string, []byte), _ func(string)) {
			write(strings.TrimSuffix(object, ".zst")+".s2", s2.Encode(nil, files[name]))
		}, "stored twice"},
		{"other content", func(write func(string, []byte), _ func(string)) {
			write(object, enc.EncodeAll(cmdtest.Flip(files[name], 8<<20-1), nil))
		}, "is not what was archived"},
		{"short content", func(write func(string, []byte), _ func(string)) { write(object, enc.EncodeAll(files[name][:99], nil)) }, "is not what"},
		{"half an object", func(write func(string, []byte), _ func(string)) {
			write(object, enc.EncodeAll(files[name], nil)[:9999])
		}, "does not expand"},
		{"empty object", func(write func(string, []byte), _ func(string)) { write(object, nil) }, "is not what was archived"},
		{"broken identity", func(write func(string, []byte), _ func(string)) { write("archive.json", []byte("{")) }, "not JSON"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			spool := cmdtest.NewSpool(t, t.TempDir())
			spool.Bind(t, 1)
			write := func(path string, content []byte) {
				path = filepath.Join(string(spool), path)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write(object, enc.EncodeAll(files[name], nil))
			write("wal/"+history+".zst", enc.EncodeAll(files[history], nil))
			test.change(write, func(path string) { os.Remove(filepath.Join(string(spool), path)) })
			w := &witness{TB: t}
			spool.Check(w, files.Only(name, history))
			if (w.said == "") != (test.say == "") || !strings.Contains(w.said, test.say) {
				t.Errorf("got %q, want %q", w.said, test.say)
			}
		})
	}
	t.Run("mode", func(t *testing.T) {
		if runtime.GOOS == "windows" {
			t.Skip("there are no modes")
		}
		spool := cmdtest.NewSpool(t, t.TempDir())
		spool.Bind(t, 1)
		if err := os.Chmod(filepath.Join(string(spool), "archive.json"), 0o640); err != nil {
			t.Fatal(err)
		}
		w := &witness{TB: t}
		if spool.Check(w, nil); !strings.Contains(w.said, "mode 640") {
			t.Errorf("got %q", w.said)
		}
	})
}

// TestLayout checks that each byte of real segments is classified.
func TestLayout(t *testing.T) {
	for _, major := range []string{"10", "11", "12", "13", "14", "15", "16", "17", "18", "19"} {
		files := cmdtest.WAL(t, major)
		for _, i := range []int{0, 1, 2, 4} {
			segment := files[files.Segments()[i]]
			l := cmdtest.Read(t, segment)
			headers := 0
			for offset := range segment {
				at, ok := l.Position(offset)
				if !ok {
					headers++
				} else if l.Offset(at) != offset {
					t.Fatalf("%s: byte %d is at %d, which is byte %d", files.Segments()[i], offset, at, l.Offset(at))
				}
			}
			if want := 16 + 24*len(segment)/l.Block; headers != want {
				t.Errorf("%s: %d bytes of headers, want %d", files.Segments()[i], headers, want)
			}
			if len(l.Records) == 0 {
				t.Errorf("%s: no records", files.Segments()[i])
			}
		}
		first := files.Segments()[0]
		fork := cmdtest.Fork(t, files[first])
		if bytes.Equal(fork, files[first]) || len(fork) != len(files[first]) {
			t.Errorf("%s: the fork is no fork", major)
		}
	}
}
