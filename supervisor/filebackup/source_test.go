package filebackup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"walkeep/common/backup"
	"walkeep/common/wal"
)

const (
	testPage  = 8192
	testFiles = 131072 // pages of a full file
	testStart = wal.LSN(0x5000028)
)

// cluster makes a data directory without a server.
func cluster(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	control := make([]byte, testPage)
	binary.LittleEndian.PutUint64(control, 42)
	binary.LittleEndian.PutUint32(control[8:], 1300)
	binary.LittleEndian.PutUint32(control[12:], 202209061)
	binary.LittleEndian.PutUint32(control[288:], crc32.Checksum(control[:288], castagnoli))
	for _, sub := range []string{"pg_tblspc", "base/5", "global"} {
		must(t, os.MkdirAll(filepath.Join(dir, sub), 0o700))
	}
	write(t, dir, "global/pg_control", control)
	write(t, dir, "PG_VERSION", []byte("15\n"))
	for name, content := range files {
		write(t, dir, name, content)
	}
	return dir
}

func write(t *testing.T, dir, name string, content []byte) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// random gives bytes that no compressor and no mistake repeats.
func random(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n)})
	r.Read(b)
	return b
}

// A watched source records its messages.
type watched struct {
	*Source
	mu       sync.Mutex
	bad, out []string
}

func open(t *testing.T, dir string, checksums bool) *watched {
	t.Helper()
	w := new(watched)
	add := func(to *[]string) func(string) {
		return func(message string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			*to = append(*to, message)
		}
	}
	s, err := Open(t.Context(), Options{Dir: dir, Major: 15, Start: testStart, Checksums: checksums, PageSize: testPage, FilePages: testFiles,
		Readers: 3, Notice: add(&w.out), BadPage: add(&w.bad)})
	must(t, err)
	t.Cleanup(s.Close)
	w.Source = s
	s.pause = func() {}
	return w
}

// entries lists the files as the walk sees them at this moment.
func (w *watched) entries(t *testing.T) map[string]*file {
	t.Helper()
	all := make(map[string]*file)
	must(t, w.walk(func(e *entry) error {
		all[e.Path] = &file{entry: *e}
		return nil
	}))
	return all
}

// content reads a file that was listed earlier, as a reader does.
func (w *watched) content(f *file) ([]byte, error) {
	var b []byte
	parts := max(1, f.Blocks())
	f.unread.Store(int32(parts))
	for i := range parts {
		p := &part{file: f, at: int64(i) * backup.BlockSize, done: make(chan struct{}, 1)}
		p.n = int(min(f.Size-p.at, backup.BlockSize))
		w.read(p)
		if p.err != nil || f.gone {
			return nil, p.err
		}
		b = append(b, p.data[:p.n]...)
	}
	return b, nil
}

// Files change between the moment when they are listed and that when they are read.
func TestFilesChange(t *testing.T) {
	large := random(2*backup.BlockSize + 12345)
	small := random(20_000)
	names := []string{"gone", "gone-large", "grown", "cut", "cut-to-nothing", "replaced", "replaced-by-large"}
	files := make(map[string][]byte)
	for _, name := range names {
		files["base/5/"+name] = large
		if strings.HasPrefix(name, "replaced") || name == "gone" {
			files["base/5/"+name] = small
		}
	}
	dir := cluster(t, files)
	w := open(t, dir, false)
	listed := w.entries(t)
	at := func(name string) string { return filepath.Join(dir, "base/5", name) }
	must(t, os.Remove(at("gone")))
	must(t, os.Remove(at("gone-large")))
	must(t, os.WriteFile(at("grown"), append(slices.Clone(large), "more"...), 0o600))
	must(t, os.Truncate(at("cut"), backup.BlockSize+100))
	must(t, os.Truncate(at("cut-to-nothing"), 0))
	for name, content := range map[string][]byte{"replaced": random(30_000), "replaced-by-large": large} {
		must(t, os.WriteFile(at("new"), content, 0o600))
		must(t, os.Rename(at("new"), at(name)))
	}
	for name, want := range map[string][]byte{
		"gone": nil, "gone-large": nil, "grown": large,
		"cut":            append(slices.Clone(large[:backup.BlockSize+100]), make([]byte, len(large)-backup.BlockSize-100)...),
		"cut-to-nothing": make([]byte, len(large)),
		"replaced":       random(30_000), "replaced-by-large": large[:len(small)],
	} {
		f := listed["base/5/"+name]
		got, err := w.content(f)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: got %d bytes, or others, and %v; want %d", name, len(got), err, len(want))
		}
		if f.gone != (want == nil) {
			t.Errorf("%s: gone is %t", name, f.gone)
		}
	}
}

// page makes a page with the right checksum.
func page(number uint32, lsn wal.LSN) []byte {
	b := random(testPage)
	binary.NativeEndian.PutUint32(b[offLSN:], uint32(lsn>>32))
	binary.NativeEndian.PutUint32(b[offLSN+4:], uint32(lsn))
	binary.NativeEndian.PutUint16(b[offChecksum:], checksum(b, number))
	return b
}

