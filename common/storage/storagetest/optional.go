package storagetest

import (
	"errors"
	"strings"
	gosync "sync"
	"testing"

	"walkeep/common/storage"
)

func sync(t *testing.T, b *tested) {
	s, ok := storage.As[storage.Syncer](b)
	if !ok {
		return // in this backend what is visible is durable
	}
	for _, name := range []string{"object", "dir/sub/object"} {
		put(t, b, name, "x")
		if err := s.Sync(t.Context(), name); err != nil {
			t.Errorf("sync %s: %v", name, err)
		}
		wantContent(t, b, name, "x")
	}
	for _, name := range []string{"missing", "dir/missing", "missing/object"} {
		if err := s.Sync(t.Context(), name); !errors.Is(err, storage.ErrNotExist) {
			t.Errorf("sync %s: got %v, want ErrNotExist", name, err)
		}
	}
}

func replace(t *testing.T, b *tested) {
	put(t, b, "notes/put", "put")
	for _, name := range []string{"note", "notes/note", "notes/deeper/note", "notes/put"} {
		for _, content := range []string{"first", "", strings.Repeat("longer", 10_000), "last"} {
			b2 := []byte(content)
			if err := b.Replace(t.Context(), name, b2); err != nil {
				t.Errorf("replace %s: %v", name, err)
			}
			for i := range b2 {
				b2[i] = 'X' // the caller's again
			}
			wantContent(t, b, name, content)
		}
		if err := storage.Put(t.Context(), b, name, write("x"), nil); !errors.Is(err, storage.ErrExist) {
			t.Errorf("put %s: got %v, want ErrExist", name, err)
		}
		wantContent(t, b, name, "last")
	}
	wantList(t, b, "notes/", "notes/deeper/", "notes/note 4", "notes/put 4")
	if err := b.Remove(t.Context(), "notes/note"); err != nil {
		t.Error(err)
	}
	wantList(t, b, "notes/n")
}

// A note is always there while it is replaced, and always one of those that were written.
func replaceWholeForReaders(t *testing.T, b *tested) {
	short, long := strings.Repeat("s", 10), strings.Repeat("l", 100_000)
	if err := b.Replace(t.Context(), "note", []byte(short)); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var readers gosync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for ; ; b.pause() {
				select {
				case <-stop:
					return
				default:
				}
				if got, err := read(t.Context(), b, "note"); err != nil || got != short && got != long {
					t.Errorf("got %s, %v", clip(got), err)
					return
				}
			}
		})
	}
	for range 20 {
		for _, content := range []string{long, short} {
			if err := b.Replace(t.Context(), "note", []byte(content)); err != nil {
				t.Error(err)
			}
		}
	}
	close(stop)
	readers.Wait()
}

func readAll(t *testing.T, b *tested) {
	put(t, b, "object", "12345")
	for _, test := range []struct {
		limit int64
		want  string
		ok    bool
	}{{5, "12345", true}, {6, "12345", true}, {4, "", false}, {0, "", false}} {
		got, err := storage.ReadAll(t.Context(), b, "object", test.limit)
		if string(got) != test.want || (err == nil) != test.ok {
			t.Errorf("limit %d: got %q, %v, want %q", test.limit, got, err, test.want)
		}
	}
	if _, err := storage.ReadAll(t.Context(), b, "missing", 5); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("missing: got %v, want ErrNotExist", err)
	}
}
