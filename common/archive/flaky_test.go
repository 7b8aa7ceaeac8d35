package archive_test

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"walkeep/common/archive"
	"walkeep/common/archive/archivetest"
	"walkeep/common/recovery"
	"walkeep/common/storage"
	"walkeep/common/storage/count"
	"walkeep/common/storage/flaky"
	"walkeep/common/storage/retry"
)

// An archive in a store with an object store's manners keeps what is promised.
func TestObjectStore(t *testing.T) {
	store := &flaky.Backend{Manners: flaky.Manners{NoReadBack: true, SilentRemove: true, LateExist: true, Page: 1, Busy: 4}}
	r := archivetest.New(t, retry.New(store, 10*time.Microsecond, time.Minute))
	for _, name := range []string{archivetest.Segment, archivetest.History2, archivetest.Partial, archivetest.Label} {
		r.MustPush(name, archivetest.File(t, name))
		if again, err := r.Push(name, archivetest.File(t, name)); err != nil || !again.Duplicate {
			t.Errorf("%s: got %+v, %v, want a duplicate", name, again, err)
		}
		r.WantFetch(name, archivetest.File(t, name))
	}
	_, err := r.Push(archivetest.Segment, archivetest.Broken(archivetest.File(t, archivetest.Segment)))
	archivetest.WantErr(t, "another content", err, archive.ErrConflict)
	if _, err := recovery.ReadInventory(t.Context(), r.A); err != nil {
		t.Error(err)
	}
}

// Archiving neither removes nor replaces anything.
func TestAppendOnly(t *testing.T) {
	store := &flaky.AppendOnly{Backend: &flaky.Backend{Manners: flaky.Manners{NoReadBack: true, LateExist: true, Page: 1}}}
	r := archivetest.New(t, store)
	for _, name := range []string{archivetest.Segment, archivetest.History2, archivetest.Partial, archivetest.Label} {
		r.MustPush(name, archivetest.File(t, name))
		if again, err := r.Push(name, archivetest.File(t, name)); err != nil || !again.Duplicate {
			t.Errorf("%s: got %+v, %v, want a duplicate", name, again, err)
		}
		r.WantFetch(name, archivetest.File(t, name))
	}
	broken := archivetest.Broken(archivetest.File(t, archivetest.Segment))
	_, err := r.Push(archivetest.Segment, broken)
	archivetest.WantErr(t, "another content", err, archive.ErrConflict)
	r.MustPush(archivetest.Switched, archivetest.Broken(archivetest.File(t, archivetest.Switched))) // with a note of damage
	if refused := store.Refused(); len(refused) > 0 {
		t.Errorf("the store has refused %q", refused)
	}
}

// A file whose answer got lost is not acknowledged, and is found to be there by the next call.
func TestLostAnswer(t *testing.T) {
	store := new(flaky.Backend)
	r := archivetest.New(t, store)
	r.MustPush(archivetest.History2, archivetest.File(t, archivetest.History2)) // makes the archive
	r.Bind(archivetest.SystemID(t, archivetest.File(t, archivetest.Segment)), 1<<20)
	store.LostAnswers = 1
	if done, err := r.Push(archivetest.Segment, archivetest.File(t, archivetest.Segment)); !errors.Is(err, flaky.ErrLost) {
		t.Fatalf("got %+v, %v, want that the answer was lost", done, err)
	}
	if _, err := r.Push(archivetest.Segment, archivetest.Broken(archivetest.File(t, archivetest.Segment))); !errors.Is(err, archive.ErrConflict) {
		t.Errorf("another content: got %v, want a conflict", err)
	}
	if done, err := r.Push(archivetest.Segment, archivetest.File(t, archivetest.Segment)); err != nil || !done.Duplicate {
		t.Errorf("again: got %+v, %v, want a duplicate", done, err)
	}
	r.WantFetch(archivetest.Segment, archivetest.File(t, archivetest.Segment))
}

// Of two contents of one name, at most one is acknowledged, whatever their endings are and whichever is quicker.
func TestTwinsInObjectStore(t *testing.T) {
	contents := [][]byte{archivetest.File(t, archivetest.Segment), archivetest.Broken(archivetest.File(t, archivetest.Segment))}
	for round := range 10 {
		store := &flaky.Backend{Manners: flaky.Manners{NoReadBack: true, LateExist: true}}
		store.LostAnswers = round % 4
		r := archivetest.New(t, store)
		var group sync.WaitGroup
		accepted := make([]bool, len(contents))
		for i, content := range contents {
			path := filepath.Join(archivetest.QuickDir(t), archivetest.Segment)
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			group.Go(func() {
				o := archivetest.Options(t, []string{"zstd", "lz4"}[i*(round%2)])
				for range 3 {
					if _, err := r.A.NewPusher(o).Push(t.Context(), path); err == nil {
						accepted[i] = true
					}
				}
			})
		}
		group.Wait()
		if accepted[0] && accepted[1] {
			t.Errorf("round %d: two contents are acknowledged", round)
		}
	}
}

// listed notes what is listed.
type listed struct {
	storage.Backend
	prefixes []string
}

func (l *listed) Unwrap() storage.Backend { return l.Backend }

func (l *listed) List(ctx context.Context, prefix string, o storage.ListOptions) iter.Seq2[storage.Entry, error] {
	l.prefixes = append(l.prefixes, prefix)
	return l.Backend.List(ctx, prefix, o)
}

// A segment's name is listed once, before anything is written. Afterwards each other name that another writer could have chosen
// is opened, which costs no listing.
func TestRequests(t *testing.T) {
	b := count.New(new(flaky.Backend))
	l := &listed{Backend: b}
	r := archivetest.New(t, l)
	r.MustPush(archivetest.History2, archivetest.File(t, archivetest.History2))
	r.MustPush(archivetest.Segment, archivetest.File(t, archivetest.Segment))
	next := bytes.Clone(archivetest.File(t, archivetest.Switched))
	l.prefixes = nil
	before := b.Counts()
	r.MustPush(archivetest.Switched, next)
	after := b.Counts()
	// where the name is not found, the directories of its timeline are listed, too
	want := []string{archivetest.Directory(archivetest.Switched) + archivetest.Switched, archive.WALDir + archivetest.Switched[:8]}
	if got := after.List - before.List; got != len(want) || !slices.Equal(l.prefixes, want) {
		t.Errorf("it took %d listings: %q, want %q", got, l.prefixes, want)
	}
	if got, stored := after.Requests()-before.Requests(), after.BytesWritten-before.BytesWritten; got > 13 || stored > int64(len(next)) {
		t.Errorf("it took %d requests and %d bytes: %+v before, %+v after", got, stored, before, after)
	}

	before, l.prefixes = after, nil
	if done, err := r.Push(archivetest.Switched, next); err != nil || !done.Duplicate {
		t.Errorf("again: got %+v, %v, want a duplicate", done, err)
	}
	if got := b.Counts().List - before.List; got != 1 {
		t.Errorf("it took %d listings to find a duplicate: %q", got, l.prefixes)
	}
}
