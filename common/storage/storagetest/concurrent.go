package storagetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	gosync "sync"
	"testing"
	"time"

	"walkeep/common/storage"
)

// contentOf gives each writer its own content: distinct, of several lengths, and with a visible end.
func contentOf(writer int) string {
	return strings.Repeat(fmt.Sprintf("writer %d;", writer), 1000*(writer%3+1)) + "end"
}

// race lets writers put one name at once. Exactly one wins, the others hear that the name is taken, and the winner's
// content is there and stays.
func race(t *testing.T, b *tested, name string, writers int) {
	errs := make([]error, writers)
	var done gosync.WaitGroup
	meet := meeting(writers)
	for i := range writers {
		done.Go(func() {
			var once gosync.Once
			errs[i] = storage.Put(t.Context(), b, name, func(w io.Writer) error {
				once.Do(meet) // all of them have found the name free before one has stored anything
				return write(contentOf(i))(w)
			}, nil)
		})
	}
	done.Wait()
	winner := -1
	for i, err := range errs {
		switch {
		case err == nil && b.ManyWinners:
			if got, err := read(t.Context(), b, name); err == nil && got == contentOf(i) || winner < 0 {
				winner = i
			}
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
	if err := storage.Put(t.Context(), b, name, write("late"), nil); !errors.Is(err, storage.ErrExist) {
		t.Errorf("%s: a late writer: got %v, want ErrExist", name, err)
	}
	wantContent(t, b, name, contentOf(winner))
}

// meeting returns a function that waits until it was called so often, but not for long: a backend may let only some
// of the callers write at once.
func meeting(callers int) func() {
	var here gosync.WaitGroup
	here.Add(callers)
	all := make(chan struct{})
	go func() {
		here.Wait()
		close(all)
	}()
	return func() {
		here.Done()
		select {
		case <-all:
		case <-time.After(time.Second):
		}
	}
}

func races(t *testing.T, b *tested) {
	for i := range b.rounds() {
		race(t, b, fmt.Sprintf("dir/%d", i), 8)
	}
	entries, err := storage.ListAll(t.Context(), b, "dir/")
	if err != nil || len(entries) != b.rounds() {
		t.Errorf("got %d objects, %v, want %d", len(entries), err, b.rounds())
	}
}

// Listings at the same time neither fail nor show what is not an object.
func racesUnderListing(t *testing.T, b *tested) {
	ctx, stop := context.WithCancel(t.Context())
	var listers gosync.WaitGroup
	for range 2 {
		listers.Go(func() {
			for ; ctx.Err() == nil; b.pause() {
				entries, err := storage.ListAll(t.Context(), b, "dir/")
				if err != nil {
					t.Error(err)
					return
				}
				for _, e := range entries {
					if b.Remnants && e.Name == "dir/x/" {
						continue
					}
					if e.Name != "dir/x" || e.Size < int64(len(contentOf(0))) {
						t.Errorf("listed: %+v", e)
						return
					}
				}
			}
		})
	}
	for range b.rounds() * 2 / 5 {
		race(t, b, "dir/x", 4)
		if err := b.Remove(t.Context(), "dir/x"); err != nil {
			t.Error(err)
		}
	}
	stop()
	listers.Wait()
}

// Many writers make the same directories at once.
func newDirectory(t *testing.T, b *tested) {
	for round := range 5 {
		var done gosync.WaitGroup
		for i := range 16 {
			done.Go(func() {
				name := fmt.Sprintf("a%d/b/c/%d", round, i)
				if err := storage.Put(t.Context(), b, name, write(name), nil); err != nil {
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

// A reader that finds an object finds all of it.
func wholeForReaders(t *testing.T, b *tested) {
	content := strings.Repeat("0123456789abcdef", 1<<16)
	for round := range 5 {
		name := fmt.Sprintf("dir/%d", round)
		var readers gosync.WaitGroup
		for range 4 {
			readers.Go(func() {
				for ; t.Context().Err() == nil; b.pause() {
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
		err := storage.Put(t.Context(), b, name, func(w io.Writer) error {
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
