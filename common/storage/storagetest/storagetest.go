// Package storagetest holds every backend to the contract of package storage.
package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"walkeep/common/storage"
	"walkeep/common/storage/count"
)

// Options say in what a backend may differ from a directory, as the contract allows.
type Options struct {
	NoReadBack   bool // Verify's callback is called after the object has its name
	Confirms     bool // with NoReadBack: the store confirms the SHA-256, and Verify's callback is not called
	ManyWinners  bool // of several writers of a name more than one may succeed, and the newest object is read
	NoSpaces     bool // names with a space are refused
	SilentRemove bool // what is not there is removed without an error
	Remnants     bool // while an object is removed and stored again, a listing may show a directory of its name
	Requests     int  // that one test may take; 0: as many as it wants, which is more of them
}

// A tested backend counts what the suite asks of it.
type tested struct {
	*count.Backend
	Options
}

// rounds is how often a race is run.
func (b *tested) rounds() int {
	if b.Requests > 0 {
		return 5
	}
	return 50
}

// pause keeps those who look again and again from asking a store that has a budget too often.
func (b *tested) pause() {
	if b.Requests > 0 {
		time.Sleep(time.Millisecond)
	}
}

// wantMissing fails the test if the error of removing what is not there is not what it should be.
func (b *tested) wantMissing(t *testing.T, name string, err error) {
	t.Helper()
	if !errors.Is(err, storage.ErrNotExist) && !(b.SilentRemove && err == nil) {
		t.Errorf("remove %s, which is not there: got %v, want ErrNotExist", name, err)
	}
}

// Run tests the backends that open returns: an empty one at each call.
func Run(t *testing.T, o Options, open func(t *testing.T) storage.Backend) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, b *tested)
	}{
		{"Objects", objects},
		{"BigObject", bigObject},
		{"Names", names},
		{"NoNames", noNames},
		{"NotExist", notExist},
		{"Exist", exist},
		{"FailingPut", failingPut},
		{"Check", check},
		{"InvisibleUntilDone", invisibleUntilDone},
		{"Discard", discard},
		{"List", list},
		{"ListNothing", listNothing},
		{"Remove", remove},
		{"Directories", directories},
		{"Races", races},
		{"RacesUnderListing", racesUnderListing},
		{"NewDirectory", newDirectory},
		{"WholeForReaders", wholeForReaders},
		{"Sync", sync},
		{"Replace", replace},
		{"ReplaceWholeForReaders", replaceWholeForReaders},
		{"ReadAll", readAll},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := &tested{count.New(open(t)), o}
			test.run(t, b)
			if got := b.Counts().Requests(); o.Requests > 0 && got > o.Requests {
				t.Errorf("it took %d requests, more than %d", got, o.Requests)
			}
		})
	}
}

// put stores an object that must be stored.
func put(t *testing.T, b storage.Backend, name, content string) {
	t.Helper()
	if err := storage.Put(t.Context(), b, name, write(content), nil); err != nil {
		t.Fatalf("put %s: %v", name, err)
	}
}

// write writes the content in two parts.
func write(content string) func(io.Writer) error {
	return func(w io.Writer) error {
		half := len(content) / 2
		if _, err := io.WriteString(w, content[:half]); err != nil {
			return err
		}
		_, err := io.WriteString(w, content[half:])
		return err
	}
}

// read gives an object's content.
func read(ctx context.Context, b storage.Backend, name string) (string, error) {
	o, err := b.Open(ctx, name)
	if err != nil {
		return "", err
	}
	content, err := io.ReadAll(io.NewSectionReader(o, 0, o.Size()))
	return string(content), errors.Join(err, o.Close())
}

func wantContent(t *testing.T, b storage.Backend, name, want string) {
	t.Helper()
	got, err := read(t.Context(), b, name)
	if err != nil || got != want {
		t.Errorf("%s: got %s, %v, want %s", name, clip(got), err, clip(want))
	}
}

func clip(s string) string {
	if len(s) > 40 {
		return fmt.Sprintf("%.40q... (%d bytes)", s, len(s))
	}
	return fmt.Sprintf("%q", s)
}

