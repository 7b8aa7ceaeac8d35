package archive_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"walkeep/common/archive"
	"walkeep/common/codec"
	"walkeep/common/storage/mem"
	"walkeep/common/wal"
)

// What servers of every release have archived goes in, again, and out, byte for byte.
func TestEveryRelease(t *testing.T) {
	for i, major := range majors(t) {
		t.Run(major, func(t *testing.T) {
			r := newRig(t, new(mem.Backend))
			o := options(t, codec.Names()[i%len(codec.Names())])
			o.Verify = archive.VerifyStrict
			files := archived(t, major)
			for _, name := range files {
				content := load(t, major, name)
				done, err := r.pushWith(o, name, content)
				if err != nil || done.Duplicate || done.Variant || done.Damage != nil || done.Plain != int64(len(content)) {
					t.Errorf("push %s: got %+v, %v", name, done, err)
					continue
				}
				if got := int64(len(r.read(done.Object))); got != done.Stored {
					t.Errorf("push %s: got %d stored bytes, want %d", name, done.Stored, got)
				}
			}
			if got := len(r.objects()); got != len(files) {
				t.Errorf("got %d objects, want %d", got, len(files))
			}
			for _, name := range files {
				done, err := r.pushWith(o, name, load(t, major, name))
				if err != nil || !done.Duplicate || done.Stored != 0 {
					t.Errorf("push %s again: got %+v, %v, want a duplicate", name, done, err)
				}
				if got := r.wantFetch(name, load(t, major, name)); got.Foreign || got.DamageLSN != 0 || got.Object != done.Object {
					t.Errorf("fetch %s: got %+v", name, got)
				}
			}
		})
	}
}

// What an object says about itself.
func TestTrailers(t *testing.T) {
	onEach(t, func(t *testing.T, r *rig) {
		b := file(t, segment)
		id := systemID(t, b)
		for _, test := range []struct {
			name  string
			check codec.WALCheck
			start wal.LSN
		}{
			{segment, codec.Intact, 0x900000}, {label, codec.NotWAL, 0}, {history2, codec.NotWAL, 0}, {partial, codec.Intact, 0x1000000},
		} {
			o := options(t, "zstd")
			o.SystemID = id
			content := file(t, test.name)
			done, err := r.pushWith(o, test.name, content)
			if err != nil {
				t.Fatal(err)
			}
			got := *r.trailer(done.Object)
			size, hash, err := codec.Sum(bytes.NewReader(content))
			if err != nil {
				t.Fatal(err)
			}
			want := codec.Trailer{Codec: "zstd", WALCheck: test.check, ChunkSize: codec.ChunkSize, SystemID: uint64(id), PlainSize: size,
				PlainHash: hash, StoredHash: got.StoredHash, Start: uint64(test.start), End: got.End, Chunks: got.Chunks, Name: test.name, Tool: "0.1.0"}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s: got %+v, want %+v", test.name, got, want)
			}
			if end := wal.LSN(got.End); (test.check == codec.NotWAL) != (end == 0) || end != 0 && (end <= test.start || end > test.start+1<<20) {
				t.Errorf("%s: got the end %s", test.name, end)
			}
		}
		id2, err := r.a.Identity(t.Context())
		if err != nil || id2 != (archive.Identity{Version: 1, SystemID: id, SegmentSize: 1 << 20}) {
			t.Errorf("identity: got %+v, %v", id2, err)
		}
	})
}

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
		if there, err := r.a.Has(t.Context(), "pg_wal/"+switched); there || err != nil {
			t.Errorf("Has: got %t, %v, want nothing", there, err)
		}
		if there, err := r.a.Has(t.Context(), "pg_wal/"+segment); !there || err != nil {
			t.Errorf("Has: got %t, %v, want the object", there, err)
		}
		if _, err := r.a.Has(t.Context(), "pg_wal/x"); !errors.Is(err, wal.ErrName) {
			t.Errorf("Has: got %v, want ErrName", err)
		}
	})
}

