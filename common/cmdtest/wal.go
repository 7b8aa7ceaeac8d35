package cmdtest

import (
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Files are WAL files: their contents by PostgreSQL's names.
type Files map[string][]byte

// Only returns the files of these names.
func (f Files) Only(names ...string) Files {
	only := make(Files)
	for _, n := range names {
		only[n] = f[n]
	}
	return only
}

// Names lists the files in the order in which PostgreSQL archives them: histories first, then by name.
func (f Files) Names() []string {
	var names []string
	for n := range f {
		names = append(names, n)
	}
	slices.SortFunc(names, func(a, b string) int {
		if ha, hb := strings.HasSuffix(a, ".history"), strings.HasSuffix(b, ".history"); ha != hb {
			if ha {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	return names
}

// Segments lists the complete segments in the order of their names.
func (f Files) Segments() []string {
	return slices.DeleteFunc(f.Names(), func(n string) bool { return len(n) != 24 })
}

// Kind returns the first file with this ending, such as ".history".
func (f Files) Kind(t testing.TB, ending string) string {
	t.Helper()
	for _, n := range f.Names() {
		if strings.HasSuffix(n, ending) {
			return n
		}
	}
	t.Fatalf("no file ends in %s", ending)
	return ""
}

var majors sync.Map // the results of WAL, by major version

// WAL reads all the WAL files that a real server of a major version archived. They must not be changed.
func WAL(t testing.TB, major string) Files {
	t.Helper()
	read, _ := majors.LoadOrStore(major, sync.OnceValues(func() (Files, error) { return readWAL(major) }))
	files, err := read.(func() (Files, error))()
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 8 {
		t.Fatalf("the test data of version %s has %d files", major, len(files))
	}
	return files
}

func readWAL(major string) (Files, error) {
	root, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	d, err := unzstd()
	if err != nil {
		return nil, err
	}
	paths, err := filepath.Glob(filepath.Join(root, "testdata", "wal", major, "*.zst"))
	files := make(Files)
	for _, path := range paths {
		packed, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		name := strings.TrimSuffix(filepath.Base(path), ".zst")
		if files[name], err = d.DecodeAll(packed, nil); err != nil {
			return nil, err
		}
	}
	return files, err
}

// moduleRoot returns the module's directory, above the package whose test runs.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if filepath.Dir(dir) == dir {
			return "", io.ErrUnexpectedEOF
		}
		dir = filepath.Dir(dir)
	}
	return "", err
}

// Offsets in the header of a segment's first page (XLogLongPageHeaderData in src/include/access/xlog_internal.h).
const (
	offTimeline    = 4
	offPageAddr    = 8
	offRemLen      = 16
	offSystemID    = 24
	offSegmentSize = 32
	offBlockSize   = 36
	longHeader     = 40
	shortHeader    = 24
)

// SystemID reads the system identifier out of a segment.
func SystemID(segment []byte) uint64 { return binary.LittleEndian.Uint64(segment[offSystemID:]) }

// OfCluster returns the segment as another cluster would have written it.
func OfCluster(segment []byte, id uint64) []byte {
	other := slices.Clone(segment)
	binary.LittleEndian.PutUint64(other[offSystemID:], id)
	return other
}

// Flip returns the content with one bit changed.
func Flip(content []byte, bit int) []byte {
	other := slices.Clone(content)
	other[bit/8] ^= 1 << (bit % 8)
	return other
}

// A DataDir has the files of a server's data directory that the commands read.
type DataDir string

// NewDataDir makes a data directory with these files, if any, ready to be archived.
func NewDataDir(t testing.TB, parent string, waiting Files) DataDir {
	t.Helper()
	d := DataDir(filepath.Join(parent, "data"))
	for _, sub := range []string{"pg_wal/archive_status", "global"} {
		if err := os.MkdirAll(d.Path(sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range waiting {
		Write(t, d.Path("pg_wal", name), content)
		Write(t, d.Path("pg_wal/archive_status", name+".ready"), nil)
	}
	return d
}

// Path returns the path of a file in it.
func (d DataDir) Path(elements ...string) string {
	return filepath.Join(append([]string{string(d)}, elements...)...)
}

// SetControl writes a control file with the system identifier and the file's version, with which it begins in all
// releases (ControlFileData in src/include/catalog/pg_control.h).
func (d DataDir) SetControl(t testing.TB, id uint64) {
	t.Helper()
	content := make([]byte, 8192)
	binary.LittleEndian.PutUint64(content, id)
	binary.LittleEndian.PutUint32(content[8:], 1300)
	Write(t, d.Path("global/pg_control"), content)
}
