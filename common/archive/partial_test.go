package archive_test

import (
	"bytes"
	"strings"
	"testing"

	"walkeep/common/archive"
	"walkeep/common/archive/archivetest"
	"walkeep/common/codec"
)

// A partial segment may be short, and may hold anything after its records.
func TestShortPartial(t *testing.T) {
	archivetest.OnEach(t, func(t *testing.T, r *archivetest.Rig) {
		for _, size := range []int{40, 8192, 100_000} {
			content := archivetest.File(t, archivetest.Partial)[:size]
			done, err := r.Push(archivetest.Partial, content)
			if err != nil || done.Damage != nil {
				t.Errorf("%d bytes: got %+v, %v", size, done, err)
			}
			if done.Variant != (size != 40) {
				t.Errorf("%d bytes: got %+v", size, done)
			}
		}
		if got := len(r.Objects()); got != 3 {
			t.Errorf("got %d objects, want 3", got)
		}
	})
}

// Two promotions from one segment give two partial segments of one name. Both are kept and acknowledged.
func TestPartialVariants(t *testing.T) {
	one, two, three := archivetest.File(t, archivetest.Partial), archivetest.File(t, archivetest.Partial), archivetest.File(t, archivetest.Partial)
	two[len(two)-1] ^= 1
	three = three[:500_000]
	archivetest.OnEach(t, func(t *testing.T, r *archivetest.Rig) {
		first := r.MustPush(archivetest.Partial, one)
		r.WantFetch(archivetest.Partial, one)
		if first.Variant || first.Object != archivetest.Directory(archivetest.Partial)+archivetest.Partial+".zst" {
			t.Errorf("first: got %+v", first)
		}
		for _, content := range [][]byte{two, three} {
			done := r.MustPush(archivetest.Partial, content)
			_, hash, err := codec.Sum(bytes.NewReader(content))
			if err != nil {
				t.Fatal(err)
			}
			if want := archivetest.Directory(archivetest.Partial) + archivetest.Partial + "." + hex(hash[:]) + ".zst"; !done.Variant || done.Object != want {
				t.Errorf("another: got %+v, want a variant %s", done, want)
			}
			trailer := r.Trailer(done.Object)
			if trailer.Name != archivetest.Partial {
				t.Errorf("another: got the name %q", trailer.Name)
			}
		}
		before := r.Objects()
		for i, content := range [][]byte{one, two, three} {
			for _, codecName := range []string{"zstd", "lz4"} {
				done, err := r.PushWith(archivetest.Options(t, codecName), archivetest.Partial, content)
				if err != nil || !done.Duplicate || done.Variant != (i > 0) {
					t.Errorf("%d again: got %+v, %v, want a duplicate", i, done, err)
				}
			}
		}
		r.WantObjects(before...)
		_, _, err := r.Fetch(archivetest.Partial, 0)
		archivetest.WantErr(t, "fetch", err, archive.ErrConflict)
		// One of them is damaged: nobody can say any more which ones are archived.
		r.Put(before[0], flip(r.Read(before[0]), 1000))
		for i, content := range [][]byte{one, two, three} {
			done, err := r.Push(archivetest.Partial, content)
			archivetest.WantErr(t, "beside a damaged one", err, archive.ErrDamaged)
			if done.Duplicate {
				t.Errorf("%d beside a damaged one: it counts as a duplicate", i)
			}
		}
	})
}

func hex(b []byte) string {
	const digits = "0123456789abcdef"
	var s strings.Builder
	for _, c := range b {
		s.WriteByte(digits[c>>4])
		s.WriteByte(digits[c&15])
	}
	return s.String()
}
