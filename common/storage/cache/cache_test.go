package cache_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"walkeep/common/storage"
	"walkeep/common/storage/cache"
	"walkeep/common/storage/count"
	"walkeep/common/storage/mem"
	"walkeep/common/storage/storagetest"
)

const identity = "archive.json"

func kept(name string) bool { return strings.HasPrefix(name, "backups/") }

// asked is an archive whose requests are counted.
func asked(t *testing.T) *count.Backend {
	t.Helper()
	b := count.New(new(mem.Backend))
	put(t, b, identity, "of this archive")
	return b
}

func put(t *testing.T, b storage.Backend, name, content string) {
	t.Helper()
	if err := storage.PutAll(t.Context(), b, name, []byte(content)); err != nil {
		t.Fatal(err)
	}
}

func options(dir string) cache.Options {
	return cache.Options{Dir: dir, Repository: "s3://bucket", Identity: identity, Limit: 1 << 20, Keep: kept}
}

func want(t *testing.T, b storage.Backend, name, content string) {
	t.Helper()
	got, err := storage.ReadAll(t.Context(), b, name, 1<<20)
	if err != nil || string(got) != content {
		t.Errorf("%s: got %.40q, %v, want %.40q", name, got, err, content)
	}
}

// wantOpened compares how often objects were opened since the last call.
func wantOpened(t *testing.T, b *count.Backend, last *int, opened int) {
	t.Helper()
	if now := b.Counts().Open; now-*last != opened {
		t.Errorf("%d objects were opened, want %d", now-*last, opened)
	}
	*last = b.Counts().Open
}

func TestConformance(t *testing.T) {
	immutable := func(name string) bool { return !strings.HasPrefix(name, "note") }
	for _, test := range []struct {
		name, identity, dir string
		keep                func(name string) bool
	}{
		{"nothing is kept", identityName, "", func(string) bool { return false }},
		{"all that never changes is kept", identityName, "", immutable},
		{"without an identity", "none", "", immutable},
		{"without a directory", identityName, os.DevNull, immutable},
	} {
		t.Run(test.name, func(t *testing.T) {
			storagetest.Run(t, storagetest.Options{}, func(t *testing.T) storage.Backend {
				dir := test.dir
				if dir == "" {
					dir = t.TempDir()
				}
				o := options(filepath.Join(dir, "cache"))
				o.Keep, o.Identity, o.Limit = test.keep, test.identity, 100<<20
				return cache.New(identified{new(mem.Backend)}, o)
			})
		})
	}
}

const identityName = "identity of the archive"

// An identified backend has an identity beside the objects that the suite puts there.
type identified struct{ storage.Backend }

func (i identified) Open(ctx context.Context, name string) (storage.Object, error) {
	if name != identityName {
		return i.Backend.Open(ctx, name)
	}
	one := new(mem.Backend)
	if err := storage.PutAll(ctx, one, "x", []byte("identity")); err != nil {
		return nil, err
	}
	return one.Open(ctx, "x")
}

func TestKeeps(t *testing.T) {
	below, dir, last := asked(t), filepath.Join(t.TempDir(), "a", "cache"), 0
	put(t, below, "backups/1/manifest.json", "manifest")
	put(t, below, "backups/2/empty", "")
	put(t, below, "wal/x", "wal")
	b := cache.New(below, options(dir))
	want(t, b, "backups/1/manifest.json", "manifest")
	wantOpened(t, below, &last, 2) // with the identity
	want(t, b, "backups/2/empty", "")
	wantOpened(t, below, &last, 1)
	for range 3 {
		want(t, b, "backups/1/manifest.json", "manifest")
		want(t, b, "backups/2/empty", "")
	}
	wantOpened(t, below, &last, 0)
	want(t, b, "wal/x", "wal")
	want(t, b, "wal/x", "wal")
	wantOpened(t, below, &last, 2)

	again := cache.New(below, options(dir))
	want(t, again, "backups/1/manifest.json", "manifest")
	wantOpened(t, below, &last, 1) // the identity
	o := options(dir)
	o.Repository = "s3://other"
	want(t, cache.New(below, o), "backups/1/manifest.json", "manifest")
	wantOpened(t, below, &last, 2)

	// A new archive at the same place has other objects under the same names.
	if err := below.Remove(t.Context(), identity, "backups/1/manifest.json"); err != nil {
		t.Fatal(err)
	}
	put(t, below, identity, "of another archive")
	put(t, below, "backups/1/manifest.json", "another")
	want(t, cache.New(below, options(dir)), "backups/1/manifest.json", "another")

	if runtime.GOOS != "windows" {
		files, _ := filepath.Glob(filepath.Join(dir, "*"))
		for _, f := range files {
			if info, err := os.Stat(f); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: got %v, %v", f, info.Mode(), err)
			}
		}
	}
}

