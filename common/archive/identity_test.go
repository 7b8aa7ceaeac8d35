package archive_test

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"walkeep/common/archive"
	"walkeep/common/archive/archivetest"
	"walkeep/common/recovery"
	"walkeep/common/storage/mem"
	"walkeep/common/wal"
)

// An archive belongs to the cluster that was first.
func TestTwoClusters(t *testing.T) {
	archivetest.OnEach(t, func(t *testing.T, r *archivetest.Rig) {
		r.MustPush(archivetest.Segment, archivetest.File(t, archivetest.Segment))
		for _, name := range []string{archivetest.Segment, archivetest.Switched, archivetest.Partial, archivetest.Third} {
			_, err := r.Push(name, archivetest.OfAnother(archivetest.File(t, name)))
			archivetest.WantErr(t, "another cluster's "+name, err, archive.ErrForeign)
		}
		r.WantObjects(archivetest.Directory(archivetest.Segment) + archivetest.Segment + ".zst")
		r.MustPush(archivetest.Switched, archivetest.File(t, archivetest.Switched))
	})
}

// Text files do not say whose they are: the data directory that they come from does.
func TestTextOfAnotherCluster(t *testing.T) {
	archivetest.OnEach(t, func(t *testing.T, r *archivetest.Rig) {
		own := archivetest.SystemID(t, archivetest.File(t, archivetest.Segment))
		r.MustPush(archivetest.Segment, archivetest.File(t, archivetest.Segment))
		for _, name := range []string{archivetest.History2, archivetest.Label} {
			o := archivetest.Options(t, "zstd")
			o.SystemID = own + 1
			_, err := r.PushWith(o, name, archivetest.File(t, name))
			archivetest.WantErr(t, "another cluster's "+name, err, archive.ErrForeign)
			o.SystemID = own
			if _, err := r.PushWith(o, name, archivetest.File(t, name)); err != nil {
				t.Errorf("its own %s: %v", name, err)
			}
		}
	})
}

