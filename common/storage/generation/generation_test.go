package generation_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"walkeep/common/storage"
	"walkeep/common/storage/generation"
	"walkeep/common/storage/mem"
	"walkeep/common/storage/storagetest"
)

func TestConformance(t *testing.T) {
	storagetest.Run(t, storagetest.Options{ManyWinners: true, NoSpaces: true}, func(*testing.T) storage.Backend { return generation.New(new(mem.Backend)) })
}

// between lets something happen after a writer has looked for other generations and before it stores its own.
type between struct {
	*mem.Backend
	do func()
}

func (b *between) Create(ctx context.Context, name string, o storage.CreateOptions) (storage.Writer, error) {
	w, err := b.Backend.Create(ctx, name, o)
	return &betweenWriter{w, b}, err
}

type betweenWriter struct {
	storage.Writer
	b *between
}

func (w *betweenWriter) Commit(ctx context.Context) error {
	if do := w.b.do; do != nil {
		w.b.do = nil
		do()
	}
	return w.Writer.Commit(ctx)
}

// Of two writers that store at the same moment, the older one notices the newer. The older one does not notice a newer one that
// stores later; both objects are kept.
func TestAtTheSameMoment(t *testing.T) {
	for _, olderFirst := range []bool{false, true} {
		inner := &between{Backend: new(mem.Backend)}
		b := generation.New(inner)
		begin := func(content string) storage.Writer {
			w, err := b.Create(t.Context(), "name", storage.CreateOptions{})
			if err == nil {
				_, err = w.Write([]byte(content))
			}
			if err != nil {
				t.Fatal(err)
			}
			return w
		}
		older := begin("older")
		for then := time.Now().UnixNano(); time.Now().UnixNano() == then; { // the clock of Windows stands still for milliseconds
		}
		newer := begin("newer")
		first, second := newer, older
		if olderFirst {
			first, second = older, newer
		}
		inner.do = func() {
			if err := first.Commit(t.Context()); err != nil {
				t.Errorf("older first %v: the first: %v", olderFirst, err)
			}
		}
		err := second.Commit(t.Context())
		if olderFirst && err != nil || !olderFirst && !errors.Is(err, storage.ErrExist) {
			t.Errorf("older first %v: the second: %v", olderFirst, err)
		}
		if got, err := storage.ReadAll(t.Context(), b, "name", 100); string(got) != "newer" || err != nil {
			t.Errorf("older first %v: got %q, %v, want the newer", olderFirst, got, err)
		}
		all, err := storage.ListAll(t.Context(), inner, "")
		if len(all) != 2 || err != nil {
			t.Errorf("got %v, %v, want both", all, err)
		}
		shown, err := storage.ListAll(t.Context(), b, "")
		if len(shown) != 1 || shown[0].Name != "name" || err != nil {
			t.Errorf("got %v, %v, want one", shown, err)
		}
		if err := b.Remove(t.Context(), "name"); err != nil {
			t.Error(err)
		}
		if all, err = storage.ListAll(t.Context(), inner, ""); len(all) != 0 || err != nil {
			t.Errorf("got %v, %v, want nothing", all, err)
		}
	}
}

// What another program has put beside a name does not make it absent.
func TestForeignNames(t *testing.T) {
	inner := new(mem.Backend)
	b := generation.New(inner)
	for _, name := range []string{"name x", "name"} {
		if name == "name" {
			if err := storage.PutAll(t.Context(), b, name, []byte("x")); err != nil {
				t.Fatal(err)
			}
		} else if err := storage.PutAll(t.Context(), inner, name, nil); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := storage.ReadAll(t.Context(), b, "name", 10); string(got) != "x" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	for _, name := range []string{"a b", "a!b"} {
		if err := storage.PutAll(t.Context(), b, name, nil); !errors.Is(err, storage.ErrName) {
			t.Errorf("%q: got %v, want ErrName", name, err)
		}
	}
}