// wantNothing fails the test if an object of this name is there in any way.
func wantNothing(t *testing.T, b storage.Backend, name string) {
	t.Helper()
	if _, err := b.Open(t.Context(), name); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("open %s: got %v, want ErrNotExist", name, err)
	}
	dir := name[:strings.LastIndexByte(name, '/')+1]
	for _, prefix := range []string{dir, name} {
		wantList(t, b, prefix)
	}
}

// wantList compares names and sizes, written as "name size" or "directory/".
func wantList(t *testing.T, b storage.Backend, prefix string, want ...string) {
	t.Helper()
	entries, err := storage.ListAll(t.Context(), b, prefix)
	if err != nil {
		t.Errorf("list %q: %v", prefix, err)
		return
	}
	var got []string
	for _, e := range entries {
		if e.IsDir() != strings.HasSuffix(e.Name, "/") || e.IsDir() && e.Size != 0 {
			t.Errorf("list %q: got %+v", prefix, e)
		}
		if e.IsDir() {
			got = append(got, e.Name)
		} else {
			got = append(got, fmt.Sprintf("%s %d", e.Name, e.Size))
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("list %q: got %q, want %q", prefix, got, want)
	}
}

func objects(t *testing.T, b *tested) {
	for name, content := range map[string]string{
		"archive.json": "{}\n",
		"empty":        "",
		"one":          "1",
		"wal/0000000100000000/000000010000000000000028.zst": strings.Repeat("x", 100_000),
		"zeros": string(make([]byte, 65537)),
	} {
		put(t, b, name, content)
		wantContent(t, b, name, content)
		o, err := b.Open(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if o.Size() != int64(len(content)) {
			t.Errorf("%s: got size %d, want %d", name, o.Size(), len(content))
		}
		parts(t, o, name, content)
		ranges(t, o, name, content)
		if err := o.Close(); err != nil {
			t.Errorf("%s: close: %v", name, err)
		}
	}
}

// parts reads at the borders of an object.
func parts(t *testing.T, o storage.Object, name, content string) {
	t.Helper()
	size := int64(len(content))
	for _, at := range []int64{0, 1, size / 2, size - 1, size, size + 1} {
		if at < 0 {
			continue
		}
		var p [5]byte
		n, err := o.ReadAt(p[:], at)
		want := ""
		if at < size {
			want = content[at:min(at+5, size)]
		}
		if string(p[:n]) != want || n < len(p) && err != io.EOF {
			t.Errorf("%s: 5 bytes at %d of %d: got %q, %v, want %q", name, at, size, p[:n], err, want)
		}
	}
}

// ranges reads from and to the borders of an object.
func ranges(t *testing.T, o storage.Object, name, content string) {
	t.Helper()
	size := int64(len(content))
	for _, r := range [][2]int64{{0, size}, {0, size + 5}, {0, 0}, {0, 1}, {1, 5}, {size / 2, size}, {max(0, size-1), 1}, {size, 1}} {
		want := content[min(r[0], size):min(r[0]+r[1], size)]
		rd, err := o.Reader(t.Context(), r[0], r[1])
		if err != nil {
			t.Errorf("%s: read %d bytes from %d: %v", name, r[1], r[0], err)
			continue
		}
		got, err := io.ReadAll(rd)
		if err = errors.Join(err, rd.Close()); string(got) != want || err != nil {
			t.Errorf("%s: read %d bytes from %d: got %s, %v, want %s", name, r[1], r[0], clip(string(got)), err, clip(want))
		}
	}
}

// bigObject is larger than what remote stores take in one part.
func bigObject(t *testing.T, b *tested) {
	block := make([]byte, 1<<20)
	for i := range block {
		block[i] = byte(i * 7 >> 3)
	}
	const blocks = 24
	writeAll := func(w io.Writer) error {
		for range blocks {
			if _, err := w.Write(block); err != nil {
				return err
			}
		}
		_, err := w.Write([]byte("end"))
		return err
	}
	compare := func(r io.Reader) error {
		got := make([]byte, len(block))
		for i := range blocks {
			if _, err := io.ReadFull(r, got); err != nil {
				return fmt.Errorf("block %d: %w", i, err)
			}
			if !bytes.Equal(got, block) {
				return fmt.Errorf("block %d differs", i)
			}
		}
		rest, err := io.ReadAll(r)
		if err == nil && string(rest) != "end" {
			err = fmt.Errorf("it ends with %d bytes", len(rest))
		}
		return err
	}
	if err := storage.Put(t.Context(), b, "big", writeAll, compare); err != nil {
		t.Fatal(err)
	}
	o, err := b.Open(t.Context(), "big")
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if err := compare(io.NewSectionReader(o, 0, o.Size())); err != nil {
		t.Error(err)
	}
	wantList(t, b, "", fmt.Sprintf("big %d", blocks<<20+3))
}

func names(t *testing.T, b *tested) {
	for _, name := range []string{
		"a", "A", "0", "a.b", "a..b", "-", "_", "a b", "a+b=c,d@e", "(x)", "é", "a%2Fb", "a'b",
		"a/b", "d/e/f/g/h", "wal/" + strings.Repeat("0123456789", 20) + ".zst",
	} {
		if b.NoSpaces && strings.Contains(name, " ") {
			continue
		}
		content := "content of " + name
		put(t, b, name, content)
		wantContent(t, b, name, content)
		wantList(t, b, name, fmt.Sprintf("%s %d", name, len(content)))
		if err := b.Remove(t.Context(), name); err != nil {
			t.Errorf("remove %q: %v", name, err)
		}
	}
}

// outside are names that would lead out of the archive, or elsewhere on some system.
var outside = []string{
	"/", "//", "/a", "/etc/passwd", "a//b", "a//", ".", "..", "./a", "../a", "a/.", "a/..", "a/../b", "a/./b", "a/../../b", "../",
	`\a`, `a\b`, `..\a`, "a:b", "C:", "C:/a", `\\server\share`, "a\x00b", "\x00", ".a", "a/.b", ".a.tmp",
}

func noNames(t *testing.T, b *tested) {
	called := func(io.Writer) error {
		t.Error("write is called for a name that is none")
		return nil
	}
	for _, name := range append(outside, "", "a/", "a/b/") {
		errs := map[string]error{
			"Put":    storage.Put(t.Context(), b, name, called, nil),
			"Remove": b.Remove(t.Context(), name),
		}
		_, errs["Open"] = b.Open(t.Context(), name)
		if s, ok := storage.As[storage.Syncer](b); ok {
			errs["Sync"] = s.Sync(t.Context(), name)
		}
		errs["Replace"] = b.Replace(t.Context(), name, []byte("x"))
		for method, err := range errs {
			if !errors.Is(err, storage.ErrName) {
				t.Errorf("%s %q: got %v, want ErrName", method, name, err)
			}
		}
	}
	for _, prefix := range outside {
		if entries, err := storage.ListAll(t.Context(), b, prefix); !errors.Is(err, storage.ErrName) {
			t.Errorf("List %q: got %v, %v, want ErrName", prefix, entries, err)
		}
	}
	wantList(t, b, "")
}

func notExist(t *testing.T, b *tested) {
	put(t, b, "there/object", "x")
	for _, name := range []string{"a", "there/objec", "there/object2", "there/deeper/object", "missing/object"} {
		if o, err := b.Open(t.Context(), name); !errors.Is(err, storage.ErrNotExist) {
			t.Errorf("open %s: got %v, %v, want ErrNotExist", name, o, err)
		}
		b.wantMissing(t, name, b.Remove(t.Context(), name))
	}
	wantContent(t, b, "there/object", "x")
}

func exist(t *testing.T, b *tested) {
	for _, name := range []string{"object", "dir/object"} {
		for _, first := range []string{"first", ""} {
			put(t, b, name, first)
			for _, second := range []string{"second", "", "first"} {
				for _, check := range []func(io.Reader) error{nil, func(io.Reader) error { return nil }} {
					if err := storage.Put(t.Context(), b, name, write(second), check); !errors.Is(err, storage.ErrExist) {
						t.Errorf("%s: got %v, want ErrExist", name, err)
					}
				}
				wantContent(t, b, name, first)
			}
			if err := b.Remove(t.Context(), name); err != nil {
				t.Error(err)
			}
		}
	}
}

var errFault = errors.New("injected fault")

func failingPut(t *testing.T, b *tested) {
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	tests := []struct {
		name  string
		ctx   context.Context
		write func(io.Writer) error
		check func(io.Reader) error
		want  error
	}{
		{"write fails at once", t.Context(), func(io.Writer) error { return errFault }, nil, errFault},
		{"write fails later", t.Context(), func(w io.Writer) error {
			return errors.Join(write(strings.Repeat("x", 1<<20))(w), errFault)
		}, nil, errFault},
		{"write fails with what the backend may say", t.Context(), func(io.Writer) error { return storage.ErrNotExist }, nil, storage.ErrNotExist},
		{"check fails at once", t.Context(), write("content"), func(io.Reader) error { return errFault }, errFault},
		{"check fails later", t.Context(), write("content"), func(r io.Reader) error {
			_, err := io.ReadAll(r)
			return errors.Join(err, errFault)
		}, errFault},
		{"it is canceled", canceled, write("content"), nil, context.Canceled},
	}
	for i, test := range tests {
		if test.check != nil && b.Confirms {
			continue
		}
		name := fmt.Sprintf("dir%d/object", i)
		if err := storage.Put(test.ctx, b, name, test.write, test.check); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, err, test.want)
		}
		if test.check != nil && b.NoReadBack {
			wantContent(t, b, name, "content") // another writer may have counted on it already
			continue
		}
		wantNothing(t, b, name)
		put(t, b, name, "afterwards")
		wantContent(t, b, name, "afterwards")
	}
}

