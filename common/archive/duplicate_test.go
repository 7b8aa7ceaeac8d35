package archive_test

import (
	"bytes"
	"errors"
	"testing"

	"walkeep/common/archive"
	"walkeep/common/archive/archivetest"
	"walkeep/common/codec"
	"walkeep/common/recovery"
	"walkeep/common/storage/mem"
)

// The same name again: the same content is a success, whatever the codec; another content never is, and changes nothing.
func TestSameName(t *testing.T) {
	archivetest.OnEach(t, func(t *testing.T, r *archivetest.Rig) {
		for _, name := range []string{archivetest.Segment, archivetest.Label, archivetest.History2} {
			content := archivetest.File(t, name)
			first := r.MustPush(name, content)
			before := r.Read(first.Object)
			for _, other := range codec.Names() {
				done, err := r.PushWith(archivetest.Options(t, other), name, content)
				if err != nil || !done.Duplicate || done.Object != first.Object {
					t.Errorf("%s again with %s: got %+v, %v, want a duplicate of %s", name, other, done, err, first.Object)
				}
			}
			for what, b := range map[string][]byte{"another": another(t, name), "broken": brokenText(name, content)} {
				for _, other := range []string{"zstd", "gzip"} {
					done, err := r.PushWith(archivetest.Options(t, other), name, b)
					archivetest.WantErr(t, what+" "+name+" with "+other, err, archive.ErrConflict)
					if done.Duplicate {
						t.Errorf("%s %s: it counts as a duplicate", what, name)
					}
				}
			}
			if !bytes.Equal(r.Read(first.Object), before) {
				t.Errorf("%s: the object was changed", name)
			}
			r.WantFetch(name, content)
		}
		if got := len(r.Objects()); got != 3 {
			t.Errorf("got %d objects, want 3: %q", got, r.Objects())
		}
	})
}

// another gives other content that is right for a name.
func another(t *testing.T, name string) []byte {
	b := archivetest.File(t, name)
	switch name {
	case archivetest.History2:
		return bytes.ReplaceAll(b, []byte("0/1013170"), []byte("0/1013178"))
	case archivetest.Label:
		return append(b, "STOP TIMELINE: 2\n"...)
	}
	b[8192+20] ^= 1 // the unused bytes of the second page's header
	return b
}

func brokenText(name string, b []byte) []byte {
	if name == archivetest.Segment {
		return archivetest.Broken(b)
	}
	return append(bytes.Clone(b), '\n')
}

// Objects that other archivers have left under a name count, as they are.
func TestPushOverForeign(t *testing.T) {
	for ending, pack := range archivetest.ForeignForms {
		t.Run("ending "+ending, func(t *testing.T) {
			archivetest.OnEach(t, func(t *testing.T, r *archivetest.Rig) {
				for _, name := range []string{archivetest.Segment, archivetest.Label, archivetest.Partial} {
					content := archivetest.File(t, name)
					object := archivetest.Directory(name) + name + ending
					r.Put(object, pack(t, content))
					done, err := r.Push(name, content)
					if err != nil || !done.Duplicate || done.Object != object {
						t.Errorf("%s: got %+v, %v, want a duplicate", name, done, err)
					}
				}
				r.Put("wal/"+archivetest.History2+ending, pack(t, archivetest.File(t, archivetest.History2)))
				if done, err := r.Push(archivetest.History2, archivetest.File(t, archivetest.History2)); err != nil || !done.Duplicate {
					t.Errorf("%s: got %+v, %v, want a duplicate", archivetest.History2, done, err)
				}
				_, err := r.Push(archivetest.Segment, archivetest.Broken(archivetest.File(t, archivetest.Segment)))
				archivetest.WantErr(t, "another content", err, archive.ErrConflict)
				r.Put(archivetest.Directory(archivetest.Switched)+archivetest.Switched+ending, pack(t, archivetest.File(t, archivetest.Switched)[:500_000]))
				_, err = r.Push(archivetest.Switched, archivetest.File(t, archivetest.Switched))
				archivetest.WantErr(t, "half a file there", err, archive.ErrDamaged)
				r.Put(archivetest.Directory(archivetest.Third)+archivetest.Third+ending, nil)
				_, err = r.Push(archivetest.Third, archivetest.File(t, archivetest.Third))
				archivetest.WantErr(t, "nothing there", err, archive.ErrDamaged)
			})
		})
	}
}

