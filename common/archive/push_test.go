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
				PlainHash: hash, StoredHash: got.StoredHash, StoredSum: got.StoredSum, Mark: got.Mark, Start: uint64(test.start), End: got.End, Chunks: got.Chunks, Name: test.name, Tool: "0.1.0"}
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
		{"no magic of a release to come", segment, set(0, 0xFF, 0xD3), archive.ErrNotWAL},
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