// What is removed or replaced through the cache is not kept.
func TestForgets(t *testing.T) {
	below, last := asked(t), 0
	b := cache.New(below, options(t.TempDir()))
	put(t, below, "backups/1", "first")
	want(t, b, "backups/1", "first")
	if err := b.Remove(t.Context(), "backups/1"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Open(t.Context(), "backups/1"); err == nil {
		t.Error("a removed object is there")
	}
	put(t, b, "backups/1", "second")
	want(t, b, "backups/1", "second")
	if err := b.Replace(t.Context(), "backups/1", []byte("third")); err != nil {
		t.Fatal(err)
	}
	wantOpened(t, below, &last, 4)
	want(t, b, "backups/1", "third")
	wantOpened(t, below, &last, 1)
}

// Any bit of a file that is wrong, a file that ends early and one that is no file count as missing.
func TestDamagedFiles(t *testing.T) {
	below, dir, last := asked(t), t.TempDir(), 0
	put(t, below, "backups/1", "manifest")
	b := cache.New(below, options(dir))
	want(t, b, "backups/1", "manifest")
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Fatalf("got %v, %v, want one file", files, err)
	}
	file := filepath.Join(dir, files[0].Name())
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var damaged [][]byte
	for i := range len(whole) * 8 {
		flipped := bytes.Clone(whole)
		flipped[i/8] ^= 1 << (i % 8)
		damaged = append(damaged, flipped)
	}
	for i := range whole {
		damaged = append(damaged, whole[:i])
	}
	damaged = append(damaged, append(bytes.Clone(whole), 0))
	wantOpened(t, below, &last, 2)
	for _, content := range damaged {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		want(t, b, "backups/1", "manifest")
		wantOpened(t, below, &last, 1)
	}
	want(t, b, "backups/1", "manifest")
	wantOpened(t, below, &last, 0)

	// Neither does another object's file, under this one's name.
	put(t, below, "backups/2", "other")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	want(t, b, "backups/2", "other")
	if files, err = os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Fatalf("got %v, %v, want one file", files, err)
	}
	if err := os.Rename(filepath.Join(dir, files[0].Name()), file); err != nil {
		t.Fatal(err)
	}
	want(t, b, "backups/1", "manifest")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(file, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	want(t, b, "backups/1", "manifest")
}