// Files that are not what their names say are refused, and leave nothing behind.
func TestRefused(t *testing.T) {
	whole := file(t, segment)
	set := func(at int, b ...byte) []byte {
		c := bytes.Clone(whole)
		copy(c[at:], b)
		return c
	}
	for _, test := range []struct {
		what, name string
		content    []byte
		want       error
	}{
		{"no WAL name", "postgresql.conf", whole, archive.ErrNotWAL},
		{"recovery's name", "RECOVERYXLOG", whole, archive.ErrNotWAL},
		{"lower case", strings.ToLower(switched), file(t, switched), archive.ErrNotWAL},
		{"recycled: another segment's content", switched, whole, archive.ErrNotWAL},
		{"another timeline's content", segment, file(t, third), archive.ErrNotWAL},
		{"an earlier position", "00000001000000000000000B", whole, archive.ErrNotWAL},
		{"empty", segment, nil, archive.ErrNotWAL},
		{"a page", segment, whole[:8192], archive.ErrNotWAL},
		{"a byte short", segment, whole[:len(whole)-1], archive.ErrNotWAL},
		{"a byte too long", segment, append(bytes.Clone(whole), 0), archive.ErrNotWAL},
		{"twice", segment, append(bytes.Clone(whole), whole...), archive.ErrNotWAL},
		{"zeros", segment, make([]byte, 1<<20), archive.ErrNotWAL},
		{"text", segment, bytes.Repeat([]byte("text"), 1<<18), archive.ErrNotWAL},
		{"the magic of 9.6", segment, set(0, 0x93, 0xD0), archive.ErrNotWAL},
		{"the magic of a release to come", segment, set(0, 0xFF, 0xD1), archive.ErrNotWAL},
		{"a short header", segment, set(2, 0), archive.ErrNotWAL},
		{"no segment size", segment, set(atSegmentSize, 1, 2, 3, 4), archive.ErrNotWAL},
		{"too large a segment size", segment, set(atSegmentSize, 0, 0, 0x20, 0), archive.ErrNotWAL},
		{"a partial that is too long", partial, append(file(t, partial), 0), archive.ErrNotWAL},
		{"a partial without a header", partial, file(t, partial)[:39], archive.ErrNotWAL},
		{"a partial of another segment", partial, whole, archive.ErrNotWAL},
		{"a history of a later timeline", history2, file(t, history3), archive.ErrNotWAL},
		{"a history without a line", history2, nil, archive.ErrNotWAL},
		{"a history of zeros", history2, make([]byte, 41), archive.ErrNotWAL},
		{"a history that is too long", history2, bytes.Repeat([]byte("#\n"), 1<<20), archive.ErrNotWAL},
		{"a label of another segment", "00000001000000000000000A.00000028.backup", file(t, label), archive.ErrNotWAL},
		{"a label that names it elsewhere", label, append([]byte("x\n"), file(t, label)...), archive.ErrNotWAL},
		{"a label of one word", label, []byte("(file 00000001000000000000000B)"), archive.ErrNotWAL},
		{"an empty label", label, nil, archive.ErrNotWAL},
	} {
		t.Run(test.what, func(t *testing.T) {
			r := newRig(t, new(mem.Backend))
			_, err := r.push(test.name, test.content)
			wantErr(t, "push", err, test.want)
			if left := walk(t, r.b, ""); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
	r := newRig(t, new(mem.Backend))
	pusher := r.a.NewPusher(options(t, "zstd"))
	if _, err := pusher.Push(t.Context(), filepath.Join(r.pgWAL, segment)); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, archive.ErrNotWAL) {
		t.Errorf("a file that is not there: got %v, want ErrNotExist", err)
	}
	if err := os.Mkdir(filepath.Join(r.pgWAL, segment), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := pusher.Push(t.Context(), filepath.Join(r.pgWAL, segment)); err == nil {
		t.Error("a directory is archived")
	}
}

// Records that are broken are the database's own damage: archived and marked, refused, or not looked at.
func TestVerify(t *testing.T) {
	content := broken(file(t, segment))
	page := file(t, segment)
	binary.LittleEndian.PutUint64(page[3*8192+8:], 0x12345678) // the address of the fourth page
	for _, test := range []struct {
		verify  archive.Verify
		content []byte
		want    codec.WALCheck
		refused bool
	}{
		{archive.VerifyWarn, content, codec.Damaged, false},
		{archive.VerifyWarn, page, codec.Damaged, false},
		{archive.VerifyWarn, file(t, segment), codec.Intact, false},
		{archive.VerifyStrict, content, 0, true},
		{archive.VerifyStrict, page, 0, true},
		{archive.VerifyStrict, file(t, segment), codec.Intact, false},
		{archive.VerifyOff, content, codec.NotChecked, false},
		{archive.VerifyOff, file(t, segment), codec.NotChecked, false},
	} {
		onEach(t, func(t *testing.T, r *rig) {
			o := options(t, "zstd")
			o.Verify = test.verify
			done, err := r.pushWith(o, segment, test.content)
			if test.refused {
				wantErr(t, string(test.verify), err, archive.ErrBroken)
				r.wantObjects()
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			trailer := r.trailer(done.Object)
			if trailer.WALCheck != test.want || (trailer.DamageLSN != 0) != (test.want == codec.Damaged) || (done.Damage != nil) != (test.want == codec.Damaged) {
				t.Errorf("%s: got %v at %x, %v, want %v", test.verify, trailer.WALCheck, trailer.DamageLSN, done.Damage, test.want)
			}
			if got := r.wantFetch(segment, test.content); uint64(got.DamageLSN) != trailer.DamageLSN {
				t.Errorf("%s: delivered with damage at %s, want %x", test.verify, got.DamageLSN, trailer.DamageLSN)
			}
		})
	}
}

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

// together lets several servers archive at once, each with its own options and content, and gives what they heard.
func (r *rig) together(name string, n int, with func(i int) (archive.PushOptions, []byte)) ([]archive.Pushed, []error) {
	done, errs := make([]archive.Pushed, n), make([]error, n)
	var start, all sync.WaitGroup
	start.Add(1)
	for i := range n {
		o, content := with(i)
		dir := filepath.Join(r.pgWAL, string(rune('a'+i)))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			r.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			r.t.Fatal(err)
		}
		all.Go(func() {
			start.Wait()
			done[i], errs[i] = r.a.NewPusher(o).Push(r.t.Context(), filepath.Join(dir, name))
		})
	}
	start.Done()
	all.Wait()
	return done, errs
}

// Archive-cmd, its look-ahead, the supervisor and a standby may all store one segment at once.
func TestPushTogether(t *testing.T) {
	content := file(t, segment)
	onEach(t, func(t *testing.T, r *rig) {
		done, errs := r.together(segment, 8, func(int) (archive.PushOptions, []byte) { return options(t, "zstd"), content })
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
		r.wantObjects(directory(segment) + segment + ".zst")
		r.wantFetch(segment, content)
	})
}

// Of several contents at once, at most one is acknowledged, and that one can be fetched where there is one ending.
func TestConflictTogether(t *testing.T) {
	contents := make([][]byte, 4)
	for i := range contents {
		contents[i] = file(t, segment)
		contents[i][8192+20] = byte(i) // unused
	}
	for name, codecs := range map[string][]string{"one codec": {"zstd"}, "several codecs": {"zstd", "lz4", "gzip", "s2"}} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, r *rig) {
				_, errs := r.together(segment, 8, func(i int) (archive.PushOptions, []byte) {
					return options(t, codecs[i%len(codecs)]), contents[i%4]
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
				r.wantFetch(segment, contents[acknowledged])
			})
		})
	}
}

