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
	"testing"

	"walkeep/common/archive"
	"walkeep/common/archive/archivetest"
	"walkeep/common/codec"
	"walkeep/common/storage/mem"
	"walkeep/common/wal"
)

// What servers of every release have archived goes in, again, and out, byte for byte.
func TestEveryRelease(t *testing.T) {
	for i, major := range archivetest.Majors(t) {
		t.Run(major, func(t *testing.T) {
			r := archivetest.New(t, new(mem.Backend))
			o := archivetest.Options(t, codec.Names()[i%len(codec.Names())])
			o.Verify = archive.VerifyStrict
			files := archivetest.Archived(t, major)
			for _, name := range files {
				content := archivetest.Load(t, major, name)
				done, err := r.PushWith(o, name, content)
				if err != nil || done.Duplicate || done.Variant || done.Damage != nil || done.Plain != int64(len(content)) {
					t.Errorf("push %s: got %+v, %v", name, done, err)
					continue
				}
				if got := int64(len(r.Read(done.Object))); got != done.Stored {
					t.Errorf("push %s: got %d stored bytes, want %d", name, done.Stored, got)
				}
			}
			if got := len(r.Objects()); got != len(files) {
				t.Errorf("got %d objects, want %d", got, len(files))
			}
			for _, name := range files {
				done, err := r.PushWith(o, name, archivetest.Load(t, major, name))
				if err != nil || !done.Duplicate || done.Stored != 0 {
					t.Errorf("push %s again: got %+v, %v, want a duplicate", name, done, err)
				}
				if got := r.WantFetch(name, archivetest.Load(t, major, name)); got.Foreign || got.DamageLSN != 0 || got.Object != done.Object {
					t.Errorf("fetch %s: got %+v", name, got)
				}
			}
		})
	}
}

// What an object says about itself.
func TestTrailers(t *testing.T) {
	archivetest.OnEach(t, func(t *testing.T, r *archivetest.Rig) {
		b := archivetest.File(t, archivetest.Segment)
		id := archivetest.SystemID(t, b)
		for _, test := range []struct {
			name  string
			check codec.WALCheck
			start wal.LSN
		}{
			{archivetest.Segment, codec.Intact, 0x900000}, {archivetest.Label, codec.NotWAL, 0}, {archivetest.History2, codec.NotWAL, 0}, {archivetest.Partial, codec.Intact, 0x1000000},
		} {
			o := archivetest.Options(t, "zstd")
			o.SystemID = id
			content := archivetest.File(t, test.name)
			done, err := r.PushWith(o, test.name, content)
			if err != nil {
				t.Fatal(err)
			}
			got := *r.Trailer(done.Object)
			size, hash, err := codec.Sum(bytes.NewReader(content))
			if err != nil {
				t.Fatal(err)
			}
			want := codec.Trailer{Codec: "zstd", WALCheck: test.check, ChunkSize: codec.ChunkSize, SystemID: uint64(id), PlainSize: size,
				PlainHash: hash, StoredSHA256: got.StoredSHA256, StoredXXH3: got.StoredXXH3, Mark: got.Mark, Start: uint64(test.start), End: got.End, Chunks: got.Chunks, Name: test.name, Tool: "0.1.0"}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s: got %+v, want %+v", test.name, got, want)
			}
			if end := wal.LSN(got.End); (test.check == codec.NotWAL) != (end == 0) || end != 0 && (end <= test.start || end > test.start+1<<20) {
				t.Errorf("%s: got the end %s", test.name, end)
			}
		}
		id2, err := r.A.Identity(t.Context())
		if err != nil || id2 != (archive.Identity{Version: 1, SystemID: id, SegmentSize: 1 << 20}) {
			t.Errorf("identity: got %+v, %v", id2, err)
		}
	})
}