// A copy that is damaged is never taken for archived, and never replaced: the operator must know.
func TestPushOverDamage(t *testing.T) {
	content := archivetest.File(t, archivetest.Segment)
	for _, codecName := range codec.Names() {
		t.Run(codecName, func(t *testing.T) {
			sample := archivetest.New(t, new(mem.Backend))
			done, err := sample.PushWith(archivetest.Options(t, codecName), archivetest.Segment, content)
			if err != nil {
				t.Fatal(err)
			}
			object := sample.Read(done.Object)
			stored := 0
			for _, n := range sample.Trailer(done.Object).Chunks {
				stored += int(n)
			}
			for what, b := range map[string][]byte{
				"flip at the start":         flip(object, 0),
				"flip in a chunk":           flip(object, stored/2),
				"flip in the head":          flip(object, stored),
				"flip in the trailer":       flip(object, stored+40),
				"flip at the end":           flip(object, len(object)-1),
				"cut in a chunk":            object[:stored/2],
				"cut in the head":           object[:stored+3],
				"cut in the trailer":        object[:stored+60],
				"the last byte is missing":  object[:len(object)-1],
				"a byte too many":           append(bytes.Clone(object), 0),
				"nothing":                   {},
				"only the trailer":          object[stored:],
				"zeros at the end":          append(bytes.Clone(object[:len(object)-50]), make([]byte, 50)...),
				"zeros":                     make([]byte, len(object)),
				"twice":                     append(bytes.Clone(object), object...),
				"the object of another one": renamed(t, codecName),
			} {
				r := archivetest.New(t, new(mem.Backend))
				r.Bind(archivetest.SystemID(t, content), 1<<20)
				r.Put(done.Object, b)
				for _, again := range []string{codecName, "lz4"} {
					got, err := r.PushWith(archivetest.Options(t, again), archivetest.Segment, content)
					archivetest.WantErr(t, what+", push with "+again, err, archive.ErrDamaged)
					if got.Duplicate {
						t.Errorf("%s: it counts as a duplicate", what)
					}
				}
				if !bytes.Equal(r.Read(done.Object), b) {
					t.Errorf("%s: the object was changed", what)
				}
				r.WantObjects(done.Object)
				if _, _, err := r.Fetch(archivetest.Segment, 0); err == nil || errors.Is(err, recovery.ErrAbsent) || errors.Is(err, recovery.ErrGap) {
					t.Errorf("%s, fetch: got %v, want that it cannot be delivered", what, err)
				}
			}
			// Where exactly the trailer was lost, the content is all there, and is compared as a foreign file's.
			r := archivetest.New(t, new(mem.Backend))
			r.Put(done.Object, object[:stored])
			if got, err := r.Push(archivetest.Segment, content); err != nil || !got.Duplicate {
				t.Errorf("without its trailer: got %+v, %v, want a duplicate", got, err)
			}
			if got := r.WantFetch(archivetest.Segment, content); !got.Foreign {
				t.Errorf("without its trailer: got %+v, want a foreign file", got)
			}
		})
	}
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 0x10
	return b
}

// renamed is the object of another segment than the one in whose place it will be.
func renamed(t *testing.T, codecName string) []byte {
	r := archivetest.New(t, new(mem.Backend))
	done, err := r.PushWith(archivetest.Options(t, codecName), archivetest.Switched, archivetest.File(t, archivetest.Switched))
	if err != nil {
		t.Fatal(err)
	}
	return r.Read(done.Object)
}

