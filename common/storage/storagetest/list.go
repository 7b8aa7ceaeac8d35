package storagetest

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"walkeep/common/storage"
)

func list(t *testing.T, b *tested) {
	for _, name := range []string{
		"wal/0000000200000000/000000020000000000000001.zst",
		"archive.json",
		"wal/0000000100000000/000000010000000000000002.zst",
		"wal/0000000100000000/000000010000000000000001.zst",
		"wal/0000000100000000/000000010000000000000001.partial.zst",
		"wal/0000000100000001/000000010000000100000000.lz4",
		"wal/00000002.history.zst",
		"wal/00000001",
		"walnut",
		"wal.old/x",
	} {
		put(t, b, name, name)
	}
	const dir1 = "wal/0000000100000000/"
	for _, test := range []struct {
		prefix string
		want   []string
	}{
		{"", []string{"archive.json 12", "wal.old/", "wal/", "walnut 6"}},
		{"w", []string{"wal.old/", "wal/", "walnut 6"}},
		{"wal", []string{"wal.old/", "wal/", "walnut 6"}},
		{"walnut", []string{"walnut 6"}},
		{"walnuts", nil},
		{"wal/", []string{"wal/00000001 12", dir1, "wal/0000000100000001/", "wal/00000002.history.zst 24", "wal/0000000200000000/"}},
		{"wal/00000001", []string{"wal/00000001 12", dir1, "wal/0000000100000001/"}},
		{"wal/00000002.", []string{"wal/00000002.history.zst 24"}},
		{"wal/3", nil},
		{"wal/0000000100000000", []string{dir1}},
		{dir1, []string{dir1 + "000000010000000000000001.partial.zst 57", dir1 + "000000010000000000000001.zst 49",
			dir1 + "000000010000000000000002.zst 49"}},
		{dir1 + "000000010000000000000001", []string{dir1 + "000000010000000000000001.partial.zst 57", dir1 + "000000010000000000000001.zst 49"}},
		{dir1 + "000000010000000000000002.zst", []string{dir1 + "000000010000000000000002.zst 49"}},
		{dir1 + "000000010000000000000002.zst2", nil},
		{"wal/0000000300000000/", nil},
		{"wal/0000000300000000/000000030000000000000001", nil},
		{"missing/", nil},
		{"missing/deeper/x", nil},
	} {
		wantList(t, b, test.prefix, test.want...)
	}
	for prefix, want := range map[string]int{"": 10, "w": 9, "wal/": 7, "wal/0000000100000000": 3, dir1: 3, dir1 + "000000010000000000000001": 2, "missing/": 0} {
		var got []string
		for e, err := range b.List(t.Context(), prefix, storage.ListOptions{Recursive: true}) {
			if err != nil || e.IsDir() || e.Size != int64(len(e.Name)) || !strings.HasPrefix(e.Name, prefix) {
				t.Errorf("all below %q: got %+v, %v", prefix, e, err)
			}
			got = append(got, e.Name)
		}
		if len(got) != want || !slices.IsSorted(got) {
			t.Errorf("all below %q: got %q, want %d", prefix, got, want)
		}
	}
	listAfter(t, b)
	for _, o := range []storage.ListOptions{{}, {Recursive: true}} {
		for range b.List(t.Context(), "", o) {
			break // a caller may stop early
		}
	}
}

// listAfter lists behind each name that there is, and behind others.
func listAfter(t *testing.T, b *tested) {
	for _, prefix := range []string{"", "wal/", "wal/00000001", "wal/0000000100000000/"} {
		for _, recursive := range []bool{false, true} {
			names := func(after string) (names []string) {
				for e, err := range b.List(t.Context(), prefix, storage.ListOptions{Recursive: recursive, After: after}) {
					if err != nil {
						t.Fatalf("list %q behind %q: %v", prefix, after, err)
					}
					names = append(names, e.Name)
				}
				return names
			}
			all := names("")
			for _, after := range append([]string{"a", "wal", "wal/0000000100000000/000000010000000000000001", "wal/00000001000000000", "wal/00000001000000000/", "x"}, all...) {
				want := slices.DeleteFunc(slices.Clone(all), func(name string) bool { return name <= after })
				if got := names(after); !slices.Equal(got, want) {
					t.Errorf("list %q behind %q (recursive: %t): got %q, want %q", prefix, after, recursive, got, want)
				}
			}
		}
	}
}

func listNothing(t *testing.T, b *tested) {
	for _, prefix := range []string{"", "wal/", "wal/0000000100000000/0", "x"} {
		wantList(t, b, prefix)
	}
}

func remove(t *testing.T, b *tested) {
	for _, name := range []string{"a", "dir/a", "dir/ab", "dir/b"} {
		put(t, b, name, name)
	}
	for _, name := range []string{"a", "dir/a"} {
		if err := b.Remove(t.Context(), name); err != nil {
			t.Errorf("remove %s: %v", name, err)
		}
		b.wantMissing(t, name, b.Remove(t.Context(), name))
		if _, err := b.Open(t.Context(), name); !errors.Is(err, storage.ErrNotExist) {
			t.Errorf("open %s: got %v, want ErrNotExist", name, err)
		}
	}
	wantList(t, b, "dir/", "dir/ab 6", "dir/b 5")
	if err := b.Remove(t.Context()); err != nil {
		t.Errorf("remove nothing: %v", err)
	}
	for _, name := range []string{"many/1", "many/2", "many/3", "many/4"} {
		put(t, b, name, name)
	}
	if err := b.Remove(t.Context(), "many/1", "many/2"); err != nil {
		t.Errorf("remove two: %v", err)
	}
	if err := b.Remove(t.Context(), "many/3", "many/2", "many/4"); err != nil && !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("remove, one of which is not there: %v", err)
	}
	wantList(t, b, "many/")
	put(t, b, "dir/a", "again")
	wantContent(t, b, "dir/a", "again")
	for _, name := range []string{"dir/a", "dir/ab", "dir/b"} {
		if err := b.Remove(t.Context(), name); err != nil {
			t.Errorf("remove %s: %v", name, err)
		}
	}
	wantList(t, b, "dir/")
}

// A directory is no object.
func directories(t *testing.T, b *tested) {
	put(t, b, "dir/sub/object", "x")
	for _, name := range []string{"dir", "dir/sub"} {
		if _, err := b.Open(t.Context(), name); err == nil {
			t.Errorf("%s is opened", name)
		}
		if err := b.Remove(t.Context(), name); err == nil && !b.SilentRemove {
			t.Errorf("%s is removed", name)
		}
	}
	wantContent(t, b, "dir/sub/object", "x")
	wantList(t, b, "dir/", "dir/sub/")
}