func check(t *testing.T, b *tested) {
	for i, content := range []string{"", "x", strings.Repeat("0123456789", 30_000)} {
		calls := 0
		name := fmt.Sprint(i)
		err := storage.Put(t.Context(), b, name, write(content), func(r io.Reader) error {
			calls++
			got, err := io.ReadAll(r)
			if err == nil && string(got) != content {
				err = fmt.Errorf("got %s", clip(string(got)))
			}
			return err
		})
		want := 1
		if b.Confirms {
			want = 0
		}
		if err != nil || calls != want {
			t.Errorf("%s: got %v after %d calls, want %d", clip(content), err, calls, want)
		}
		wantContent(t, b, name, content)
	}
	// A check that does not look takes nothing from the object.
	if err := storage.Put(t.Context(), b, "unread", write("content"), func(io.Reader) error { return nil }); err != nil {
		t.Error(err)
	}
	wantContent(t, b, "unread", "content")
}

func invisibleUntilDone(t *testing.T, b *tested) {
	err := storage.Put(t.Context(), b, "dir/object", func(w io.Writer) error {
		err := write(strings.Repeat("x", 300_000))(w)
		wantNothing(t, b, "dir/object")
		return err
	}, func(r io.Reader) error {
		if !b.NoReadBack {
			wantNothing(t, b, "dir/object")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	wantList(t, b, "dir/", "dir/object 300000")
}

// What is discarded was never there, and what has a name stays.
func discard(t *testing.T, b *tested) {
	begin := func(verify bool) storage.Writer {
		w, err := b.Create(t.Context(), "dir/object", storage.CreateOptions{Size: 5})
		if err == nil {
			_, err = io.WriteString(w, "longer than was expected")
		}
		if err == nil && verify {
			err = w.Verify(t.Context(), func(io.Reader) error { return nil })
		}
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	for _, verify := range []bool{false, true} {
		w := begin(verify)
		w.Discard()
		w.Discard()
		wantNothing(t, b, "dir/object")
	}
	ended, end := context.WithCancel(t.Context())
	end()
	w := begin(true)
	if err := w.Commit(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("commit: got %v, want that its context has ended", err)
	}
	w.Discard()
	wantNothing(t, b, "dir/object")
	w = begin(true)
	if err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.Discard()
	wantContent(t, b, "dir/object", "longer than was expected")
}