// Files that are not what their names say are refused, and leave nothing behind.
func TestRefused(t *testing.T) {
	whole := archivetest.File(t, archivetest.Segment)
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
		{"lower case", strings.ToLower(archivetest.Switched), archivetest.File(t, archivetest.Switched), archive.ErrNotWAL},
		{"recycled: another segment's content", archivetest.Switched, whole, archive.ErrNotWAL},
		{"another timeline's content", archivetest.Segment, archivetest.File(t, archivetest.Third), archive.ErrNotWAL},
		{"an earlier position", "00000001000000000000000B", whole, archive.ErrNotWAL},
		{"empty", archivetest.Segment, nil, archive.ErrNotWAL},
		{"a page", archivetest.Segment, whole[:8192], archive.ErrNotWAL},
		{"a byte short", archivetest.Segment, whole[:len(whole)-1], archive.ErrNotWAL},
		{"a byte too long", archivetest.Segment, append(bytes.Clone(whole), 0), archive.ErrNotWAL},
		{"twice", archivetest.Segment, append(bytes.Clone(whole), whole...), archive.ErrNotWAL},
		{"zeros", archivetest.Segment, make([]byte, 1<<20), archive.ErrNotWAL},
		{"text", archivetest.Segment, bytes.Repeat([]byte("text"), 1<<18), archive.ErrNotWAL},
		{"the magic of 9.6", archivetest.Segment, set(0, 0x93, 0xD0), archive.ErrNotWAL},
		{"no magic of a release to come", archivetest.Segment, set(0, 0xFF, 0xD3), archive.ErrNotWAL},
		{"a short header", archivetest.Segment, set(2, 0), archive.ErrNotWAL},
		{"no segment size", archivetest.Segment, set(archivetest.AtSegmentSize, 1, 2, 3, 4), archive.ErrNotWAL},
		{"too large a segment size", archivetest.Segment, set(archivetest.AtSegmentSize, 0, 0, 0x20, 0), archive.ErrNotWAL},
		{"a partial that is too long", archivetest.Partial, append(archivetest.File(t, archivetest.Partial), 0), archive.ErrNotWAL},
		{"a partial without a header", archivetest.Partial, archivetest.File(t, archivetest.Partial)[:39], archive.ErrNotWAL},
		{"a partial of another segment", archivetest.Partial, whole, archive.ErrNotWAL},
		{"a history of a later timeline", archivetest.History2, archivetest.File(t, archivetest.History3), archive.ErrNotWAL},
		{"a history without a line", archivetest.History2, nil, archive.ErrNotWAL},
		{"a history of zeros", archivetest.History2, make([]byte, 41), archive.ErrNotWAL},
		{"a history that is too long", archivetest.History2, bytes.Repeat([]byte("#\n"), 1<<20), archive.ErrNotWAL},
		{"a label of another segment", "00000001000000000000000A.00000028.backup", archivetest.File(t, archivetest.Label), archive.ErrNotWAL},
		{"a label that names it elsewhere", archivetest.Label, append([]byte("x\n"), archivetest.File(t, archivetest.Label)...), archive.ErrNotWAL},
		{"a label of one word", archivetest.Label, []byte("(file 00000001000000000000000B)"), archive.ErrNotWAL},
		{"an empty label", archivetest.Label, nil, archive.ErrNotWAL},
	} {
		t.Run(test.what, func(t *testing.T) {
			r := archivetest.New(t, new(mem.Backend))
			_, err := r.Push(test.name, test.content)
			archivetest.WantErr(t, "push", err, test.want)
			if left := archivetest.Walk(t, r.B, ""); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
	r := archivetest.New(t, new(mem.Backend))
	pusher := r.A.NewPusher(archivetest.Options(t, "zstd"))
	if _, err := pusher.Push(t.Context(), filepath.Join(r.PgWAL, archivetest.Segment)); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, archive.ErrNotWAL) {
		t.Errorf("a file that is not there: got %v, want ErrNotExist", err)
	}
	if err := os.Mkdir(filepath.Join(r.PgWAL, archivetest.Segment), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := pusher.Push(t.Context(), filepath.Join(r.PgWAL, archivetest.Segment)); err == nil {
		t.Error("a directory is archived")
	}
}

// Records that are broken are the database's own damage: archived and marked, refused, or not looked at.
func TestVerify(t *testing.T) {
	content := archivetest.Broken(archivetest.File(t, archivetest.Segment))
	page := archivetest.File(t, archivetest.Segment)
	binary.LittleEndian.PutUint64(page[3*8192+8:], 0x12345678) // the address of the fourth page
	for _, test := range []struct {
		verify  archive.Verify
		content []byte
		want    codec.WALCheck
		refused bool
	}{
		{archive.VerifyWarn, content, codec.Damaged, false},
		{archive.VerifyWarn, page, codec.Damaged, false},
		{archive.VerifyWarn, archivetest.File(t, archivetest.Segment), codec.Intact, false},
		{archive.VerifyStrict, content, 0, true},
		{archive.VerifyStrict, page, 0, true},
		{archive.VerifyStrict, archivetest.File(t, archivetest.Segment), codec.Intact, false},
		{archive.VerifyOff, content, codec.NotChecked, false},
		{archive.VerifyOff, archivetest.File(t, archivetest.Segment), codec.NotChecked, false},
	} {
		archivetest.OnEach(t, func(t *testing.T, r *archivetest.Rig) {
			o := archivetest.Options(t, "zstd")
			o.Verify = test.verify
			done, err := r.PushWith(o, archivetest.Segment, test.content)
			if test.refused {
				archivetest.WantErr(t, string(test.verify), err, archive.ErrBroken)
				r.WantObjects()
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			trailer := r.Trailer(done.Object)
			if trailer.WALCheck != test.want || (trailer.DamageLSN != 0) != (test.want == codec.Damaged) || (done.Damage != nil) != (test.want == codec.Damaged) {
				t.Errorf("%s: got %v at %x, %v, want %v", test.verify, trailer.WALCheck, trailer.DamageLSN, done.Damage, test.want)
			}
			if got := r.WantFetch(archivetest.Segment, test.content); uint64(got.DamageLSN) != trailer.DamageLSN {
				t.Errorf("%s: delivered with damage at %s, want %x", test.verify, got.DamageLSN, trailer.DamageLSN)
			}
		})
	}
}

// Whatever call of the backend fails, Push returns an error, and succeeds when it is called again.
func TestPushFaults(t *testing.T) {
	content := archivetest.File(t, archivetest.Segment)
	for _, already := range []bool{false, true} {
		for n := 0; ; n++ {
			f := &archivetest.Faulty{Backend: new(mem.Backend), N: -1}
			r := archivetest.New(t, f)
			if already {
				r.MustPush(archivetest.Segment, content)
			}
			f.Mu.Lock()
			f.N = n
			f.Mu.Unlock()
			_, err := r.Push(archivetest.Segment, content)
			if f.Call == "" {
				if err != nil || n < 4 {
					t.Errorf("there before %t: after %d calls: got %v", already, n, err)
				}
				break
			}
			archivetest.WantErr(t, f.Call, err, archivetest.ErrFault)
			if _, err := r.Push(archivetest.Segment, content); err != nil {
				t.Errorf("%s: again: got %v", f.Call, err)
			}
			r.WantFetch(archivetest.Segment, content)
			r.WantObjects(archivetest.Directory(archivetest.Segment) + archivetest.Segment + ".zst")
		}
	}
}
