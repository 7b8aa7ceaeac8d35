package archive_test

import (
	"bytes"
	"errors"
	"testing"

	"walkeep/common/archive"
	"walkeep/common/codec"
	"walkeep/common/storage/mem"
)

// The same name again: the same content is a success, whatever the codec; another content never is, and changes nothing.
func TestSameName(t *testing.T) {
	onEach(t, func(t *testing.T, r *rig) {
		for _, name := range []string{segment, label, history2} {
			content := file(t, name)
			first := r.mustPush(name, content)
			before := r.read(first.Object)
			for _, other := range codec.Names() {
				done, err := r.pushWith(options(t, other), name, content)
				if err != nil || !done.Duplicate || done.Object != first.Object {
					t.Errorf("%s again with %s: got %+v, %v, want a duplicate of %s", name, other, done, err, first.Object)
				}
			}
			for what, b := range map[string][]byte{"another": another(t, name), "broken": brokenText(name, content)} {
				for _, other := range []string{"zstd", "gzip"} {
					done, err := r.pushWith(options(t, other), name, b)
					wantErr(t, what+" "+name+" with "+other, err, archive.ErrConflict)
					if done.Duplicate {
						t.Errorf("%s %s: it counts as a duplicate", what, name)
					}
				}
			}
			if !bytes.Equal(r.read(first.Object), before) {
				t.Errorf("%s: the object was changed", name)
			}
			r.wantFetch(name, content)
		}
		if got := len(r.objects()); got != 3 {
			t.Errorf("got %d objects, want 3: %q", got, r.objects())
		}
	})
}

// another gives other content that is right for a name.
func another(t *testing.T, name string) []byte {
	b := file(t, name)
	switch name {
	case history2:
		return bytes.ReplaceAll(b, []byte("0/1013170"), []byte("0/1013178"))
	case label:
		return append(b, "STOP TIMELINE: 2\n"...)
	}
	b[8192+20] ^= 1 // the unused bytes of the second page's header
	return b
}

func brokenText(name string, b []byte) []byte {
	if name == segment {
		return broken(b)
	}
	return append(bytes.Clone(b), '\n')
}

// Objects that other archivers have left under a name count, as they are.
func TestPushOverForeign(t *testing.T) {
	for ending, pack := range foreignForms {
		t.Run("ending "+ending, func(t *testing.T) {
			onEach(t, func(t *testing.T, r *rig) {
				for _, name := range []string{segment, label, partial} {
					content := file(t, name)
					object := directory(name) + name + ending
					r.put(object, pack(t, content))
					done, err := r.push(name, content)
					if err != nil || !done.Duplicate || done.Object != object {
						t.Errorf("%s: got %+v, %v, want a duplicate", name, done, err)
					}
				}
				r.put("wal/"+history2+ending, pack(t, file(t, history2)))
				if done, err := r.push(history2, file(t, history2)); err != nil || !done.Duplicate {
					t.Errorf("%s: got %+v, %v, want a duplicate", history2, done, err)
				}
				_, err := r.push(segment, broken(file(t, segment)))
				wantErr(t, "another content", err, archive.ErrConflict)
				r.put(directory(switched)+switched+ending, pack(t, file(t, switched)[:500_000]))
				_, err = r.push(switched, file(t, switched))
				wantErr(t, "half a file there", err, archive.ErrDamaged)
				r.put(directory(third)+third+ending, nil)
				_, err = r.push(third, file(t, third))
				wantErr(t, "nothing there", err, archive.ErrDamaged)
			})
		})
	}
}

