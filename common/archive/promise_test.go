package archive_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"walkeep/common/archive/archivetest"
	"walkeep/common/storage"
	"walkeep/common/storage/mem"
)

// hooked is a backend that does something of its own before it stores an object, and may store it badly.
type hooked struct {
	mem.Backend
	before func()
	spoil  func(io.Reader) io.Reader // what is read back
	synced []string
}

func (b *hooked) Create(ctx context.Context, name string, o storage.CreateOptions) (storage.Writer, error) {
	if name == "archive.json" {
		return b.Backend.Create(ctx, name, o)
	}
	if b.before != nil {
		b.before()
	}
	w, err := b.Backend.Create(ctx, name, o)
	return spoiled{w, b}, err
}

type spoiled struct {
	storage.Writer
	b *hooked
}

func (w spoiled) Verify(ctx context.Context, read func(io.Reader) error) error {
	return w.Writer.Verify(ctx, func(r io.Reader) error {
		if w.b.spoil != nil {
			r = w.b.spoil(r)
		}
		return read(r)
	})
}

func (b *hooked) Sync(_ context.Context, name string) error {
	b.synced = append(b.synced, name)
	return nil
}

// A file that was there before is made durable before it is acknowledged again: its writer may have died before it was.
func TestDuplicateIsSynced(t *testing.T) {
	b := new(hooked)
	r := archivetest.New(t, b)
	var want []string
	for _, name := range []string{archivetest.Segment, archivetest.History2, archivetest.Partial} {
		done := r.MustPush(name, archivetest.File(t, name))
		if len(b.synced) != len(want) {
			t.Errorf("%s: a new object was synced again: %q", name, b.synced)
		}
		if again, err := r.Push(name, archivetest.File(t, name)); err != nil || !again.Duplicate {
			t.Errorf("%s: got %+v, %v, want a duplicate", name, again, err)
		}
		want = append(want, done.Object)
		if !slices.Equal(b.synced, want) {
			t.Errorf("%s: got %q synced, want %q", name, b.synced, want)
		}
	}
	if _, err := r.Push(archivetest.Segment, archivetest.Broken(archivetest.File(t, archivetest.Segment))); err == nil || len(b.synced) != len(want) {
		t.Errorf("a conflict: got %v, and %q synced", err, b.synced)
	}
}

// What a store has made of the bytes is read back before the file counts as archived.
func TestBadStore(t *testing.T) {
	for name, spoil := range map[string]func(io.Reader) io.Reader{
		"a bit": func(r io.Reader) io.Reader {
			b, _ := io.ReadAll(r)
			return bytes.NewReader(flip(b, len(b)/2))
		},
		"cut off":    func(r io.Reader) io.Reader { return io.LimitReader(r, 100) },
		"longer":     func(r io.Reader) io.Reader { return io.MultiReader(r, bytes.NewReader([]byte{0})) },
		"nothing":    func(io.Reader) io.Reader { return bytes.NewReader(nil) },
		"unreadable": func(io.Reader) io.Reader { return failingReader{} },
	} {
		t.Run(name, func(t *testing.T) {
			b := &hooked{spoil: spoil}
			r := archivetest.New(t, b)
			for _, file := range []struct {
				name    string
				content []byte
			}{{archivetest.Segment, archivetest.File(t, archivetest.Segment)}, {archivetest.History2, archivetest.File(t, archivetest.History2)}, {archivetest.Label, archivetest.File(t, archivetest.Label)}} {
				if done, err := r.Push(file.name, file.content); err == nil {
					t.Errorf("%s: got %+v, want an error", file.name, done)
				}
			}
			r.WantObjects()
			b.spoil = nil
			r.MustPush(archivetest.Segment, archivetest.File(t, archivetest.Segment))
			r.WantFetch(archivetest.Segment, archivetest.File(t, archivetest.Segment))
		})
	}
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, archivetest.ErrFault }

// A file that changes between the first look at it and the reading of it is not archived as something else.
func TestSourceChanges(t *testing.T) {
	for _, test := range []struct {
		what   string
		name   string
		change func(path string) error
	}{
		{"a segment gets shorter", archivetest.Segment, func(path string) error { return os.Truncate(path, 1<<19) }},
		{"a segment gets longer", archivetest.Segment, func(path string) error { return os.Truncate(path, 1<<20+8192) }},
		{"a segment gets empty", archivetest.Segment, func(path string) error { return os.Truncate(path, 0) }},
		{"a partial gets shorter", archivetest.Partial, func(path string) error { return os.Truncate(path, 1<<19) }},
		{"a history gets longer", archivetest.History2, func(path string) error { return os.Truncate(path, 100) }},
		{"a segment becomes another one", archivetest.Segment, func(path string) error {
			return os.WriteFile(path, archivetest.File(t, archivetest.Switched), 0o600) // in place, as a server recycles it
		}},
	} {
		t.Run(test.what, func(t *testing.T) {
			b := new(hooked)
			r := archivetest.New(t, b)
			b.before = func() {
				if err := test.change(filepath.Join(r.PgWAL, test.name)); err != nil {
					t.Error(err)
				}
			}
			if done, err := r.Push(test.name, archivetest.File(t, test.name)); err == nil || errors.Is(err, storage.ErrExist) {
				t.Errorf("got %+v, %v, want an error", done, err)
			}
			r.WantObjects()
		})
	}
}