// The oldest files make room. What is not the cache's stays, and what is too large is not kept.
func TestLimit(t *testing.T) {
	below, dir, last := asked(t), t.TempDir(), 0
	foreign := filepath.Join(dir, "foreign")
	if err := os.WriteFile(foreign, make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	o := options(dir)
	o.Limit = 10_000
	b := cache.New(below, o)
	const size = 1000 - 32 // bytes of an object whose file has 1000
	name := func(i int) string { return fmt.Sprintf("backups/%02d", i) }
	content := func(i int) string { return strings.Repeat(fmt.Sprintf("%02d", i), size/2) }
	begin := time.Now().Add(-time.Hour)
	seen := make(map[string]bool)
	for i := range 14 {
		put(t, below, name(i), content(i))
		want(t, b, name(i), content(i))
		var total int64
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			info, err := f.Info()
			if err != nil {
				t.Fatal(err)
			}
			if f.Name() != "foreign" {
				total += info.Size()
			}
			if !seen[f.Name()] {
				seen[f.Name()] = true
				at := begin.Add(time.Duration(i) * time.Second)
				if err := os.Chtimes(filepath.Join(dir, f.Name()), at, at); err != nil {
					t.Fatal(err)
				}
			}
		}
		if total > o.Limit {
			t.Errorf("the cache has %d bytes, more than %d", total, o.Limit)
		}
	}
	last = below.Counts().Open
	for _, i := range []int{13, 12, 11, 10, 9} {
		want(t, b, name(i), content(i))
	}
	wantOpened(t, below, &last, 0)
	want(t, b, name(0), content(0))
	wantOpened(t, below, &last, 1)
	put(t, below, "backups/large", strings.Repeat("x", 5000))
	for range 2 {
		want(t, b, "backups/large", strings.Repeat("x", 5000))
	}
	wantOpened(t, below, &last, 2)
	if _, err := os.Stat(foreign); err != nil {
		t.Error(err)
	}
}

// Several processes, as several backends, share a directory that is too small for all.
func TestConcurrent(t *testing.T) {
	below, dir := asked(t), t.TempDir()
	for i := range 20 {
		put(t, below, fmt.Sprintf("backups/%d", i), strings.Repeat(fmt.Sprint(i), 500))
	}
	var done sync.WaitGroup
	for range 4 {
		o := options(dir)
		o.Limit = 10_000
		b := cache.New(below, o)
		for range 2 {
			done.Go(func() {
				for i := range 200 {
					n := i * 7 % 20
					object, err := b.Open(t.Context(), fmt.Sprintf("backups/%d", n))
					if err != nil {
						t.Error(err)
						return
					}
					got, err := io.ReadAll(io.NewSectionReader(object, 0, object.Size()))
					if err != nil || string(got) != strings.Repeat(fmt.Sprint(n), 500) {
						t.Errorf("%d: got %.20q, %v", n, got, err)
					}
					object.Close()
				}
			})
		}
	}
	done.Wait()
}

// A conditional store answers whether it creates conditionally.
type conditional struct {
	mem.Backend
	sound bool
	err   error
	asked int
}

func (c *conditional) Conditional(context.Context) (bool, error) {
	c.asked++
	return c.sound, c.err
}

// A store is asked once a day whether it creates conditionally, unless it does not.
func TestConditional(t *testing.T) {
	for name, test := range map[string]struct {
		sound bool
		err   error
		asked []int // in all, after each call
	}{
		"sound":       {true, nil, []int{1, 1, 2}},
		"unsound":     {false, nil, []int{1, 2, 3}},
		"denied":      {false, storage.ErrDenied, []int{1, 1, 2}},
		"unreachable": {false, storage.ErrUnavailable, []int{1, 2, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			store := &conditional{sound: test.sound, err: test.err}
			put(t, store, identity, "of this archive")
			dir := t.TempDir()
			for i, want := range test.asked {
				before := store.asked
				sound, err := cache.New(store, options(dir)).Conditional(t.Context())
				if asked := store.asked > before; asked && (sound != test.sound || err != test.err) || !asked && (!sound || err != nil) {
					t.Errorf("call %d, asked: %t: got %t, %v", i+1, asked, sound, err)
				}
				if store.asked != want {
					t.Errorf("call %d: the store was asked %d times, want %d", i+1, store.asked, want)
				}
				if i == 1 {
					old := time.Now().Add(-25 * time.Hour)
					files, err := filepath.Glob(filepath.Join(dir, "*"))
					if err != nil {
						t.Fatal(err)
					}
					for _, f := range files {
						if err := os.Chtimes(f, old, old); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
		})
	}
}
