package durable_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"walkeep/common/durable"
)

// quickDir is a directory where fsync costs nothing, if there is one: races need many attempts, not a disk.
func quickDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "walkeep-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// race has several writers commit the same name at once. Exactly one succeeds, the others get the error that the name is taken,
// and the file has the whole content of the one that succeeded.
func race(dir, name string, writers int) error {
	path := filepath.Join(dir, name)
	errs := make([]error, writers)
	var start, done sync.WaitGroup
	start.Add(1)
	for i := range writers {
		done.Go(func() {
			f, err := durable.Create(path)
			if err != nil {
				errs[i] = err
				return
			}
			defer f.Discard()
			fmt.Fprintf(f, "content of writer %d", i)
			start.Wait()
			errs[i] = f.Commit(nil)
		})
	}
	start.Done()
	done.Wait()
	winner := -1
	for i, err := range errs {
		switch {
		case err == nil && winner >= 0:
			return fmt.Errorf("%s: writers %d and %d have both won", name, winner, i)
		case err == nil:
			winner = i
		case !errors.Is(err, fs.ErrExist):
			return fmt.Errorf("%s: writer %d: got %w, want ErrExist", name, i, err)
		}
	}
	if winner < 0 {
		return fmt.Errorf("%s: nobody has won: %v", name, errs)
	}
	got, err := os.ReadFile(path)
	if want := fmt.Sprintf("content of writer %d", winner); err != nil || string(got) != want {
		return fmt.Errorf("%s: got %q, %v, want %q", name, got, err, want)
	}
	return nil
}

func TestTwoWriters(t *testing.T) {
	dir := quickDir(t)
	attempts := 1000
	if runtime.GOOS == "windows" {
		attempts = 100 // each takes far longer there
	}
	for i := range attempts {
		if err := race(dir, fmt.Sprint(i), 2); err != nil {
			t.Fatal(err)
		}
	}
	if left := temps(t, dir); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestManyWriters(t *testing.T) {
	dir := quickDir(t)
	for i := range 30 {
		if err := race(dir, fmt.Sprint(i), 16); err != nil {
			t.Fatal(err)
		}
	}
	if left := temps(t, dir); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// Sweepers that run all the time never take a file from a writer that lives: each one is committed whole.
func TestSweepersAndWriters(t *testing.T) {
	dir := quickDir(t)
	var stop atomic.Bool
	var swept atomic.Int64
	var sweepers, writers sync.WaitGroup
	for range 2 {
		sweepers.Go(func() {
			for !stop.Load() {
				n, err := durable.Sweep(dir)
				if err != nil {
					t.Error(err)
					return
				}
				swept.Add(int64(n))
			}
		})
	}
	for w := range 8 {
		writers.Go(func() {
			for i := range 100 {
				name := fmt.Sprintf("%d-%d", w, i)
				f, err := durable.Create(filepath.Join(dir, name))
				if err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				f.WriteString(name)
				if i%10 == 0 {
					f.Discard()
					continue
				}
				if err := f.Commit(nil); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	writers.Wait()
	stop.Store(true)
	sweepers.Wait()
	found := 0
	for _, name := range names(t, dir) {
		wantContent(t, filepath.Join(dir, name), name)
		found++
	}
	if found != 8*90 {
		t.Errorf("got %d files, want %d", found, 8*90)
	}
	t.Logf("the sweepers removed %d files before their writers had locked them", swept.Load())
}