// Pages are checked by the rules of the server.
func TestPages(t *testing.T) {
	old := testStart - 1
	broken := func(number uint32, lsn wal.LSN) []byte {
		b := page(number, lsn)
		b[5000]++
		return b
	}
	fresh := make([]byte, testPage)
	fresh[5000] = 1 // without an upper bound of free space a page is new
	many := bytes.Repeat(broken(0, old), 40)
	for name, c := range map[string]struct {
		file    string
		content []byte
		bad     []string // blocks
	}{
		"right":                {"16384", slices.Concat(page(0, old), page(1, old), page(2, old)), nil},
		"wrong":                {"16384", slices.Concat(page(0, old), broken(1, old), page(2, old)), []string{"block 1"}},
		"in another place":     {"16384", slices.Concat(page(1, old)), []string{"block 0"}},
		"second file":          {"16384.2", slices.Concat(page(2*testFiles, old), page(2*testFiles+1, old)), nil},
		"second file, wrong":   {"16384.2", slices.Concat(page(2*testFiles, old), page(1, old)), []string{"block 1"}},
		"of a fork":            {"16384_vm", broken(0, old), []string{"block 0"}},
		"of an init fork":      {"16384_init", broken(0, old), []string{"block 0"}},
		"changed since":        {"16384", broken(0, testStart), nil},
		"new":                  {"16384", fresh, nil},
		"part of a page":       {"16384", append(page(0, old), 1, 2, 3), nil},
		"no relation":          {"pg_filenode.map", broken(0, old), nil},
		"many":                 {"16384", many, []string{"block 0", "block 1", "block 2", "block 3", "block 4", "further"}},
		"behind a whole block": {"16384", slices.Concat(bytes.Repeat(page(7, testStart), 32), broken(32, old)), []string{"block 32"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := cluster(t, map[string][]byte{"base/5/" + c.file: c.content})
			w := open(t, dir, true)
			got, err := w.content(w.entries(t)["base/5/"+c.file])
			if err != nil || !bytes.Equal(got, c.content) {
				t.Errorf("got %d bytes, or others, and %v; want %d", len(got), err, len(c.content))
			}
			if len(w.bad) != len(c.bad) {
				t.Fatalf("got %q, want %q", w.bad, c.bad)
			}
			for i, want := range c.bad {
				if !strings.Contains(w.bad[i], want) || !strings.Contains(w.bad[i], "base/5/"+c.file) {
					t.Errorf("got %q, want %q", w.bad[i], want)
				}
			}

			w = open(t, dir, false)
			if _, err := w.content(w.entries(t)["base/5/"+c.file]); err != nil || len(w.bad) > 0 {
				t.Errorf("without checksums: got %q, %v", w.bad, err)
			}
		})
	}
}

// A page that is being written is read again, up to three times. One that is cut off meanwhile is zeros.
func TestTornPages(t *testing.T) {
	old := testStart - 1
	torn := slices.Concat(page(0, testStart)[:4096], page(0, old)[4096:])
	copy(torn[:8], page(0, old)[:8])
	for after := 1; after <= retries+1; after++ {
		dir := cluster(t, map[string][]byte{"base/5/16384": slices.Concat(torn, page(1, old))})
		w := open(t, dir, true)
		pauses := 0
		w.pause = func() {
			if pauses++; pauses == after {
				write(t, dir, "base/5/16384", slices.Concat(page(0, testStart), page(1, old)))
			}
		}
		got, err := w.content(w.entries(t)["base/5/16384"])
		if want := after > retries; err != nil || (len(w.bad) > 0) != want {
			t.Errorf("written before it is read again for the %dth time: got %q, %v", after, w.bad, err)
		}
		if after <= retries && !bytes.Equal(got, slices.Concat(page(0, testStart), page(1, old))) {
			t.Errorf("written before it is read again for the %dth time: the bytes are others", after)
		}
	}
	for _, left := range []int64{testPage, testPage + 100} {
		dir := cluster(t, map[string][]byte{"base/5/16384": slices.Concat(page(0, old), torn, page(2, old))})
		w := open(t, dir, true)
		w.pause = func() { must(t, os.Truncate(filepath.Join(dir, "base/5/16384"), left)) }
		got, err := w.content(w.entries(t)["base/5/16384"])
		if want := append(page(0, old), make([]byte, 2*testPage)...); err != nil || len(w.bad) > 0 || left == testPage && !bytes.Equal(got, want) {
			t.Errorf("cut off to %d: got %d bytes, or others, %q, %v", left, len(got), w.bad, err)
		}
	}
}