// A segment that lies in the data directory of another cluster is refused before it can bind an archive.
func TestSegmentOfAnotherDataDirectory(t *testing.T) {
	r := archivetest.New(t, new(mem.Backend))
	o := archivetest.Options(t, "zstd")
	o.SystemID = archivetest.SystemID(t, archivetest.File(t, archivetest.Segment)) + 1
	_, err := r.PushWith(o, archivetest.Segment, archivetest.File(t, archivetest.Segment))
	archivetest.WantErr(t, "push", err, archive.ErrForeign)
	if left := archivetest.Walk(t, r.B, ""); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// wider makes a segment one of 2 MB, which lies at the same position under another name.
func wider(b []byte) []byte {
	b = append(b, make([]byte, len(b))...)
	binary.LittleEndian.PutUint32(b[archivetest.AtSegmentSize:], uint32(len(b)))
	return b
}

// All segments of an archive have one size: initdb sets it, and pg_resetwal can change it.
func TestAnotherSegmentSize(t *testing.T) {
	const name = "000000010000000000000005" // the name of switched with segments of 2 MB
	archivetest.OnEach(t, func(t *testing.T, r *archivetest.Rig) {
		r.MustPush(archivetest.Segment, archivetest.File(t, archivetest.Segment))
		_, err := r.Push(name, wider(archivetest.File(t, archivetest.Switched)))
		archivetest.WantErr(t, "push", err, archive.ErrForeign)
		r.WantObjects(archivetest.Directory(archivetest.Segment) + archivetest.Segment + ".zst")
	})
	r := archivetest.New(t, new(mem.Backend))
	if _, err := r.Push(name, wider(archivetest.File(t, archivetest.Switched))); err != nil {
		t.Errorf("into an archive of its own: %v", err)
	}
}

// Of two clusters that come first at the same moment, one wins, and the archive is all its own.
func TestIdentityRace(t *testing.T) {
	own := archivetest.File(t, archivetest.Segment)
	other := archivetest.OfAnother(own)
	races := 25
	for range races {
		archivetest.OnEach(t, func(t *testing.T, r *archivetest.Rig) {
			_, errs := together(r, archivetest.Segment, 4, func(i int) (archive.PushOptions, []byte) {
				if i%2 == 0 {
					return archivetest.Options(t, "zstd"), own
				}
				return archivetest.Options(t, "lz4"), other
			})
			id, err := r.A.Identity(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			winner, content := 0, own
			if id.SystemID != archivetest.SystemID(t, own) {
				winner, content = 1, other
			}
			for i, err := range errs {
				if i%2 == winner && err != nil {
					t.Errorf("the winner: %v", err)
				} else if i%2 != winner && !errors.Is(err, archive.ErrForeign) {
					t.Errorf("the loser: got %v, want ErrForeign", err)
				}
			}
			if got := r.Objects(); len(got) != 1 {
				t.Errorf("got %q, want the winner's segment", got)
			}
			r.WantFetch(archivetest.Segment, content)
		})
	}
}

// An identity that cannot be read is no reason to make a new one, nor to say that a file is absent.
func TestBrokenIdentity(t *testing.T) {
	for _, test := range []struct {
		name, content string
		want          error
	}{
		{"empty", "", archive.ErrDamaged},
		{"zeros", strings.Repeat("\x00", 80), archive.ErrDamaged},
		{"half", `{"version":1,"system_identifier":"7`, archive.ErrDamaged},
		{"no object", `[]`, archive.ErrDamaged},
		{"more behind it", `{"version":1,"system_identifier":"7","segment_size":1048576}}`, archive.ErrDamaged},
		{"no version", `{"system_identifier":"7","segment_size":1048576}`, archive.ErrNoFormat},
		{"a later version", `{"version":2,"system_identifier":"7","segment_size":1048576}`, archive.ErrNoFormat},
		{"no cluster", `{"version":1,"segment_size":1048576}`, archive.ErrDamaged},
		{"cluster 0", `{"version":1,"system_identifier":"0","segment_size":1048576}`, archive.ErrDamaged},
		{"a negative cluster", `{"version":1,"system_identifier":"-7","segment_size":1048576}`, archive.ErrDamaged},
		{"a cluster that is too large", `{"version":1,"system_identifier":"18446744073709551616","segment_size":1048576}`, archive.ErrDamaged},
		{"no segment size", `{"version":1,"system_identifier":"7"}`, archive.ErrDamaged},
		{"an odd segment size", `{"version":1,"system_identifier":"7","segment_size":1048577}`, archive.ErrDamaged},
		{"a huge segment size", `{"version":1,"system_identifier":"7","segment_size":2147483648}`, archive.ErrDamaged},
	} {
		t.Run(test.name, func(t *testing.T) {
			archivetest.OnEach(t, func(t *testing.T, r *archivetest.Rig) {
				r.Put("archive.json", []byte(test.content))
				_, err := r.A.Identity(t.Context())
				archivetest.WantErr(t, "Identity", err, test.want)
				_, _, err = r.Fetch(archivetest.Segment, 0)
				archivetest.WantErr(t, "Fetch", err, test.want)
				for _, name := range []string{archivetest.Segment, archivetest.History2} {
					_, err = r.Push(name, archivetest.File(t, name))
					archivetest.WantErr(t, "Push", err, test.want)
				}
				if got := string(r.Read("archive.json")); got != test.content {
					t.Errorf("it was changed to %q", got)
				}
				r.WantObjects()
			})
		})
	}
}

// The largest identifier is not rounded on its way through JSON.
func TestIdentityIsExact(t *testing.T) {
	r := archivetest.New(t, new(mem.Backend))
	b := archivetest.File(t, archivetest.Segment)
	binary.LittleEndian.PutUint64(b[archivetest.AtSystemID:], 1<<64-1)
	r.MustPush(archivetest.Segment, b)
	want := archive.Identity{Version: 1, SystemID: wal.SystemID(1<<64 - 1), SegmentSize: 1 << 20}
	if got, err := r.A.Identity(t.Context()); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if got, want := string(r.Read("archive.json")), `{"version":1,"system_identifier":"18446744073709551615","segment_size":1048576}`+"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// An archive that belongs to nobody: text files may come first, and nothing in it is absent.
func TestUnbound(t *testing.T) {
	archivetest.OnEach(t, func(t *testing.T, r *archivetest.Rig) {
		if _, err := r.A.Identity(t.Context()); !errors.Is(err, archive.ErrUnbound) {
			t.Errorf("Identity: got %v, want ErrUnbound", err)
		}
		for _, name := range []string{archivetest.Segment, archivetest.History2, archivetest.Partial, archivetest.Label} {
			_, _, err := r.Fetch(name, 0)
			archivetest.WantErr(t, "fetch "+name, err, archive.ErrUnbound)
		}
		r.MustPush(archivetest.History2, archivetest.File(t, archivetest.History2))
		r.WantFetch(archivetest.History2, archivetest.File(t, archivetest.History2))
		_, _, err := r.Fetch(archivetest.Segment, 0)
		archivetest.WantErr(t, "fetch a segment", err, archive.ErrUnbound)
		r.MustPush(archivetest.Segment, archivetest.File(t, archivetest.Segment))
		r.WantFetch(archivetest.Segment, archivetest.File(t, archivetest.Segment))
		_, _, err = r.Fetch("000000010000000000000010", 0)
		archivetest.WantErr(t, "fetch the next", err, recovery.ErrAbsent)
	})
}
