package archive_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"walkeep/common/archive"
	"walkeep/common/codec"
	"walkeep/common/storage/mem"
	"walkeep/common/wal"
)

// foreignForms are what other archivers and people leave behind, by ending.
var foreignForms = map[string]func(t testing.TB, b []byte) []byte{
	"": func(_ testing.TB, b []byte) []byte { return b },
	".gz": func(t testing.TB, b []byte) []byte {
		return compress(t, b, func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) })
	},
	".lz4": func(t testing.TB, b []byte) []byte {
		return compress(t, b, func(w io.Writer) io.WriteCloser { return lz4.NewWriter(w) })
	},
	".s2": func(t testing.TB, b []byte) []byte {
		return compress(t, b, func(w io.Writer) io.WriteCloser { return s2.NewWriter(w) })
	},
	".zst": func(t testing.TB, b []byte) []byte {
		return compress(t, b, func(w io.Writer) io.WriteCloser {
			z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
			if err != nil {
				t.Fatal(err)
			}
			return z
		})
	},
}

func compress(t testing.TB, b []byte, to func(io.Writer) io.WriteCloser) []byte {
	t.Helper()
	var out bytes.Buffer
	w := to(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// Files of another archiver are delivered if their own content shows what they are: then all of it is checked.
func TestFetchForeign(t *testing.T) {
	whole := file(t, segment)
	id := systemID(t, whole)
	for ending, pack := range foreignForms {
		for _, test := range []struct {
			what, name string
			content    []byte
			cluster    wal.SystemID
			want       error // nil if it is delivered
		}{
			{"a segment", segment, whole, 0, nil},
			{"a segment for its cluster", segment, whole, id, nil},
			{"a segment with old timelines", third, file(t, third), 0, nil},
			{"a partial", partial, file(t, partial), 0, nil},
			{"a history", history2, file(t, history2), id, nil},
			{"a label", label, file(t, label), id, nil},
			{"another segment's content", switched, whole, 0, archive.ErrDamaged},
			{"half", segment, whole[:1<<19], 0, archive.ErrDamaged},
			{"a byte short", segment, whole[:len(whole)-1], 0, archive.ErrDamaged},
			{"a byte too long", segment, append(bytes.Clone(whole), 0), 0, archive.ErrDamaged},
			{"nothing", segment, nil, 0, archive.ErrDamaged},
			{"zeros", segment, make([]byte, 1<<20), 0, archive.ErrDamaged},
			{"broken records", segment, broken(whole), 0, archive.ErrDamaged},
			{"another cluster's", segment, ofAnother(whole), 0, archive.ErrForeign},
			{"a history of a later timeline", history2, file(t, history3), 0, archive.ErrDamaged},
			{"an empty history", history2, nil, 0, archive.ErrDamaged},
			{"a label of another segment", "00000001000000000000000C.00000028.backup", file(t, label), 0, archive.ErrDamaged},
			{"an endless label", label, append(file(t, label), make([]byte, 1<<20)...), 0, archive.ErrDamaged},
		} {
			t.Run(ending+"/"+test.what, func(t *testing.T) {
				r := newRig(t, new(mem.Backend))
				r.bind(id, 1<<20)
				object := directory(test.name) + test.name + ending
				if strings.HasSuffix(test.name, ".history") {
					object = "wal/" + test.name + ending
				}
				r.put(object, pack(t, test.content))
				got, info, err := r.fetch(test.name, test.cluster)
				if test.want != nil {
					wantErr(t, "fetch", err, test.want)
					return
				}
				if err != nil || !bytes.Equal(got, test.content) || !info.Foreign || info.Object != object {
					t.Errorf("got %d bytes, %+v, %v, want %d foreign ones", len(got), info, err, len(test.content))
				}
			})
		}
	}
}

// Without an identity, the data directory says which cluster's files are wanted.
func TestFetchForeignUnbound(t *testing.T) {
	whole := file(t, segment)
	r := newRig(t, new(mem.Backend))
	r.put(directory(segment)+segment, whole)
	for _, cluster := range []wal.SystemID{0, systemID(t, whole)} {
		if got, _, err := r.fetch(segment, cluster); err != nil || !bytes.Equal(got, whole) {
			t.Errorf("for cluster %s: got %d bytes, %v", cluster, len(got), err)
		}
	}
	_, _, err := r.fetch(segment, systemID(t, whole)+1)
	wantErr(t, "for another cluster", err, archive.ErrForeign)
	_, _, err = r.fetch(switched, 0)
	wantErr(t, "another segment", err, archive.ErrUnbound)
}

// A foreign file that does not expand is no absent one.
func TestFetchForeignCutOff(t *testing.T) {
	whole := file(t, segment)
	for ending, pack := range foreignForms {
		packed := pack(t, whole)
		for _, b := range [][]byte{packed[:len(packed)/2], packed[:len(packed)-1], packed[:20], {}, flip(packed, len(packed)/2), make([]byte, 100)} {
			r := newRig(t, new(mem.Backend))
			r.bind(systemID(t, whole), 1<<20)
			r.put(directory(segment)+segment+ending, b)
			got, _, err := r.fetch(segment, 0)
			if err == nil || errors.Is(err, archive.ErrAbsent) || errors.Is(err, archive.ErrGap) {
				t.Errorf("%q, %d of %d bytes: got %d bytes, %v, want that it cannot be delivered", ending, len(b), len(packed), len(got), err)
			}
		}
	}
}

// A file that expands to gigabytes does not fill the disk of the server.
func TestFetchBomb(t *testing.T) {
	bomb := compress(t, make([]byte, 64<<20), func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) })
	for _, name := range []string{segment, partial, label} {
		r := newRig(t, new(mem.Backend))
		r.bind(systemID(t, file(t, segment)), 1<<20)
		r.put(directory(name)+name+".gz", bomb)
		var w target
		_, err := r.a.Fetch(t.Context(), parse(t, name), 0, &w)
		wantErr(t, name, err, archive.ErrDamaged)
		if len(w.b) > 1<<20+1 {
			t.Errorf("%s: %d bytes were written, want at most a segment and one", name, len(w.b))
		}
	}
}

