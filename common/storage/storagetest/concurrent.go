package storagetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	gosync "sync"
	"testing"

	"walkeep/common/storage"
)

// contents are distinct, of several lengths, and each tells when a part of it is missing.
func contentOf(writer int) string {
	return strings.Repeat(fmt.Sprintf("writer %d;", writer), 1000*(writer%3+1)) + "end"
}

// race lets writers put one name at once. Exactly one wins, the others hear that the name is taken, and the winner's
// content is there and stays.
func race(t *testing.T, b storage.Backend, name string, writers int) {
	errs := make([]error, writers)
	var ready, done gosync.WaitGroup
	ready.Add(writers)
	for i := range writers {
		done.Go(func() {
			first := true
			errs[i] = b.Put(t.Context(), name, func(w io.Writer) error {
				if first { // all of them have found the name free before one has stored anything
					first = false
					ready.Done()
					ready.Wait()
				}
				return write(contentOf(i))(w)
			}, nil)
		})
	}
	done.Wait()
	winner := -1
	for i, err := range errs {
		switch {
		case err == nil && winner >= 0:
			t.Errorf("%s: writers %d and %d have both won", name, winner, i)
		case err == nil:
			winner = i
		case !errors.Is(err, storage.ErrExist):
			t.Errorf("%s: writer %d: got %v, want ErrExist", name, i, err)
		}
	}
	if winner < 0 {
		t.Errorf("%s: nobody has won: %v", name, errs)
		return
	}
	wantContent(t, b, name, contentOf(winner))
	if err := b.Put(t.Context(), name, write("late"), nil); !errors.Is(err, storage.ErrExist) {
		t.Errorf("%s: a late writer: got %v, want ErrExist", name, err)
	}
	wantContent(t, b, name, contentOf(winner))
}

func races(t *testing.T, b storage.Backend) {
	for i := range 50 {
		race(t, b, fmt.Sprintf("dir/%d", i), 8)
	}
	entries, err := b.List(t.Context(), "dir/")
	if err != nil || len(entries) != 50 {
		t.Errorf("got %d objects, %v, want 50", len(entries), err)
	}
}

// Listings at the same time neither fail nor show what is not an object.
func racesUnderListing(t *testing.T, b storage.Backend) {
	ctx, stop := context.WithCancel(t.Context())
	var listers gosync.WaitGroup
	for range 2 {
		listers.Go(func() {
			for ctx.Err() == nil {
				entries, err := b.List(t.Context(), "dir/")
				if err != nil {
					t.Error(err)
					return
				}
				for _, e := range entries {
					if e.Name != "dir/x" || e.Size < int64(len(contentOf(0))) {
						t.Errorf("listed: %+v", e)
						return
					}
				}
			}
		})
	}
	for range 20 {
		race(t, b, "dir/x", 4)
		if err := b.Remove(t.Context(), "dir/x"); err != nil {
			t.Error(err)
		}
	}
	stop()
	listers.Wait()
}

// Many writers make the same directories at once.
func newDirectory(t *testing.T, b storage.Backend) {
	for round := range 5 {
		var done gosync.WaitGroup
		for i := range 16 {
			done.Go(func() {
				name := fmt.Sprintf("a%d/b/c/%d", round, i)
				if err := b.Put(t.Context(), name, write(name), nil); err != nil {
					t.Errorf("put %s: %v", name, err)
				}
			})
		}
		done.Wait()
		for i := range 16 {
			name := fmt.Sprintf("a%d/b/c/%d", round, i)
			wantContent(t, b, name, name)
		}
	}
}

// Whoever sees an object sees all of it.
func wholeForReaders(t *testing.T, b storage.Backend) {
	content := strings.Repeat("0123456789abcdef", 1<<16)
	for round := range 5 {
		name := fmt.Sprintf("dir/%d", round)
		var readers gosync.WaitGroup
		for range 4 {
			readers.Go(func() {
				for t.Context().Err() == nil {
					got, err := read(t.Context(), b, name)
					if errors.Is(err, storage.ErrNotExist) {
						continue
					}
					if err != nil || got != content {
						t.Errorf("%s: got %s, %v, want all of it", name, clip(got), err)
					}
					return
				}
			})
		}
		err := b.Put(t.Context(), name, func(w io.Writer) error {
			for part := content; part != ""; part = part[1<<16:] {
				if _, err := io.WriteString(w, part[:1<<16]); err != nil {
					return err
				}
			}
			return nil
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		readers.Wait()
	}
}