// Two endings of one name, from a time when two servers had different settings.
func TestTwoEndings(t *testing.T) {
	content := archivetest.File(t, archivetest.Segment)
	zst, lz4 := archivetest.Directory(archivetest.Segment)+archivetest.Segment+".zst", archivetest.Directory(archivetest.Segment)+archivetest.Segment+".lz4"
	pack := func(codecName string, content []byte) []byte {
		r := archivetest.New(t, new(mem.Backend))
		done, err := r.PushWith(archivetest.Options(t, codecName), archivetest.Segment, content)
		if err != nil {
			t.Fatal(err)
		}
		return r.Read(done.Object)
	}
	for _, test := range []struct {
		name       string
		zst, lz4   []byte
		push       []byte
		want       error // of Push; nil for a duplicate
		fetch      error
		fetchBytes []byte
	}{
		{"equal", pack("zstd", content), pack("lz4", content), content, nil, nil, content},
		{"equal, and another is pushed", pack("zstd", content), pack("lz4", content), archivetest.Broken(content), archive.ErrConflict, nil, content},
		{"different", pack("zstd", content), pack("lz4", archivetest.Broken(content)), content, archive.ErrConflict, archive.ErrConflict, nil},
		{"different, the other is pushed", pack("zstd", content), pack("lz4", archivetest.Broken(content)), archivetest.Broken(content), archive.ErrConflict, archive.ErrConflict, nil},
		{"one is damaged", pack("zstd", content), flip(pack("lz4", content), 1000), content, archive.ErrDamaged, archive.ErrDamaged, nil},
		{"the other is damaged", flip(pack("zstd", content), 1000), pack("lz4", content), content, archive.ErrDamaged, archive.ErrDamaged, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			archivetest.OnEach(t, func(t *testing.T, r *archivetest.Rig) {
				r.Bind(archivetest.SystemID(t, content), 1<<20)
				r.Put(zst, test.zst)
				r.Put(lz4, test.lz4)
				done, err := r.Push(archivetest.Segment, test.push)
				if test.want == nil && (err != nil || !done.Duplicate) {
					t.Errorf("push: got %+v, %v, want a duplicate", done, err)
				} else if test.want != nil {
					archivetest.WantErr(t, "push", err, test.want)
				}
				got, _, err := r.Fetch(archivetest.Segment, 0)
				if test.fetch != nil {
					archivetest.WantErr(t, "fetch", err, test.fetch)
				} else if err != nil || !bytes.Equal(got, test.fetchBytes) {
					t.Errorf("fetch: got %d bytes, %v", len(got), err)
				}
				r.WantObjects(lz4, zst)
			})
		})
	}
}

// An ending that this version does not know is not passed over: the name is taken.
func TestUnknownEnding(t *testing.T) {
	content := archivetest.File(t, archivetest.Segment)
	for _, ending := range []string{".zst.gpg", ".br", ".gz.gpg", ".zst.bak"} {
		archivetest.OnEach(t, func(t *testing.T, r *archivetest.Rig) {
			r.Bind(archivetest.SystemID(t, content), 1<<20)
			r.Put(archivetest.Directory(archivetest.Segment)+archivetest.Segment+ending, []byte("something"))
			_, err := r.Push(archivetest.Segment, content)
			archivetest.WantErr(t, ending+": push", err, archive.ErrNoFormat)
			_, _, err = r.Fetch(archivetest.Segment, 0)
			archivetest.WantErr(t, ending+": fetch", err, archive.ErrNoFormat)
			r.WantObjects(archivetest.Directory(archivetest.Segment) + archivetest.Segment + ending)
		})
	}
}

// What is in the directory but is no object of the name does not stand in the way.
func TestNeighbours(t *testing.T) {
	archivetest.OnEach(t, func(t *testing.T, r *archivetest.Rig) {
		r.Bind(archivetest.SystemID(t, archivetest.File(t, archivetest.Segment)), 1<<20)
		for _, object := range []string{
			archivetest.Segment + ".partial.zst", archivetest.Segment + ".00000028.backup.zst", archivetest.Segment + "0.zst", archivetest.Segment[:23] + "8.zst", archivetest.Segment + "x",
		} {
			r.Put(archivetest.Directory(archivetest.Segment)+object, []byte("something"))
		}
		r.MustPush(archivetest.Segment, archivetest.File(t, archivetest.Segment))
		r.WantFetch(archivetest.Segment, archivetest.File(t, archivetest.Segment))
		if there, err := r.A.HasName(t.Context(), archivetest.Parse(t, archivetest.Switched)); there || err != nil {
			t.Errorf("HasName: got %t, %v, want nothing", there, err)
		}
		if there, err := r.A.HasName(t.Context(), archivetest.Parse(t, archivetest.Segment)); !there || err != nil {
			t.Errorf("HasName: got %t, %v, want the object", there, err)
		}
	})
}
