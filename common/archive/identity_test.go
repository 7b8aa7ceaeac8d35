package archive_test

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"walkeep/common/archive"
	"walkeep/common/storage/mem"
	"walkeep/common/wal"
)

// An archive belongs to the cluster that was first.
func TestTwoClusters(t *testing.T) {
	onEach(t, func(t *testing.T, r *rig) {
		r.mustPush(segment, file(t, segment))
		for _, name := range []string{segment, switched, partial, third} {
			_, err := r.push(name, ofAnother(file(t, name)))
			wantErr(t, "another cluster's "+name, err, archive.ErrForeign)
		}
		r.wantObjects(directory(segment) + segment + ".zst")
		r.mustPush(switched, file(t, switched))
	})
}

// Text files do not say whose they are: the data directory that they come from does.
func TestTextOfAnotherCluster(t *testing.T) {
	onEach(t, func(t *testing.T, r *rig) {
		own := systemID(t, file(t, segment))
		r.mustPush(segment, file(t, segment))
		for _, name := range []string{history2, label} {
			o := options(t, "zstd")
			o.SystemID = own + 1
			_, err := r.pushWith(o, name, file(t, name))
			wantErr(t, "another cluster's "+name, err, archive.ErrForeign)
			o.SystemID = own
			if _, err := r.pushWith(o, name, file(t, name)); err != nil {
				t.Errorf("its own %s: %v", name, err)
			}
		}
	})
}

// A segment that lies in the data directory of another cluster is refused before it can bind an archive.
func TestSegmentOfAnotherDataDirectory(t *testing.T) {
	r := newRig(t, new(mem.Backend))
	o := options(t, "zstd")
	o.SystemID = systemID(t, file(t, segment)) + 1
	_, err := r.pushWith(o, segment, file(t, segment))
	wantErr(t, "push", err, archive.ErrForeign)
	if left := walk(t, r.b, ""); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// wider makes a segment one of 2 MB, which lies at the same position under another name.
func wider(b []byte) []byte {
	b = append(b, make([]byte, len(b))...)
	binary.LittleEndian.PutUint32(b[atSegmentSize:], uint32(len(b)))
	return b
}

// All segments of an archive have one size: initdb sets it, and pg_resetwal can change it.
func TestAnotherSegmentSize(t *testing.T) {
	const name = "000000010000000000000005" // the name of switched with segments of 2 MB
	onEach(t, func(t *testing.T, r *rig) {
		r.mustPush(segment, file(t, segment))
		_, err := r.push(name, wider(file(t, switched)))
		wantErr(t, "push", err, archive.ErrForeign)
		r.wantObjects(directory(segment) + segment + ".zst")
	})
	r := newRig(t, new(mem.Backend))
	if _, err := r.push(name, wider(file(t, switched))); err != nil {
		t.Errorf("into an archive of its own: %v", err)
	}
}

// Of two clusters that come first at the same moment, one wins, and the archive is all its own.
func TestIdentityRace(t *testing.T) {
	own := file(t, segment)
	other := ofAnother(own)
	races := 25
	for range races {
		onEach(t, func(t *testing.T, r *rig) {
			_, errs := r.together(segment, 4, func(i int) (archive.PushOptions, []byte) {
				if i%2 == 0 {
					return options(t, "zstd"), own
				}
				return options(t, "lz4"), other
			})
			id, err := r.a.Identity(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			winner, content := 0, own
			if id.SystemID != systemID(t, own) {
				winner, content = 1, other
			}
			for i, err := range errs {
				if i%2 == winner && err != nil {
					t.Errorf("the winner: %v", err)
				} else if i%2 != winner && !errors.Is(err, archive.ErrForeign) {
					t.Errorf("the loser: got %v, want ErrForeign", err)
				}
			}
			if got := r.objects(); len(got) != 1 {
				t.Errorf("got %q, want the winner's segment", got)
			}
			r.wantFetch(segment, content)
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
			onEach(t, func(t *testing.T, r *rig) {
				r.put("archive.json", []byte(test.content))
				_, err := r.a.Identity(t.Context())
				wantErr(t, "Identity", err, test.want)
				_, _, err = r.fetch(segment, 0)
				wantErr(t, "Fetch", err, test.want)
				for _, name := range []string{segment, history2} {
					_, err = r.push(name, file(t, name))
					wantErr(t, "Push", err, test.want)
				}
				if got := string(r.read("archive.json")); got != test.content {
					t.Errorf("it was changed to %q", got)
				}
				r.wantObjects()
			})
		})
	}
}

// The largest identifier is not rounded on its way through JSON.
func TestIdentityIsExact(t *testing.T) {
	r := newRig(t, new(mem.Backend))
	b := file(t, segment)
	binary.LittleEndian.PutUint64(b[atSystemID:], 1<<64-1)
	r.mustPush(segment, b)
	want := archive.Identity{Version: 1, SystemID: wal.SystemID(1<<64 - 1), SegmentSize: 1 << 20}
	if got, err := r.a.Identity(t.Context()); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if got, want := string(r.read("archive.json")), `{"version":1,"system_identifier":"18446744073709551615","segment_size":1048576}`+"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// An archive that belongs to nobody: text files may come first, and nothing in it is absent.
func TestUnbound(t *testing.T) {
	onEach(t, func(t *testing.T, r *rig) {
		if _, err := r.a.Identity(t.Context()); !errors.Is(err, archive.ErrUnbound) {
			t.Errorf("Identity: got %v, want ErrUnbound", err)
		}
		for _, name := range []string{segment, history2, partial, label} {
			_, _, err := r.fetch(name, 0)
			wantErr(t, "fetch "+name, err, archive.ErrUnbound)
		}
		r.mustPush(history2, file(t, history2))
		r.wantFetch(history2, file(t, history2))
		_, _, err := r.fetch(segment, 0)
		wantErr(t, "fetch a segment", err, archive.ErrUnbound)
		r.mustPush(segment, file(t, segment))
		r.wantFetch(segment, file(t, segment))
		_, _, err = r.fetch("000000010000000000000010", 0)
		wantErr(t, "fetch the next", err, archive.ErrAbsent)
	})
}