// Lanes yield each file once, and what they list has the checksums of what they have yielded.
func TestLanes(t *testing.T) {
	files := make(map[string][]byte)
	for i := range 400 {
		files[fmt.Sprintf("base/5/%d", 16384+i)] = random(i * 37 % 1000)
	}
	for i := range 5 {
		files[fmt.Sprintf("base/5/large%d", i)] = random(i*backup.BlockSize + i - 1 + 2*backup.BlockSize)
	}
	dir := cluster(t, files)
	for _, n := range []int{1, 2, 4} {
		w := open(t, dir, false)
		got := make(map[string][]byte)
		var group sync.WaitGroup
		for _, l := range w.Lanes(n) {
			group.Go(func() {
				for {
					f, r, err := l.Next()
					if errors.Is(err, io.EOF) {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
					if f.Dir {
						continue
					}
					b, err := io.ReadAll(r)
					if err != nil || int64(len(b)) != f.Size {
						t.Errorf("%s: %d bytes of %d, %v", f.Path, len(b), f.Size, err)
					}
					w.mu.Lock()
					if _, twice := got[f.Path]; twice {
						t.Errorf("%s was yielded twice", f.Path)
					}
					got[f.Path] = b
					w.mu.Unlock()
				}
			})
		}
		group.Wait()
		delete(got, "PG_VERSION")
		if !maps.EqualFunc(got, files, bytes.Equal) {
			t.Errorf("%d lanes: got %d files, or others; want %d", n, len(got), len(files))
		}
		for l := range w.listed.all() {
			if content, there := files[l.path]; there && l.crc != crc32.Checksum(content, castagnoli) {
				t.Errorf("%s: it is listed with a wrong checksum", l.path)
			}
		}
		if w.listed.count != len(files)+1 {
			t.Errorf("%d files are listed, want %d", w.listed.count, len(files)+1)
		}
	}
}

// A source can be closed at any moment, and leaves no file open.
func TestClose(t *testing.T) {
	dir := cluster(t, map[string][]byte{"base/5/1": random(20 * backup.BlockSize), "base/5/2": random(20 * backup.BlockSize), "base/5/3": random(10)})
	for _, calls := range []int{0, 1, 3, 4, 5, 6, 7} {
		before := len(descriptors(t))
		w := open(t, dir, false)
		lanes := w.Lanes(2)
		for range calls {
			_, r, err := lanes[0].Next()
			if err != nil {
				break
			}
			if r != nil {
				io.CopyN(io.Discard, r, backup.BlockSize+1)
			}
			if r != nil {
				break
			}
		}
		w.Close()
		if after := len(descriptors(t)); after > before {
			t.Errorf("after %d calls: %d files are open, before it were %d", calls, after, before)
		}
	}
	open(t, dir, false).Close() // it never began to read
}

func descriptors(t *testing.T) []os.DirEntry {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("this system does not list open files")
	}
	must(t, err)
	return all
}

// A control file that is being written is read again.
func TestControl(t *testing.T) {
	dir := cluster(t, nil)
	w := open(t, dir, false)
	good, err := os.ReadFile(filepath.Join(dir, "global/pg_control"))
	must(t, err)
	torn := slices.Clone(good)
	torn[100]++
	write(t, dir, "global/pg_control", torn)
	fixed := make(chan struct{})
	go func() {
		defer close(fixed)
		os.WriteFile(filepath.Join(dir, "new"), good, 0o600)
		os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "global/pg_control"))
	}()
	_, r, err := w.Control()
	<-fixed
	must(t, err)
	if b, err := io.ReadAll(r); err != nil || !bytes.Equal(b, good) {
		t.Errorf("got others than those of the right file, %v", err)
	}
}

// All readers together keep to the rate.
func TestRate(t *testing.T) {
	l := &limiter{rate: 1 << 40}
	var group sync.WaitGroup
	begun := time.Now()
	for range 4 {
		group.Go(func() {
			for range 100 {
				l.wait(t.Context(), 1<<30)
			}
		})
	}
	group.Wait()
	if took, least := l.free.Sub(begun), 400*time.Second/1024; took < least {
		t.Errorf("%s are reserved for the bytes, want %s", took, least)
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]relation{
		"16384": {number: "16384"}, "16384.1": {number: "16384", segment: 1}, "16384_fsm": {number: "16384"}, "16384_vm.12": {number: "16384", segment: 12},
		"16384_init": {number: "16384", init: true}, "4294967295": {number: "4294967295"},
	} {
		if got, ok := parseRelation(name); !ok || got != want {
			t.Errorf("%s: got %v, %t", name, got, ok)
		}
	}
	for _, name := range []string{"", "x", "016384", "16384.", "16384.0", "16384.01", "16384.x", "16384_", "16384_xx", "16384_vmx", "16384_vm.", "16384x", "t3_16384", "PG_VERSION", "99999999999"} {
		if got, ok := parseRelation(name); ok {
			t.Errorf("%s: got %v", name, got)
		}
	}
	for name, want := range map[string]bool{"t3_16384": true, "t3_16384_fsm.1": true, "t3_": false, "t_16384": false, "3_16384": false, "t3_x": false, "t3_16384x": false} {
		if got := temporary(name); got != want {
			t.Errorf("%s: got %t", name, got)
		}
	}
}
