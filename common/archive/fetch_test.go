package archive_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strings"
	"testing"

	"walkeep/common/archive"
	"walkeep/common/archive/archivetest"
	"walkeep/common/codec"
	"walkeep/common/recovery"
	"walkeep/common/storage/mem"
	"walkeep/common/wal"
)

// Files of another archiver are delivered if their own content shows what they are: then all of it is checked.
func TestFetchForeign(t *testing.T) {
	whole := archivetest.File(t, archivetest.Segment)
	id := archivetest.SystemID(t, whole)
	for ending, pack := range archivetest.ForeignForms {
		for _, test := range []struct {
			what, name string
			content    []byte
			cluster    wal.SystemID
			want       error // nil if it is delivered
		}{
			{"a segment", archivetest.Segment, whole, 0, nil},
			{"a segment for its cluster", archivetest.Segment, whole, id, nil},
			{"a segment with old timelines", archivetest.Third, archivetest.File(t, archivetest.Third), 0, nil},
			{"a partial", archivetest.Partial, archivetest.File(t, archivetest.Partial), 0, nil},
			{"a history", archivetest.History2, archivetest.File(t, archivetest.History2), id, nil},
			{"a label", archivetest.Label, archivetest.File(t, archivetest.Label), id, nil},
			{"another segment's content", archivetest.Switched, whole, 0, archive.ErrDamaged},
			{"half", archivetest.Segment, whole[:1<<19], 0, archive.ErrDamaged},
			{"a byte short", archivetest.Segment, whole[:len(whole)-1], 0, archive.ErrDamaged},
			{"a byte too long", archivetest.Segment, append(bytes.Clone(whole), 0), 0, archive.ErrDamaged},
			{"nothing", archivetest.Segment, nil, 0, archive.ErrDamaged},
			{"zeros", archivetest.Segment, make([]byte, 1<<20), 0, archive.ErrDamaged},
			{"broken records", archivetest.Segment, archivetest.Broken(whole), 0, archive.ErrDamaged},
			{"another cluster's", archivetest.Segment, archivetest.OfAnother(whole), 0, archive.ErrForeign},
			{"a history of a later timeline", archivetest.History2, archivetest.File(t, archivetest.History3), 0, archive.ErrDamaged},
			{"an empty history", archivetest.History2, nil, 0, archive.ErrDamaged},
			{"a label of another segment", "00000001000000000000000C.00000028.backup", archivetest.File(t, archivetest.Label), 0, archive.ErrDamaged},
			{"an endless label", archivetest.Label, append(archivetest.File(t, archivetest.Label), make([]byte, 1<<20)...), 0, archive.ErrDamaged},
		} {
			t.Run(ending+"/"+test.what, func(t *testing.T) {
				r := archivetest.New(t, new(mem.Backend))
				r.Bind(id, 1<<20)
				object := archivetest.Directory(test.name) + test.name + ending
				if strings.HasSuffix(test.name, ".history") {
					object = "wal/" + test.name + ending
				}
				r.Put(object, pack(t, test.content))
				got, info, err := r.Fetch(test.name, test.cluster)
				if test.want != nil {
					archivetest.WantErr(t, "fetch", err, test.want)
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
	whole := archivetest.File(t, archivetest.Segment)
	r := archivetest.New(t, new(mem.Backend))
	r.Put(archivetest.Directory(archivetest.Segment)+archivetest.Segment, whole)
	for _, cluster := range []wal.SystemID{0, archivetest.SystemID(t, whole)} {
		if got, _, err := r.Fetch(archivetest.Segment, cluster); err != nil || !bytes.Equal(got, whole) {
			t.Errorf("for cluster %s: got %d bytes, %v", cluster, len(got), err)
		}
	}
	_, _, err := r.Fetch(archivetest.Segment, archivetest.SystemID(t, whole)+1)
	archivetest.WantErr(t, "for another cluster", err, archive.ErrForeign)
	_, _, err = r.Fetch(archivetest.Switched, 0)
	archivetest.WantErr(t, "another segment", err, archive.ErrUnbound)
}

// A foreign file that does not expand is no absent one.
func TestFetchForeignCutOff(t *testing.T) {
	whole := archivetest.File(t, archivetest.Segment)
	for ending, pack := range archivetest.ForeignForms {
		packed := pack(t, whole)
		for _, b := range [][]byte{packed[:len(packed)/2], packed[:len(packed)-1], packed[:20], {}, flip(packed, len(packed)/2), make([]byte, 100)} {
			r := archivetest.New(t, new(mem.Backend))
			r.Bind(archivetest.SystemID(t, whole), 1<<20)
			r.Put(archivetest.Directory(archivetest.Segment)+archivetest.Segment+ending, b)
			got, _, err := r.Fetch(archivetest.Segment, 0)
			if err == nil || errors.Is(err, recovery.ErrAbsent) || errors.Is(err, recovery.ErrGap) {
				t.Errorf("%q, %d of %d bytes: got %d bytes, %v, want that it cannot be delivered", ending, len(b), len(packed), len(got), err)
			}
		}
	}
}

// A file that expands to gigabytes does not fill the disk of the server.
func TestFetchBomb(t *testing.T) {
	bomb := archivetest.Compress(t, make([]byte, 64<<20), func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) })
	for _, name := range []string{archivetest.Segment, archivetest.Partial, archivetest.Label} {
		r := archivetest.New(t, new(mem.Backend))
		r.Bind(archivetest.SystemID(t, archivetest.File(t, archivetest.Segment)), 1<<20)
		r.Put(archivetest.Directory(name)+name+".gz", bomb)
		var w archivetest.Target
		_, err := recovery.Fetch(t.Context(), r.A, archivetest.Parse(t, name), 0, &w)
		archivetest.WantErr(t, name, err, archive.ErrDamaged)
		if len(w.B) > 1<<20+1 {
			t.Errorf("%s: %d bytes were written, want at most a segment and one", name, len(w.B))
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
	}{{archivetest.Segment, 1<<20 + 1}, {archivetest.Segment, 1<<20 - 1}, {archivetest.Segment, 2 << 20}, {archivetest.Partial, 1<<20 + 1}, {archivetest.History2, 1<<20 + 1}, {archivetest.Label, 8 << 20}} {
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
		r := archivetest.New(t, new(mem.Backend))
		r.Bind(7, 1<<20)
		at := archivetest.Directory(test.name)
		if strings.HasSuffix(test.name, ".history") {
			at = "wal/"
		}
		r.Put(at+test.name+".zst", object.Bytes())
		var w archivetest.Target
		_, err = recovery.Fetch(t.Context(), r.A, archivetest.Parse(t, test.name), 0, &w)
		archivetest.WantErr(t, test.name, err, archive.ErrDamaged)
		if len(w.B) > 0 {
			t.Errorf("%s: %d bytes were written", test.name, len(w.B))
		}
	}
}

// An object says itself which file it holds: under another name, or in another cluster's archive, it is not delivered.
func TestFetchRenamed(t *testing.T) {
	archivetest.OnEach(t, func(t *testing.T, r *archivetest.Rig) {
		for _, name := range []string{archivetest.Segment, archivetest.History2, archivetest.Label, archivetest.Partial} {
			r.MustPush(name, archivetest.File(t, name))
		}
		for to, from := range map[string]string{
			archivetest.Switched:                       archivetest.Segment,
			"000000020000000000000009":                 archivetest.Segment,
			"000000010000000000000010":                 archivetest.Partial,
			"000000010000000000000009.partial":         archivetest.Segment,
			"00000004.history":                         archivetest.History2,
			"00000001000000000000000C.00000028.backup": archivetest.Label,
			"00000001000000000000000B.00000030.backup": archivetest.Label,
		} {
			object, at := archivetest.Directory(from)+from+".zst", archivetest.Directory(to)
			if strings.HasSuffix(from, ".history") {
				object, at = "wal/"+from+".zst", "wal/"
			}
			r.Put(at+to+".zst", r.Read(object))
			_, _, err := r.Fetch(to, 0)
			archivetest.WantErr(t, from+" as "+to, err, archive.ErrDamaged)
		}
	})
}

// Without its ending an object is taken for a plain file, which it is not.
func TestFetchWithoutEnding(t *testing.T) {
	for _, name := range []string{archivetest.Segment, archivetest.History2, archivetest.Label, archivetest.Partial} {
		for _, codecName := range codec.Names() {
			r := archivetest.New(t, new(mem.Backend))
			r.Bind(archivetest.SystemID(t, archivetest.File(t, archivetest.Segment)), 1<<20)
			done, err := r.PushWith(archivetest.Options(t, codecName), name, archivetest.File(t, name))
			if err != nil {
				t.Fatal(err)
			}
			r.Put(done.Object[:strings.LastIndexByte(done.Object, '.')], r.Read(done.Object))
			if err := r.B.Remove(t.Context(), done.Object); err != nil {
				t.Fatal(err)
			}
			_, _, err = r.Fetch(name, 0)
			archivetest.WantErr(t, name+" of "+codecName, err, archive.ErrDamaged)
		}
	}
}

func TestFetchOfAnotherCluster(t *testing.T) {
	archivetest.OnEach(t, func(t *testing.T, r *archivetest.Rig) {
		id := archivetest.SystemID(t, archivetest.File(t, archivetest.Segment))
		o := archivetest.Options(t, "zstd")
		o.SystemID = id
		for _, name := range []string{archivetest.Segment, archivetest.History2} {
			if _, err := r.PushWith(o, name, archivetest.File(t, name)); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{archivetest.Segment, archivetest.History2, archivetest.Switched, archivetest.History3} { // also what is not there
			_, _, err := r.Fetch(name, id+1)
			archivetest.WantErr(t, "fetch "+name+" for another cluster", err, archive.ErrForeign)
		}
		if got, _, err := r.Fetch(archivetest.Segment, id); err != nil || len(got) != 1<<20 {
			t.Errorf("for its own: got %d bytes, %v", len(got), err)
		}
		// The objects lie in another cluster's archive: only their trailers know.
		r.Bind(id+1, 1<<20)
		for _, name := range []string{archivetest.Segment, archivetest.History2} {
			for _, cluster := range []wal.SystemID{0, id + 1} {
				_, _, err := r.Fetch(name, cluster)
				archivetest.WantErr(t, "fetch "+name+" from another's archive", err, archive.ErrForeign)
			}
		}
		r.Bind(id, 2<<20)
		_, _, err := r.Fetch(archivetest.Segment, id)
		archivetest.WantErr(t, "fetch from an archive of another segment size", err, archive.ErrDamaged)
	})
}

// What cannot be written is not delivered.
func TestFetchFails(t *testing.T) {
	r := archivetest.New(t, new(mem.Backend))
	r.MustPush(archivetest.Segment, archivetest.File(t, archivetest.Segment))
	r.Put("wal/"+archivetest.History2, archivetest.File(t, archivetest.History2))
	for _, name := range []string{archivetest.Segment, archivetest.History2} {
		_, err := recovery.Fetch(t.Context(), r.A, archivetest.Parse(t, name), 0, fullDisk{})
		archivetest.WantErr(t, name, err, archivetest.ErrFault)
	}
}

type fullDisk struct{}

func (fullDisk) WriteAt([]byte, int64) (int, error) { return 0, archivetest.ErrFault }

// Whatever call of the backend fails, a file that is there is never called absent, nor delivered by half.
func TestFetchFaults(t *testing.T) {
	content := archivetest.File(t, archivetest.Segment)
	for what, prepare := range map[string]func(r *archivetest.Rig){
		"one": func(r *archivetest.Rig) { r.MustPush(archivetest.Segment, content) },
		"two endings": func(r *archivetest.Rig) {
			r.MustPush(archivetest.Segment, content)
			r.Put(archivetest.Directory(archivetest.Segment)+archivetest.Segment+".gz", archivetest.ForeignForms[".gz"](t, content))
		},
	} {
		for n := 0; ; n++ {
			f := &archivetest.Faulty{Backend: new(mem.Backend), N: -1}
			r := archivetest.New(t, f)
			prepare(r)
			f.Mu.Lock()
			f.N = n
			f.Mu.Unlock()
			got, _, err := r.Fetch(archivetest.Segment, 0)
			if f.Call == "" {
				if err != nil || !bytes.Equal(got, content) || n < 4 {
					t.Errorf("%s: after %d calls: got %d bytes, %v", what, n, len(got), err)
				}
				break
			}
			if err == nil || errors.Is(err, recovery.ErrAbsent) || errors.Is(err, recovery.ErrGap) {
				t.Errorf("%s: %s: got %v, want the fault", what, f.Call, err)
			}
		}
	}
}
