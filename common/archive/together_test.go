package archive_test

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"walkeep/common/archive"
	"walkeep/common/archive/archivetest"
)

// together lets several servers archive at once, each with its own options and content, and gives what they heard.
func together(r *archivetest.Rig, name string, n int, with func(i int) (archive.PushOptions, []byte)) ([]archive.Pushed, []error) {
	done, errs := make([]archive.Pushed, n), make([]error, n)
	var start, all sync.WaitGroup
	start.Add(1)
	for i := range n {
		o, content := with(i)
		dir := filepath.Join(r.PgWAL, string(rune('a'+i)))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			r.T.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			r.T.Fatal(err)
		}
		all.Go(func() {
			start.Wait()
			done[i], errs[i] = r.A.NewPusher(o).Push(r.T.Context(), filepath.Join(dir, name))
		})
	}
	start.Done()
	all.Wait()
	return done, errs
}

// Archive-cmd, its look-ahead, the supervisor and a standby may all store one segment at once.
func TestPushTogether(t *testing.T) {
	content := archivetest.File(t, archivetest.Segment)
	archivetest.OnEach(t, func(t *testing.T, r *archivetest.Rig) {
		done, errs := together(r, archivetest.Segment, 8, func(int) (archive.PushOptions, []byte) { return archivetest.Options(t, "zstd"), content })
		first := 0
		for i := range done {
			if errs[i] != nil {
				t.Errorf("%d: %v", i, errs[i])
			}
			if !done[i].Duplicate {
				first++
			}
		}
		if first != 1 {
			t.Errorf("%d have stored it, want one", first)
		}
		r.WantObjects(archivetest.Directory(archivetest.Segment) + archivetest.Segment + ".zst")
		r.WantFetch(archivetest.Segment, content)
	})
}

// Of several contents at once, at most one is acknowledged, and that one can be fetched where there is one ending.
func TestConflictTogether(t *testing.T) {
	contents := make([][]byte, 4)
	for i := range contents {
		contents[i] = archivetest.File(t, archivetest.Segment)
		contents[i][8192+20] = byte(i) // unused
	}
	for name, codecs := range map[string][]string{"one codec": {"zstd"}, "several codecs": {"zstd", "lz4", "gzip", "s2"}} {
		t.Run(name, func(t *testing.T) {
			archivetest.OnEach(t, func(t *testing.T, r *archivetest.Rig) {
				_, errs := together(r, archivetest.Segment, 8, func(i int) (archive.PushOptions, []byte) {
					return archivetest.Options(t, codecs[i%len(codecs)]), contents[i%4]
				})
				acknowledged := -1
				for i, err := range errs {
					switch {
					case err == nil && acknowledged >= 0 && acknowledged != i%4:
						t.Errorf("contents %d and %d are both acknowledged", acknowledged, i%4)
					case err == nil:
						acknowledged = i % 4
					case !errors.Is(err, archive.ErrConflict):
						t.Errorf("%d: got %v, want ErrConflict", i, err)
					}
				}
				if len(codecs) > 1 {
					return
				}
				if acknowledged < 0 {
					t.Fatalf("none is acknowledged: %v", errs)
				}
				r.WantFetch(archivetest.Segment, contents[acknowledged])
			})
		})
	}
}

func TestPartialsTogether(t *testing.T) {
	contents := make([][]byte, 4)
	for i := range contents {
		contents[i] = archivetest.File(t, archivetest.Partial)
		contents[i][len(contents[i])-1] = byte(i)
	}
	archivetest.OnEach(t, func(t *testing.T, r *archivetest.Rig) {
		_, errs := together(r, archivetest.Partial, 8, func(i int) (archive.PushOptions, []byte) { return archivetest.Options(t, "zstd"), contents[i%4] })
		for i, err := range errs {
			if err != nil {
				t.Errorf("%d: %v", i, err)
			}
		}
		if got := len(r.Objects()); got != 4 {
			t.Errorf("got %d objects, want one for each content: %q", got, r.Objects())
		}
		for i, content := range contents {
			if done, err := r.Push(archivetest.Partial, content); err != nil || !done.Duplicate {
				t.Errorf("content %d: got %+v, %v, want a duplicate", i, done, err)
			}
		}
	})
}
