package retain_test

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/cmdtest"
	"walkeep/common/notes"
	"walkeep/common/recovery"
	"walkeep/common/storage"
	"walkeep/common/storage/mem"
	"walkeep/supervisor/retain"
)

func live(notes.Lease) bool { return true }

// clean cleans up, at noon unless another time is given, and returns the objects that it reports as removed.
func clean(t testing.TB, b storage.Backend, o retain.Options) ([]string, *retain.Report) {
	t.Helper()
	var removed []string
	if o.Now.IsZero() {
		o.Now = noon
	}
	o.Removed = func(object string, _ int64) { removed = append(removed, object) }
	if o.Live == nil {
		o.Live = live
	}
	r, err := retain.Clean(context.Background(), archive.New(b), o)
	if err != nil {
		t.Fatal(err)
	}
	return removed, r
}

// A cleanup of a real archive removes what its dry run lists and what the oracle does not need. A second cleanup
// removes nothing.
func TestCleanRandom(t *testing.T) {
	cmdtest.Long(t)
	base := seed(t)
	for i := range min(rounds(1000), 20_000) {
		m := random(rand.New(rand.NewPCG(base, uint64(i))))
		b := new(mem.Backend)
		m.store(t, b)
		before := objects(t, b)
		o := retain.Options{Policy: m.policy, DryRun: true}
		dry, _ := clean(t, b, o)
		if got := objects(t, b); !slices.Equal(got, before) {
			t.Fatalf("history %d: the dry run has changed the archive", i)
		}
		o.DryRun = false
		removed, report := clean(t, b, o)
		if !slices.Equal(dry, removed) {
			t.Fatalf("history %d: the dry run says %q, the run removed %q\n%s", i, dry, removed, m)
		}
		if report.Total.Objects != len(removed) {
			t.Fatalf("history %d: the report counts %d objects, %d were removed", i, report.Total.Objects, len(removed))
		}
		if got, want := objects(t, b), m.remaining(before); !slices.Equal(got, want) {
			t.Fatalf("history %d: left %q\nwant %q\n%s", i, got, want, m)
		}
		if again, _ := clean(t, b, o); len(again) > 0 {
			t.Fatalf("history %d: a second cleanup removes %q\n%s", i, again, m)
		}
	}
}

// remaining returns the objects that the oracle keeps.
func (m *model) remaining(before []string) []string {
	w := m.oracle()
	needed := make(map[string]bool)
	for s := range w.needed {
		needed[object(name(s.tli, s.number))] = true
	}
	return slices.DeleteFunc(slices.Clone(before), func(o string) bool {
		parts := strings.Split(o, "/")
		switch {
		case parts[0] == "backups":
			return !w.kept[parts[1]]
		case parts[0] == "wal" && len(parts) == 3:
			return !needed[o]
		}
		return false
	})
}

// A cleanup that fails at any removal leaves whole backups and what they need, and the next one finishes the work.
func TestCleanInterrupted(t *testing.T) {
	base := seed(t)
	for i := range 100 {
		m := random(rand.New(rand.NewPCG(base, uint64(i))))
		m.leases = nil
		whole := new(mem.Backend)
		m.store(t, whole)
		all, _ := clean(t, whole, retain.Options{Policy: m.policy})
		for n := 0; n < len(all); n += 1 + len(all)/7 {
			b := new(mem.Backend)
			m.store(t, b)
			broken := &hooked{Backend: b, remove: func(calls int) error {
				if calls > n {
					return errors.New("interrupted")
				}
				return nil
			}}
			_, err := retain.Clean(context.Background(), archive.New(broken), retain.Options{Policy: m.policy, Now: noon, Live: live})
			if err == nil {
				t.Fatalf("history %d: no error from removal %d", i, n)
			}
			checkWhole(t, b)
			clean(t, b, retain.Options{Policy: m.policy})
			if got, want := objects(t, b), objects(t, whole); !slices.Equal(got, want) {
				t.Fatalf("history %d, interrupted at %d of %d: left %q\nwant %q\n%s", i, n, len(all), got, want, m)
			}
		}
	}
}

// checkWhole checks that every listed backup has all its objects.
func checkWhole(t *testing.T, b storage.Backend) {
	t.Helper()
	inv, err := recovery.ReadInventory(context.Background(), archive.New(b))
	if err != nil {
		t.Fatal(err)
	}
	there := objects(t, b)
	for _, m := range inv.Backups {
		for _, s := range append(slices.Clone(m.Volumes), m.Index) {
			if name := backup.Dir(m.ID) + s.Name; !slices.Contains(there, name) {
				t.Fatalf("backup %s is listed, and lacks %s", m.ID, name)
			}
		}
	}
}

// hooked is a backend that calls a function before each call.
type hooked struct {
	storage.Backend
	calls   int // of Remove
	remove  func(calls int) error
	anytime func()
	busy    bool
}

func (h *hooked) hook() {
	if h.anytime != nil && !h.busy {
		h.busy = true
		h.anytime()
		h.busy = false
	}
}

func (h *hooked) Remove(ctx context.Context, names ...string) error {
	var missing error
	for _, name := range names {
		h.hook()
		h.calls++
		if h.remove != nil {
			if err := h.remove(h.calls); err != nil {
				return err
			}
		}
		if err := h.Backend.Remove(ctx, name); errors.Is(err, storage.ErrNotExist) {
			missing = err
		} else if err != nil {
			return err
		}
	}
	return missing
}

func (h *hooked) List(ctx context.Context, prefix string, o storage.ListOptions) iter.Seq2[storage.Entry, error] {
	h.hook()
	return h.Backend.List(ctx, prefix, o)
}

func (h *hooked) Open(ctx context.Context, name string) (storage.Object, error) {
	h.hook()
	return h.Backend.Open(ctx, name)
}