// An object of ours that vouches for more than a file of its kind can hold.
func TestFetchTooLarge(t *testing.T) {
	own, err := codec.ByName("zstd")
	if err != nil {
		t.Fatal(err)
	}
	_, _, level := own.Levels()
	packer, err := codec.NewPacker(own, level)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		size int
	}{{segment, 1<<20 + 1}, {segment, 1<<20 - 1}, {segment, 2 << 20}, {partial, 1<<20 + 1}, {history2, 1<<20 + 1}, {label, 8 << 20}} {
		var object bytes.Buffer
		trailer, err := packer.Pack(&object, bytes.NewReader(make([]byte, test.size)), io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		trailer.Name = test.name
		end, err := trailer.Encode()
		if err != nil {
			t.Fatal(err)
		}
		object.Write(end)
		r := newRig(t, new(mem.Backend))
		r.bind(7, 1<<20)
		at := directory(test.name)
		if strings.HasSuffix(test.name, ".history") {
			at = "wal/"
		}
		r.put(at+test.name+".zst", object.Bytes())
		var w target
		_, err = r.a.Fetch(t.Context(), parse(t, test.name), 0, &w)
		wantErr(t, test.name, err, archive.ErrDamaged)
		if len(w.b) > 0 {
			t.Errorf("%s: %d bytes were written", test.name, len(w.b))
		}
	}
}

// An object says itself which file it holds: under another name, or in another cluster's archive, it is not delivered.
func TestFetchRenamed(t *testing.T) {
	onEach(t, func(t *testing.T, r *rig) {
		for _, name := range []string{segment, history2, label, partial} {
			r.mustPush(name, file(t, name))
		}
		for to, from := range map[string]string{
			switched:                                   segment,
			"000000020000000000000009":                 segment,
			"000000010000000000000010":                 partial,
			"000000010000000000000009.partial":         segment,
			"00000004.history":                         history2,
			"00000001000000000000000C.00000028.backup": label,
			"00000001000000000000000B.00000030.backup": label,
		} {
			object, at := directory(from)+from+".zst", directory(to)
			if strings.HasSuffix(from, ".history") {
				object, at = "wal/"+from+".zst", "wal/"
			}
			r.put(at+to+".zst", r.read(object))
			_, _, err := r.fetch(to, 0)
			wantErr(t, from+" as "+to, err, archive.ErrDamaged)
		}
	})
}