func TestPartialsTogether(t *testing.T) {
	contents := make([][]byte, 4)
	for i := range contents {
		contents[i] = file(t, partial)
		contents[i][len(contents[i])-1] = byte(i)
	}
	onEach(t, func(t *testing.T, r *rig) {
		_, errs := r.together(partial, 8, func(i int) (archive.PushOptions, []byte) { return options(t, "zstd"), contents[i%4] })
		for i, err := range errs {
			if err != nil {
				t.Errorf("%d: %v", i, err)
			}
		}
		if got := len(r.objects()); got != 4 {
			t.Errorf("got %d objects, want one for each content: %q", got, r.objects())
		}
		for i, content := range contents {
			if done, err := r.push(partial, content); err != nil || !done.Duplicate {
				t.Errorf("content %d: got %+v, %v, want a duplicate", i, done, err)
			}
		}
	})
}

// Whatever call of the backend fails, Push does not say that the file is archived, and says so when it is tried again.
func TestPushFaults(t *testing.T) {
	content := file(t, segment)
	for _, already := range []bool{false, true} {
		for n := 0; ; n++ {
			f := &faulty{Backend: new(mem.Backend), n: -1}
			r := newRig(t, f)
			if already {
				r.mustPush(segment, content)
			}
			f.mu.Lock()
			f.n = n
			f.mu.Unlock()
			_, err := r.push(segment, content)
			if f.call == "" {
				if err != nil || n < 4 {
					t.Errorf("there before %t: after %d calls: got %v", already, n, err)
				}
				break
			}
			wantErr(t, f.call, err, errFault)
			if _, err := r.push(segment, content); err != nil {
				t.Errorf("%s: again: got %v", f.call, err)
			}
			r.wantFetch(segment, content)
			r.wantObjects(directory(segment) + segment + ".zst")
		}
	}
}
