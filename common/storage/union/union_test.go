package union_test

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walkeep/common/storage"
	"walkeep/common/storage/local"
	"walkeep/common/storage/mem"
	"walkeep/common/storage/storagetest"
	"walkeep/common/storage/union"
)

const identity = "archive.json"

func directory(t *testing.T, dir string) *local.Backend {
	t.Helper()
	b, err := local.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func members(all ...storage.Backend) (list []union.Member) {
	for _, b := range all {
		list = append(list, union.Member{Backend: b})
	}
	return list
}

func put(t *testing.T, b storage.Backend, name, content string) {
	t.Helper()
	if err := storage.PutAll(t.Context(), b, name, []byte(content)); err != nil {
		t.Fatal(err)
	}
}

func read(b storage.Backend, name string) (string, error) {
	content, err := storage.ReadAll(context.Background(), b, name, 100)
	return string(content), err
}

func list(t *testing.T, b storage.Backend, prefix string) string {
	t.Helper()
	entries, err := storage.ListAll(t.Context(), b, prefix)
	if err != nil {
		return "error: " + err.Error()
	}
	var names []string
	for _, e := range entries {
		names = append(names, fmt.Sprintf("%s=%d", e.Name, e.Size))
	}
	return strings.Join(names, " ")
}

func TestConformance(t *testing.T) {
	storagetest.Run(t, storagetest.Options{}, func(t *testing.T) storage.Backend {
		return union.New(identity, members(new(mem.Backend), directory(t, t.TempDir()))...)
	})
}

// spread creates each object in one member only.
type spread struct {
	*union.Backend
	members []storage.Backend
}

func (s spread) Create(ctx context.Context, name string, o storage.CreateOptions) (storage.Writer, error) {
	return s.of(name).Create(ctx, name, o)
}

func (s spread) Replace(ctx context.Context, name string, content []byte) error {
	return s.of(name).Replace(ctx, name, content)
}

func (s spread) of(name string) storage.Backend {
	return s.members[crc32.ChecksumIEEE([]byte(name))%uint32(len(s.members))]
}

// Objects that lie in different members are read as those of one archive.
func TestConformanceSpread(t *testing.T) {
	storagetest.Run(t, storagetest.Options{}, func(t *testing.T) storage.Backend {
		all := []storage.Backend{directory(t, t.TempDir()), new(mem.Backend), directory(t, t.TempDir())}
		return spread{union.New(identity, members(all...)...), all}
	})
}

func TestNearestWins(t *testing.T) {
	near, middle, far := new(mem.Backend), new(mem.Backend), new(mem.Backend)
	put(t, near, "a", "n")
	put(t, near, "d/near", "n")
	put(t, middle, "a", "mm")
	put(t, middle, "b", "mm")
	put(t, far, "b", "fff")
	put(t, far, "c", "fff")
	put(t, far, "d/far", "fff")
	b := union.New(identity, members(near, middle, far)...)
	for name, want := range map[string]string{"a": "n", "b": "mm", "c": "fff", "d/near": "n", "d/far": "fff"} {
		if got, err := read(b, name); got != want || err != nil {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, want)
		}
	}
	if got, want := list(t, b, ""), "a=1 b=2 c=3 d/=0"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := list(t, b, "d/"), "d/far=3 d/near=1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A failing backend cannot determine anything.
type failing struct{ storage.Backend }

var errDown = errors.New("connection refused")

func (failing) Open(context.Context, string) (storage.Object, error) { return nil, errDown }
func (failing) List(context.Context, string, storage.ListOptions) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) { yield(storage.Entry{}, errDown) }
}