// Without its ending an object is taken for a plain file, which it is not.
func TestFetchWithoutEnding(t *testing.T) {
	for _, name := range []string{segment, history2, label, partial} {
		for _, codecName := range codec.Names() {
			r := newRig(t, new(mem.Backend))
			r.bind(systemID(t, file(t, segment)), 1<<20)
			done, err := r.pushWith(options(t, codecName), name, file(t, name))
			if err != nil {
				t.Fatal(err)
			}
			r.put(done.Object[:strings.LastIndexByte(done.Object, '.')], r.read(done.Object))
			if err := r.b.Remove(t.Context(), done.Object); err != nil {
				t.Fatal(err)
			}
			_, _, err = r.fetch(name, 0)
			wantErr(t, name+" of "+codecName, err, archive.ErrDamaged)
		}
	}
}

func TestFetchOfAnotherCluster(t *testing.T) {
	onEach(t, func(t *testing.T, r *rig) {
		id := systemID(t, file(t, segment))
		o := options(t, "zstd")
		o.SystemID = id
		for _, name := range []string{segment, history2} {
			if _, err := r.pushWith(o, name, file(t, name)); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{segment, history2, switched, history3} { // also what is not there
			_, _, err := r.fetch(name, id+1)
			wantErr(t, "fetch "+name+" for another cluster", err, archive.ErrForeign)
		}
		if got, _, err := r.fetch(segment, id); err != nil || len(got) != 1<<20 {
			t.Errorf("for its own: got %d bytes, %v", len(got), err)
		}
		// The objects lie in another cluster's archive: only their trailers know.
		r.bind(id+1, 1<<20)
		for _, name := range []string{segment, history2} {
			for _, cluster := range []wal.SystemID{0, id + 1} {
				_, _, err := r.fetch(name, cluster)
				wantErr(t, "fetch "+name+" from another's archive", err, archive.ErrForeign)
			}
		}
		r.bind(id, 2<<20)
		_, _, err := r.fetch(segment, id)
		wantErr(t, "fetch from an archive of another segment size", err, archive.ErrDamaged)
	})
}

// What cannot be written is not delivered.
func TestFetchFails(t *testing.T) {
	r := newRig(t, new(mem.Backend))
	r.mustPush(segment, file(t, segment))
	r.put("wal/"+history2, file(t, history2))
	for _, name := range []string{segment, history2} {
		_, err := r.a.Fetch(t.Context(), parse(t, name), 0, fullDisk{})
		wantErr(t, name, err, errFault)
	}
}

type fullDisk struct{}

func (fullDisk) WriteAt([]byte, int64) (int, error) { return 0, errFault }

// Whatever call of the backend fails, a file that is there is never called absent, nor delivered by half.
func TestFetchFaults(t *testing.T) {
	content := file(t, segment)
	for what, prepare := range map[string]func(r *rig){
		"one": func(r *rig) { r.mustPush(segment, content) },
		"two endings": func(r *rig) {
			r.mustPush(segment, content)
			r.put(directory(segment)+segment+".gz", foreignForms[".gz"](t, content))
		},
	} {
		for n := 0; ; n++ {
			f := &faulty{Backend: new(mem.Backend), n: -1}
			r := newRig(t, f)
			prepare(r)
			f.mu.Lock()
			f.n = n
			f.mu.Unlock()
			got, _, err := r.fetch(segment, 0)
			if f.call == "" {
				if err != nil || !bytes.Equal(got, content) || n < 4 {
					t.Errorf("%s: after %d calls: got %d bytes, %v", what, n, len(got), err)
				}
				break
			}
			if err == nil || errors.Is(err, archive.ErrAbsent) || errors.Is(err, archive.ErrGap) {
				t.Errorf("%s: %s: got %v, want the fault", what, f.call, err)
			}
		}
	}
}
