package retain_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"walkeep/common/archive"
	"walkeep/common/notes"
	"walkeep/common/recovery"
	"walkeep/common/storage/mem"
	"walkeep/common/wal"
	"walkeep/supervisor/retain"
)

// copied returns simple with a copy's second timeline, which leaves the first in segment 8, after the production
// server was seen on the first.
func copied(t *testing.T) (*archive.Archive, *mem.Backend) {
	t.Helper()
	b, _ := simple(t)
	for _, n := range []uint64{8, 9, 10} {
		put(t, b, "wal/0000000200000000/"+name(2, n).String()+".zst", []byte("content"))
	}
	put(t, b, "wal/00000002.history", history(1, 8*size+100))
	put(t, b, "partial/"+name(2, 11).String()+".partial", []byte("content"))
	a := archive.New(b)
	say(t, a, 1)
	return a, b
}

func history(tli wal.Timeline, at uint64) []byte {
	return fmt.Appendf(nil, "%d\t%s\ttest\n", tli, wal.LSN(at))
}

// say records on which timeline the production server is.
func say(t *testing.T, a *archive.Archive, tli wal.Timeline) {
	t.Helper()
	id, err := a.Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	newest, err := a.Newest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Notes().NoteServer(t.Context(), notes.Server{SystemID: id.SystemID, Timeline: tli, LSN: 1, Newest: newest}); err != nil {
		t.Fatal(err)
	}
}

func of(b []string, tli string) []string {
	return slices.DeleteFunc(b, func(o string) bool { return !strings.Contains(o, "/"+tli) })
}

