package listing_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"walkeep/common/storage"
	"walkeep/common/storage/listing"
	"walkeep/common/storage/mem"
)

// full is how many objects a directory of "full/" has at most.
const full = 4

// old is below which number full directories make a run with others between them, whose creation is announced.
const old = 5

func number(dir string) (n int) {
	fmt.Sscanf(dir, "full/%02d/", &n)
	return n
}

// policy settles full directories, from old on of numbers that follow each other.
var policy = listing.Policy{
	Note:    "notes/latest",
	Settles: func(dir string) bool { return strings.HasPrefix(dir, "full/") && len(dir) == len("full/00/") },
	Settled: func(_ []byte, dirs []*listing.Dir) (runs [][]*listing.Dir) {
		last := -2
		for _, d := range dirs {
			n := number(d.Name)
			switch there := len(slices.Collect(d.All())); {
			case there < full:
				last = -2
				continue
			case n == last+1, last >= 0 && n < old:
				runs[len(runs)-1] = append(runs[len(runs)-1], d)
			default:
				runs = append(runs, []*listing.Dir{d})
			}
			last = n
		}
		return runs
	},
	Announces: func(name string, created bool) bool {
		return strings.HasPrefix(name, "full/") && len(name) == len("full/00/00.x") && (!created || number(name) < old)
	},
}

func put(t *testing.T, b storage.Backend, name string) {
	t.Helper()
	if err := storage.PutAll(t.Context(), b, name, []byte(name)); err != nil {
		t.Fatal(err)
	}
}

// reopened is what another process reads of what is kept.
func reopened(t *testing.T, k *listing.Kept) *listing.Kept {
	t.Helper()
	if k == nil {
		return nil
	}
	var content bytes.Buffer
	again := new(listing.Kept)
	if err := gob.NewEncoder(&content).Encode(k); err != nil {
		t.Fatal(err)
	}
	if err := gob.NewDecoder(&content).Decode(again); err != nil {
		t.Fatal(err)
	}
	return again
}

func take(t *testing.T, b storage.Backend, kept *listing.Kept, anew bool) (*listing.Snapshot, *listing.Kept) {
	t.Helper()
	s, keep, err := listing.Take(t.Context(), b, policy, nil, reopened(t, kept), anew)
	if err != nil {
		t.Fatal(err)
	}
	return s, keep
}

func names(t *testing.T, list iter.Seq2[storage.Entry, error]) (all []string) {
	t.Helper()
	for e, err := range list {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprint(e.Name, " ", e.Size))
	}
	return all
}

// wantSame compares a snapshot with what is there.
func wantSame(t *testing.T, s *listing.Snapshot, b storage.Backend, when string) {
	t.Helper()
	for _, prefix := range []string{"", "f", "full", "full/", "full/0", "full/03/", "full/03/0", "full/03/01.x", "notes/", "none/", "other"} {
		for _, o := range []storage.ListOptions{{}, {Recursive: true}, {After: "full/03/"}, {Recursive: true, After: "full/03/01"}} {
			got, want := names(t, s.List(prefix, o)), names(t, b.List(t.Context(), prefix, o))
			if !slices.Equal(got, want) {
				t.Fatalf("%s: list %q (%+v): got %q, want %q", when, prefix, o, got, want)
			}
		}
	}
}

// What is listed with the help of what was kept is what is there, whatever was added and removed in between.
func TestTake(t *testing.T) {
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 0))
		below := new(mem.Backend)
		b := listing.Announce(below, policy)
		var kept *listing.Kept
		for step := range 30 {
			dir := fmt.Sprintf("full/%02d/", random.IntN(10))
			switch random.IntN(8) {
			case 0:
				if there, _ := storage.ListAll(t.Context(), b, dir); len(there) > 0 {
					if err := b.Remove(t.Context(), there[random.IntN(len(there))].Name); err != nil {
						t.Fatal(err)
					}
				}
			case 1:
				name := fmt.Sprintf("notes/%d", random.IntN(5))
				if err := b.Replace(t.Context(), name, make([]byte, random.IntN(9))); err != nil {
					t.Fatal(err)
				}
			case 2:
				storage.PutAll(t.Context(), b, []string{"a/1", "full/-", "full/x"}[random.IntN(3)], nil)
				storage.PutAll(t.Context(), b, "other", nil)
			default:
				for i := range 1 + random.IntN(full) {
					storage.PutAll(t.Context(), b, fmt.Sprintf("%s%02d.x", dir, i), make([]byte, random.IntN(9)))
				}
			}
			if random.IntN(2) == 0 {
				var s *listing.Snapshot
				s, kept = take(t, b, kept, random.IntN(5) == 0)
				wantSame(t, s, b, fmt.Sprintf("seed %d, step %d", seed, step))
			}
		}
	}
}

// A hooked backend calls a function before an object is listed.
type hooked struct {
	storage.Backend
	before string
	call   func()
}

func (h *hooked) List(ctx context.Context, prefix string, o storage.ListOptions) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		for e, err := range h.Backend.List(ctx, prefix, o) {
			if h.call != nil && e.Name >= h.before {
				call := h.call
				h.call = nil
				call()
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// A removal at any moment of a listing is seen by the next one.
func TestTakeWhileRemoving(t *testing.T) {
	for _, before := range []string{"full/01/02", "full/02/01", "notes/", "other"} {
		for _, warm := range []bool{false, true} {
			h := &hooked{Backend: new(mem.Backend), before: before}
			b := listing.Announce(h, policy)
			for dir := range 4 {
				for i := range full {
					put(t, b, fmt.Sprintf("full/%02d/%02d.x", dir, i))
				}
			}
			put(t, b, "other")
			put(t, b, "notes/1")
			var kept *listing.Kept
			if warm {
				if _, kept = take(t, b, nil, false); kept == nil || len(kept.Runs) != 1 || len(kept.Runs[0]) != 4 {
					t.Fatalf("kept %+v, want a run of four directories", kept)
				}
			}
			h.call = func() {
				if err := b.Remove(t.Context(), "full/01/01.x", "full/02/00.x"); err != nil {
					t.Error(err)
				}
			}
			_, kept = take(t, b, kept, false)
			s, _ := take(t, b, kept, false)
			wantSame(t, s, b, "after a removal before "+before)
		}
	}
}

// One who was killed while he removed objects leaves nothing that is kept, until somebody else has completed a removal.
func TestTakeAfterKilled(t *testing.T) {
	b := new(mem.Backend)
	for i := range full {
		put(t, b, fmt.Sprintf("full/01/%02d.x", i))
		put(t, b, fmt.Sprintf("full/02/%02d.x", i))
	}
	_, kept := take(t, b, nil, false)
	if err := b.Replace(t.Context(), policy.Note, []byte("changing x\n")); err != nil {
		t.Fatal(err)
	}
	if err := b.Remove(t.Context(), "full/01/00.x"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		var s *listing.Snapshot
		if s, kept = take(t, b, kept, false); kept != nil {
			t.Errorf("kept %+v", kept)
		}
		wantSame(t, s, b, "after a killed removal")
	}
	if err := listing.Announce(b, policy).Remove(t.Context(), "full/01/01.x"); err != nil {
		t.Fatal(err)
	}
	if _, kept = take(t, b, kept, false); kept == nil {
		t.Error("nothing is kept")
	}
}
