package repository

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/storage"
	"walkeep/common/storage/listing"
	"walkeep/common/storage/mem"
)

// What is kept of a repository's listings hides nothing that walkeep adds or removes later.
func TestListings(t *testing.T) {
	now := time.Now()
	below := new(mem.Backend)
	b := listing.Announce(below, listings)
	put := func(b storage.Backend, name string) {
		t.Helper()
		if err := storage.PutAll(t.Context(), b, name, []byte(name)); err != nil {
			t.Fatal(err)
		}
	}
	manifest := func(days int) string {
		return backup.Dir(backup.NewID(now.AddDate(0, 0, -days), 1)) + backup.ManifestName
	}
	segment := func(log, n int) string { return fmt.Sprintf("wal/00000001%08X/00000001%08X%08X.zst", log, log, n) }
	identity := []byte(`{"version":1,"system_identifier":"7","segment_size":1073741824}`) // four segments in a directory
	if err := b.Replace(t.Context(), archive.IdentityName, identity); err != nil {
		t.Fatal(err)
	}
	var kept *listing.Kept
	listed := func(anew bool) (names []string, keeps int) {
		t.Helper()
		s, keep, err := listing.Take(t.Context(), b, listings, identity, kept, anew)
		if err != nil {
			t.Fatal(err)
		}
		for e, err := range s.List("", storage.ListOptions{Recursive: true}) {
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, e.Name)
		}
		if kept = keep; keep != nil {
			for _, run := range keep.Runs {
				keeps += len(run)
			}
		}
		return names, keeps
	}
	want := func(step string, keeps int) {
		t.Helper()
		var there []string
		for e := range below.List(t.Context(), "", storage.ListOptions{Recursive: true}) {
			there = append(there, e.Name)
		}
		if names, n := listed(false); !slices.Equal(names, there) || n != keeps {
			t.Errorf("%s: listed %q and keeps %d directories, want %q and %d", step, names, n, there, keeps)
		}
	}

	for _, days := range []int{40, 30, 20, 10, 1} {
		put(b, manifest(days))
	}
	for n := range 10 {
		put(b, segment(n/4, n%4))
	}
	want("at first", 4+2)
	put(b, segment(2, 2))
	put(b, segment(2, 3))
	put(b, segment(3, 0))
	put(b, manifest(0))
	want("a directory is full", 4+3)
	put(b, manifest(5))
	want("a backup comes a little late", 4+3)
	put(b, backup.Dir(backup.NewID(now.AddDate(0, 0, -15), 1))+"data-0001.tar.zst")
	put(b, manifest(15))
	want("a backup comes late, between others that are kept", 5+3)
	if err := b.Remove(t.Context(), segment(0, 1)); err != nil {
		t.Fatal(err)
	}
	want("a segment is removed", 5+2)
	if err := b.Remove(t.Context(), manifest(30)); err != nil {
		t.Fatal(err)
	}
	want("a backup is removed", 4+2)
	if err := below.Remove(t.Context(), segment(1, 0)); err != nil { // as another program does
		t.Fatal(err)
	}
	if names, _ := listed(true); slices.Contains(names, segment(1, 0)) {
		t.Error("a segment that another program has removed is listed anew")
	}
	want("all was listed anew", 4+1)
}
