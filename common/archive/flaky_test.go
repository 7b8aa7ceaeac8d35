package archive_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"walkeep/common/archive"
	"walkeep/common/storage/count"
	"walkeep/common/storage/flaky"
	"walkeep/common/storage/retry"
)

// An archive in a store with an object store's manners keeps what is promised.
func TestObjectStore(t *testing.T) {
	store := &flaky.Backend{Manners: flaky.Manners{NoReadBack: true, SilentRemove: true, LateExist: true, Page: 1, Busy: 4}}
	r := newRig(t, retry.New(store, 10*time.Microsecond, time.Minute))
	for _, name := range []string{segment, history2, partial, label} {
		r.mustPush(name, file(t, name))
		if again, err := r.push(name, file(t, name)); err != nil || !again.Duplicate {
			t.Errorf("%s: got %+v, %v, want a duplicate", name, again, err)
		}
		r.wantFetch(name, file(t, name))
	}
	_, err := r.push(segment, broken(file(t, segment)))
	wantErr(t, "another content", err, archive.ErrConflict)
	if _, err := r.a.Inventory(t.Context()); err != nil {
		t.Error(err)
	}
}

// A file whose answer got lost is not acknowledged, and is found to be there by the next call.
func TestLostAnswer(t *testing.T) {
	store := new(flaky.Backend)
	r := newRig(t, store)
	r.mustPush(history2, file(t, history2)) // makes the archive
	r.bind(systemID(t, file(t, segment)), 1<<20)
	store.LostAnswers = 1
	if done, err := r.push(segment, file(t, segment)); !errors.Is(err, flaky.ErrLost) {
		t.Fatalf("got %+v, %v, want that the answer was lost", done, err)
	}
	if _, err := r.push(segment, broken(file(t, segment))); !errors.Is(err, archive.ErrConflict) {
		t.Errorf("another content: got %v, want a conflict", err)
	}
	if done, err := r.push(segment, file(t, segment)); err != nil || !done.Duplicate {
		t.Errorf("again: got %+v, %v, want a duplicate", done, err)
	}
	r.wantFetch(segment, file(t, segment))
}

// Of two contents of one name, at most one is acknowledged, whatever their endings are and whoever is quicker.
func TestTwinsInObjectStore(t *testing.T) {
	contents := [][]byte{file(t, segment), broken(file(t, segment))}
	for round := range 10 {
		store := &flaky.Backend{Manners: flaky.Manners{NoReadBack: true, LateExist: true}}
		store.LostAnswers = round % 4
		r := newRig(t, store)
		var group sync.WaitGroup
		accepted := make([]bool, len(contents))
		for i, content := range contents {
			path := filepath.Join(quickDir(t), segment)
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			group.Go(func() {
				o := options(t, []string{"zstd", "lz4"}[i*(round%2)])
				for range 3 {
					if _, err := r.a.NewPusher(o).Push(t.Context(), path); err == nil {
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

// A segment's name is listed twice: before anything is written, and after it was given.
func TestRequests(t *testing.T) {
	b := count.New(new(flaky.Backend))
	r := newRig(t, b)
	r.mustPush(history2, file(t, history2))
	r.mustPush(segment, file(t, segment))
	next := bytes.Clone(file(t, switched))
	before := b.Counts()
	r.mustPush(switched, next)
	after := b.Counts()
	if got := after.List - before.List; got > 3 { // one for the directories of its timeline, where nothing was found
		t.Errorf("it took %d listings", got)
	}
	if got, stored := after.Requests()-before.Requests(), after.BytesWritten-before.BytesWritten; got > 7 || stored > int64(len(next)) {
		t.Errorf("it took %d requests and %d bytes", got, stored)
	}
}