// However often it is interrupted, the next Drop completes a removal. Until then no missing segment counts as absent
// while a later one exists.
func TestDropIsCompleted(t *testing.T) {
	for cut := 1; ; cut++ {
		a, b := copied(t)
		before := objects(t, b)
		if d, err := retain.Drop(t.Context(), a, 2, retain.Options{Now: noon, DryRun: true}); err != nil || d.Removed.Objects != 5 || !slices.Equal(objects(t, b), before) {
			t.Fatalf("dry run: got %+v, %v", d, err)
		}
		ctx, stop := context.WithCancel(t.Context())
		removed := 0
		_, err := retain.Drop(ctx, a, 2, retain.Options{Now: noon, Removed: func(string, int64) {
			if removed++; removed == cut {
				stop()
			}
		}})
		stop()
		left := of(objects(t, b), "00000002")
		for n := uint64(8); n <= 10; n++ {
			later := slices.ContainsFunc(left, func(o string) bool { return strings.HasPrefix(o, "wal/") && strings.Contains(o, name(2, n+1).String()) })
			_, got := recovery.Fetch(t.Context(), a, name(2, n), 0, discard{})
			if later && errors.Is(got, recovery.ErrAbsent) {
				t.Errorf("cut after %d: %s reads as absent, and there is %q", cut, name(2, n), left)
			}
		}
		if err == nil {
			if cut != 5 {
				t.Errorf("done after %d objects, of 5", cut)
			}
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if len(left) > 0 {
			if _, err := retain.Drop(t.Context(), a, 2, retain.Options{Now: noon}); err != nil {
				t.Errorf("again, after %d: %v", cut, err)
			}
		}
		if left := of(objects(t, b), "00000002"); len(left) > 0 {
			t.Errorf("cut after %d: %q stay", cut, left)
		}
		if got := slices.DeleteFunc(before, func(o string) bool { return strings.Contains(o, "/00000002") }); !slices.Equal(got, objects(t, b)) {
			t.Errorf("something else went: %q", objects(t, b))
		}
		if _, err := retain.Drop(t.Context(), a, 2, retain.Options{Now: noon}); !errors.Is(err, retain.ErrNoTimeline) {
			t.Errorf("a third time: %v", err)
		}
	}
}

type discard struct{}

func (discard) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// A timeline that somebody needs is kept.
func TestDropRefuses(t *testing.T) {
	for _, test := range []struct {
		name    string
		arrange func(t *testing.T, a *archive.Archive, b *mem.Backend)
		tli     wal.Timeline
		why     string
	}{
		{"the server's own", nil, 1, "the production server was last seen on it"},
		{"the server was never asked", func(t *testing.T, a *archive.Archive, b *mem.Backend) { b.Remove(t.Context(), "server.json") }, 2, "it was not asked since"},
		{"it came since", func(t *testing.T, a *archive.Archive, b *mem.Backend) {
			put(t, b, "wal/00000003.history", history(1, 12*size))
		}, 3, "it was not asked since"},
		{"on the way to another", func(t *testing.T, a *archive.Archive, b *mem.Backend) {
			put(t, b, "wal/00000003.history", append(history(1, 8*size+100), history(2, 10*size+100)...))
			say(t, a, 1)
		}, 2, "timeline 3 comes from it"},
		{"an unread history", func(t *testing.T, a *archive.Archive, b *mem.Backend) {
			put(t, b, "wal/00000003.history", []byte("nonsense"))
			say(t, a, 1)
		}, 2, "timeline 3 may come from it"},
		{"a standby", func(t *testing.T, a *archive.Archive, b *mem.Backend) {
			s := notes.Standby{Host: "h", Data: "/d", Restartpoint: name(2, 9).String()}
			if err := a.Notes().NoteStandby(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}, 2, "is on it"},
		{"a stream", func(t *testing.T, a *archive.Archive, b *mem.Backend) {
			if err := a.Notes().NoteStream(t.Context(), notes.Stream{Slot: "s", Timeline: 2, Heard: noon}); err != nil {
				t.Fatal(err)
			}
		}, 2, "stream s follows it"},
		{"a restore", func(t *testing.T, a *archive.Archive, b *mem.Backend) {
			h, err := a.Notes().Hold(t.Context(), notes.Lease{Kind: "restore"})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { h.Release() })
		}, 2, "a restore on"},
		{"a backup", func(t *testing.T, a *archive.Archive, b *mem.Backend) {
			storeBackup(t, b, newManifest(9, 2, wal.LSN(9*size), wal.LSN(9*size+100), noon))
		}, 2, "was taken on it"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, b := copied(t)
			if test.arrange != nil {
				test.arrange(t, a, b)
			}
			before := objects(t, b)
			_, err := retain.Drop(t.Context(), a, test.tli, retain.Options{Now: noon})
			if !errors.Is(err, retain.ErrNeeded) || !strings.Contains(err.Error(), test.why) {
				t.Errorf("got %v, want %q", err, test.why)
			}
			if !slices.Equal(objects(t, b), before) {
				t.Error("something was removed")
			}
		})
	}
}

// The history of a timeline stays while a newer one exists, which PostgreSQL would not find without it.
func TestDropKeepsHistoryBelowNewer(t *testing.T) {
	a, b := copied(t)
	put(t, b, "wal/00000003.history", history(1, 12*size))
	put(t, b, "wal/0000000300000000/"+name(3, 12).String()+".zst", []byte("content"))
	say(t, a, 1)
	d, err := retain.Drop(t.Context(), a, 2, retain.Options{Now: noon})
	if left := of(objects(t, b), "00000002"); err != nil || d.HistoryStays != 3 || len(left) != 1 {
		t.Fatalf("the lower one: %+v, %v; %q", d, err, left)
	}
	d, err = retain.Drop(t.Context(), a, 3, retain.Options{Now: noon})
	if err != nil || d.Next != 2 || len(of(objects(t, b), "00000003")) > 0 {
		t.Fatalf("the higher one: %+v, %v", d, err)
	}
	if _, err = retain.Drop(t.Context(), a, 2, retain.Options{Now: noon}); err != nil || len(of(objects(t, b), "00000002")) > 0 {
		t.Fatalf("the rest: %v", err)
	}
}