// An object is absent only if every member has answered.
func TestAbsentNeedsEveryAnswer(t *testing.T) {
	there := new(mem.Backend)
	put(t, there, "object", "x")
	for name, all := range map[string][]union.Member{
		"fails first":       {{Backend: failing{}}, {Backend: there}},
		"fails last":        {{Backend: there}, {Backend: failing{}}},
		"unreachable first": {{Err: errDown}, {Backend: there}},
		"unreachable last":  {{Backend: there}, {Err: errDown}},
		"unreachable alone": {{Err: errDown}},
	} {
		b := union.New(identity, all...)
		if got, err := read(b, "object"); len(all) > 1 && (got != "x" || err != nil) {
			t.Errorf("%s: got %q, %v, want the object", name, got, err)
		}
		if _, err := b.Open(t.Context(), "missing"); !errors.Is(err, errDown) || errors.Is(err, storage.ErrNotExist) {
			t.Errorf("%s: missing: got %v, want the member's error", name, err)
		}
		unreachable := strings.HasPrefix(name, "unreachable")
		if err := b.Unreachable(); errors.Is(err, errDown) != unreachable {
			t.Errorf("%s: unreachable: got %v", name, err)
		}
		want := "error: connection refused"
		if unreachable && len(all) > 1 {
			want = "object=1"
		}
		if got := list(t, b, ""); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	b := union.New(identity)
	if _, err := b.Open(t.Context(), "x"); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("without members: got %v, want ErrUnavailable", err)
	}
}

// A note is written to all members that can be reached, and one of them that has the name prevents it.
func TestNotes(t *testing.T) {
	near, far := new(mem.Backend), directory(t, t.TempDir())
	b := union.New(identity, append(members(near, far), union.Member{Err: errDown})...)
	put(t, b, "leases/one", "1")
	if err := b.Replace(t.Context(), "standbys/one", []byte("s")); err != nil {
		t.Fatal(err)
	}
	for _, m := range []storage.Backend{near, far} {
		for name, want := range map[string]string{"leases/one": "1", "standbys/one": "s"} {
			if got, err := read(m, name); got != want || err != nil {
				t.Errorf("%T %s: got %q, %v", m, name, got, err)
			}
		}
	}
	put(t, far, "leases/two", "far")
	if err := storage.PutAll(t.Context(), b, "leases/two", []byte("2")); !errors.Is(err, storage.ErrExist) {
		t.Errorf("got %v, want ErrExist", err)
	}
	if err := near.Remove(t.Context(), "leases/one"); err != nil {
		t.Fatal(err)
	}
	if err := b.Remove(t.Context(), "leases/one", "standbys/one"); err != nil {
		t.Errorf("remove: %v", err)
	}
	if got, want := list(t, b, "leases/"), "leases/two=3"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A directory of WAL that has gone from a spool is noticed, although a repository has one. A spool that holds no archive yet
// lacks nothing.
func TestDirectoryHasGone(t *testing.T) {
	root := t.TempDir()
	spool, repository := directory(t, root), directory(t, t.TempDir())
	b := union.New(identity, members(spool, new(mem.Backend), repository)...)
	put(t, repository, "wal/x", "x")
	put(t, repository, identity, "{}")
	want := func(what string, there bool) {
		t.Helper()
		if got, err := b.HasDir(t.Context(), "wal"); got != there || err != nil {
			t.Errorf("%s: got %v, %v, want %v", what, got, err, there)
		}
	}
	want("empty spool", true)
	put(t, spool, "leases/x", "x")
	want("spool with a note", true)
	if err := b.MakeDir(t.Context(), "wal"); err != nil {
		t.Fatal(err)
	}
	put(t, spool, identity, "{}")
	want("spool with wal", true)
	if err := os.Remove(filepath.Join(root, "wal")); err != nil {
		t.Fatal(err)
	}
	want("wal has gone", false)
}

// movingAway is a spool from which an object is moved to a repository while it is listed.
type movingAway struct {
	storage.Backend
	to storage.Backend
}

func (m movingAway) List(ctx context.Context, prefix string, o storage.ListOptions) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		err := storage.PutAll(ctx, m.to, "b", []byte("b"))
		if err == nil {
			err = m.Remove(ctx, "b")
		}
		if err != nil {
			yield(storage.Entry{}, err)
			return
		}
		m.Backend.List(ctx, prefix, o)(yield)
	}
}

func TestListWhileObjectsMove(t *testing.T) {
	spool, repository := new(mem.Backend), new(mem.Backend)
	put(t, repository, "a", "a")
	put(t, repository, "c", "c")
	put(t, spool, "b", "b")
	put(t, spool, "d", "d")
	b := union.New(identity, members(movingAway{spool, repository}, repository)...)
	if got, want := list(t, b, ""), "a=1 b=1 c=1 d=1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
