package archive_test

import (
	"bytes"
	"strings"
	"testing"

	"walkeep/common/archive"
	"walkeep/common/codec"
)

// A partial segment may be short, and may hold anything after its records.
func TestShortPartial(t *testing.T) {
	onEach(t, func(t *testing.T, r *rig) {
		for _, size := range []int{40, 8192, 100_000} {
			content := file(t, partial)[:size]
			done, err := r.push(partial, content)
			if err != nil || done.Damage != nil {
				t.Errorf("%d bytes: got %+v, %v", size, done, err)
			}
			if done.Variant != (size != 40) {
				t.Errorf("%d bytes: got %+v", size, done)
			}
		}
		if got := len(r.objects()); got != 3 {
			t.Errorf("got %d objects, want 3", got)
		}
	})
}

// Two promotions from one segment give two partial segments of one name. Both are kept and acknowledged.
func TestPartialVariants(t *testing.T) {
	one, two, three := file(t, partial), file(t, partial), file(t, partial)
	two[len(two)-1] ^= 1
	three = three[:500_000]
	onEach(t, func(t *testing.T, r *rig) {
		first := r.mustPush(partial, one)
		r.wantFetch(partial, one)
		if first.Variant || first.Object != directory(partial)+partial+".zst" {
			t.Errorf("first: got %+v", first)
		}
		for _, content := range [][]byte{two, three} {
			done := r.mustPush(partial, content)
			_, hash, err := codec.Sum(bytes.NewReader(content))
			if err != nil {
				t.Fatal(err)
			}
			if want := directory(partial) + partial + "." + hex(hash[:]) + ".zst"; !done.Variant || done.Object != want {
				t.Errorf("another: got %+v, want a variant %s", done, want)
			}
			trailer := r.trailer(done.Object)
			if trailer.Name != partial {
				t.Errorf("another: got the name %q", trailer.Name)
			}
		}
		before := r.objects()
		for i, content := range [][]byte{one, two, three} {
			for _, codecName := range []string{"zstd", "lz4"} {
				done, err := r.pushWith(options(t, codecName), partial, content)
				if err != nil || !done.Duplicate || done.Variant != (i > 0) {
					t.Errorf("%d again: got %+v, %v, want a duplicate", i, done, err)
				}
			}
		}
		r.wantObjects(before...)
		_, _, err := r.fetch(partial, 0)
		wantErr(t, "fetch", err, archive.ErrConflict)
		// One of them is damaged: nobody can say any more which ones are archived.
		r.put(before[0], flip(r.read(before[0]), 1000))
		for i, content := range [][]byte{one, two, three} {
			done, err := r.push(partial, content)
			wantErr(t, "beside a damaged one", err, archive.ErrDamaged)
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
