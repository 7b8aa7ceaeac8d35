package cmdtest

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"sync"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// A Spool is a directory with an archive.
type Spool string

// NewSpool makes an empty spool.
func NewSpool(t testing.TB, parent string) Spool {
	t.Helper()
	s := Spool(filepath.Join(parent, "spool"))
	if err := os.Mkdir(string(s), 0o700); err != nil {
		t.Fatal(err)
	}
	return s
}

// An Object is a stored file.
type Object struct {
	Path   string
	Ending string // of the codec, with its dot
	Stored []byte
}

var layout = regexp.MustCompile(`^wal/(?:([0-9A-F]{16})/)?` +
	`((?:[0-9A-F]{24}(?:\.partial(?:\.[0-9a-f]{32})?|\.[0-9A-F]{8}\.backup)?)|[0-9A-F]{8}\.history)` +
	`(\.zst|\.s2|\.lz4|\.gz)$`)

// Objects reads the archive: its objects by the files' names, and the temporary files. It fails if anything else is
// there, or if other users may read a file.
func (s Spool) Objects() (objects map[string]Object, temporary []string, err error) {
	objects = make(map[string]Object)
	var wrong []error
	err = filepath.WalkDir(string(s), func(file string, d fs.DirEntry, err error) error {
		if err != nil || file == string(s) {
			return err
		}
		rel, err := filepath.Rel(string(s), file)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		err = checkMode(d)
		switch {
		case d.IsDir() || err != nil:
		case path.Ext(rel) == ".tmp":
			temporary = append(temporary, rel)
		default:
			err = s.add(objects, rel)
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", rel, err))
		}
		return nil
	})
	return objects, temporary, errors.Join(append(wrong, err)...)
}

func checkMode(d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil || runtime.GOOS == "windows" {
		return err
	}
	want := fs.FileMode(0o600)
	if d.IsDir() {
		want = 0o700
	}
	if got := info.Mode().Perm(); got != want {
		return fmt.Errorf("mode %o, want %o", got, want)
	}
	return nil
}

func (s Spool) add(objects map[string]Object, rel string) error {
	content, err := os.ReadFile(filepath.Join(string(s), filepath.FromSlash(rel)))
	if err != nil {
		return err
	}
	note := path.Ext(rel) == ".json" && (path.Dir(rel) == "standbys" || path.Dir(rel) == "damaged")
	if rel == "archive.json" || note {
		if !json.Valid(content) {
			return fmt.Errorf("not JSON: %q", content)
		}
		return nil
	}
	m := layout.FindStringSubmatch(rel)
	if m == nil || len(m[2]) < 24 != (m[1] == "") || m[1] != "" && m[1] != m[2][:16] {
		return errors.New("does not belong into an archive")
	}
	if twin, ok := objects[m[2]]; ok {
		return fmt.Errorf("stored twice, as %s too", twin.Path)
	}
	objects[m[2]] = Object{Path: filepath.Join(string(s), filepath.FromSlash(rel)), Ending: m[3], Stored: content}
	return nil
}

// Expand expands the stored bytes as the codec's own tools would.
func (o Object) Expand() ([]byte, error) {
	in := bytes.NewReader(o.Stored)
	var out bytes.Buffer
	var err error
	switch o.Ending {
	case ".zst":
		d, err := unzstd()
		if err != nil {
			return nil, err
		}
		return d.DecodeAll(o.Stored, nil)
	case ".gz":
		d, err := gzip.NewReader(in)
		if err != nil {
			return nil, err
		}
		_, err = out.ReadFrom(d)
		return out.Bytes(), err
	case ".lz4":
		_, err = out.ReadFrom(lz4.NewReader(in))
	case ".s2":
		_, err = out.ReadFrom(s2.NewReader(in))
	default:
		err = fmt.Errorf("unknown ending %q", o.Ending)
	}
	return out.Bytes(), err
}

// unzstd is shared, because making a decoder costs more than its work.
var unzstd = sync.OnceValues(func() (*zstd.Decoder, error) { return zstd.NewReader(nil) })

// The result of the WAL check in an object's trailer, as the codec's documentation specifies it.
const (
	NotWAL byte = iota
	NotChecked
	Intact
	Damaged
)

var magic = []byte("WALKEEP\x00")

// Trailer returns where the object's trailer begins, which is the end of its chunks; -1 if it has none.
func (o Object) Trailer() int {
	head := map[string]int{".zst": 8, ".lz4": 8, ".s2": 4, ".gz": 16}[o.Ending]
	return max(bytes.LastIndex(o.Stored, magic)-head, -1)
}

// WALCheck returns the result of the WAL check in the object's trailer; 255 if it has no trailer.
func (o Object) WALCheck() byte {
	at := bytes.LastIndex(o.Stored, magic)
	if at < 0 || at+11 >= len(o.Stored) {
		return 255
	}
	return o.Stored[at+11]
}

// Check fails the test unless the archive has exactly these files, each whole and once, and nothing else.
func (s Spool) Check(t testing.TB, want Files) {
	t.Helper()
	objects := s.CheckWhole(t, want)
	for name := range want {
		if _, ok := objects[name]; !ok {
			t.Errorf("spool: %s is missing", name)
		}
	}
}

// CheckWhole is Check for an archive that, after a fault, need not have all the files. It returns the existing
// objects.
func (s Spool) CheckWhole(t testing.TB, sources Files) map[string]Object {
	t.Helper()
	objects, temporary, err := s.Objects()
	if err == nil {
		err = equal(objects, sources)
	}
	if err != nil {
		t.Errorf("spool: %v", err)
	}
	if len(temporary) > 0 {
		t.Errorf("spool: temporary files are left: %q", temporary)
	}
	return objects
}

// CheckKilled is CheckWhole for an archive whose writers were killed, and may have left temporary files.
func (s Spool) CheckKilled(t testing.TB, sources Files) map[string]Object {
	t.Helper()
	objects, _, err := s.Objects()
	if err == nil {
		err = equal(objects, sources)
	}
	if err != nil {
		t.Errorf("spool: %v", err)
	}
	return objects
}

func equal(objects map[string]Object, sources Files) error {
	for name, o := range objects {
		want, ok := sources[name]
		if !ok {
			return fmt.Errorf("%s is there, and should not be", o.Path)
		}
		got, err := o.Expand()
		if err != nil {
			return fmt.Errorf("%s does not expand: %w", o.Path, err)
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%s is not what was archived", o.Path)
		}
	}
	return nil
}

// Object returns the object of a file.
func (s Spool) Object(t testing.TB, name string) Object {
	t.Helper()
	objects, _, err := s.Objects()
	if err != nil {
		t.Fatal(err)
	}
	o, ok := objects[name]
	if !ok {
		t.Fatalf("spool: %s is missing", name)
	}
	return o
}

// Bind binds the archive to a cluster with segments of 1 MB, as the first segment would.
func (s Spool) Bind(t testing.TB, id uint64) {
	t.Helper()
	content := fmt.Sprintf(`{"version":1,"system_identifier":"%d","segment_size":1048576}`+"\n", id)
	if err := os.MkdirAll(filepath.Join(string(s), "wal"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(string(s), "archive.json"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