// A copy that is damaged is never taken for archived, and never replaced: the operator must know.
func TestPushOverDamage(t *testing.T) {
	content := file(t, segment)
	for _, codecName := range codec.Names() {
		t.Run(codecName, func(t *testing.T) {
			sample := newRig(t, new(mem.Backend))
			done, err := sample.pushWith(options(t, codecName), segment, content)
			if err != nil {
				t.Fatal(err)
			}
			object := sample.read(done.Object)
			stored := 0
			for _, n := range sample.trailer(done.Object).Chunks {
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
				r := newRig(t, new(mem.Backend))
				r.bind(systemID(t, content), 1<<20)
				r.put(done.Object, b)
				for _, again := range []string{codecName, "lz4"} {
					got, err := r.pushWith(options(t, again), segment, content)
					wantErr(t, what+", push with "+again, err, archive.ErrDamaged)
					if got.Duplicate {
						t.Errorf("%s: it counts as a duplicate", what)
					}
				}
				if !bytes.Equal(r.read(done.Object), b) {
					t.Errorf("%s: the object was changed", what)
				}
				r.wantObjects(done.Object)
				if _, _, err := r.fetch(segment, 0); err == nil || errors.Is(err, archive.ErrAbsent) || errors.Is(err, archive.ErrGap) {
					t.Errorf("%s, fetch: got %v, want that it cannot be delivered", what, err)
				}
			}
			// Where exactly the trailer was lost, the content is all there, and is compared as a foreign file's.
			r := newRig(t, new(mem.Backend))
			r.put(done.Object, object[:stored])
			if got, err := r.push(segment, content); err != nil || !got.Duplicate {
				t.Errorf("without its trailer: got %+v, %v, want a duplicate", got, err)
			}
			if got := r.wantFetch(segment, content); !got.Foreign {
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
	r := newRig(t, new(mem.Backend))
	done, err := r.pushWith(options(t, codecName), switched, file(t, switched))
	if err != nil {
		t.Fatal(err)
	}
	return r.read(done.Object)
}

// Two endings of one name, from a time when two servers had different settings.
func TestTwoEndings(t *testing.T) {
	content := file(t, segment)
	zst, lz4 := directory(segment)+segment+".zst", directory(segment)+segment+".lz4"
	pack := func(codecName string, content []byte) []byte {
		r := newRig(t, new(mem.Backend))
		done, err := r.pushWith(options(t, codecName), segment, content)
		if err != nil {
			t.Fatal(err)
		}
		return r.read(done.Object)
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
		{"equal, and another is pushed", pack("zstd", content), pack("lz4", content), broken(content), archive.ErrConflict, nil, content},
		{"different", pack("zstd", content), pack("lz4", broken(content)), content, archive.ErrConflict, archive.ErrConflict, nil},
		{"different, the other is pushed", pack("zstd", content), pack("lz4", broken(content)), broken(content), archive.ErrConflict, archive.ErrConflict, nil},
		{"one is damaged", pack("zstd", content), flip(pack("lz4", content), 1000), content, archive.ErrDamaged, archive.ErrDamaged, nil},
		{"the other is damaged", flip(pack("zstd", content), 1000), pack("lz4", content), content, archive.ErrDamaged, archive.ErrDamaged, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			onEach(t, func(t *testing.T, r *rig) {
				r.bind(systemID(t, content), 1<<20)
				r.put(zst, test.zst)
				r.put(lz4, test.lz4)
				done, err := r.push(segment, test.push)
				if test.want == nil && (err != nil || !done.Duplicate) {
					t.Errorf("push: got %+v, %v, want a duplicate", done, err)
				} else if test.want != nil {
					wantErr(t, "push", err, test.want)
				}
				got, _, err := r.fetch(segment, 0)
				if test.fetch != nil {
					wantErr(t, "fetch", err, test.fetch)
				} else if err != nil || !bytes.Equal(got, test.fetchBytes) {
					t.Errorf("fetch: got %d bytes, %v", len(got), err)
				}
				r.wantObjects(lz4, zst)
			})
		})
	}
}

// An ending that this version does not know is not passed over: the name is taken.
func TestUnknownEnding(t *testing.T) {
	content := file(t, segment)
	for _, ending := range []string{".zst.age", ".br", ".gz.gpg", ".zst.bak"} {
		onEach(t, func(t *testing.T, r *rig) {
			r.bind(systemID(t, content), 1<<20)
			r.put(directory(segment)+segment+ending, []byte("something"))
			_, err := r.push(segment, content)
			wantErr(t, ending+": push", err, archive.ErrNoFormat)
			_, _, err = r.fetch(segment, 0)
			wantErr(t, ending+": fetch", err, archive.ErrNoFormat)
			r.wantObjects(directory(segment) + segment + ending)
		})
	}
}

// What is in the directory but is no object of the name does not stand in the way.
func TestNeighbours(t *testing.T) {
	onEach(t, func(t *testing.T, r *rig) {
		r.bind(systemID(t, file(t, segment)), 1<<20)
		for _, object := range []string{
			segment + ".partial.zst", segment + ".00000028.backup.zst", segment + "0.zst", segment[:23] + "8.zst", segment + "x",
		} {
			r.put(directory(segment)+object, []byte("something"))
		}
		r.mustPush(segment, file(t, segment))
		r.wantFetch(segment, file(t, segment))
		if there, err := r.a.HasName(t.Context(), parse(t, switched)); there || err != nil {
			t.Errorf("HasName: got %t, %v, want nothing", there, err)
		}
		if there, err := r.a.HasName(t.Context(), parse(t, segment)); !there || err != nil {
			t.Errorf("HasName: got %t, %v, want the object", there, err)
		}
	})
}
