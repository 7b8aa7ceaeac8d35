package archive_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walkeep/common/archive"
	"walkeep/common/archive/archivetest"
	"walkeep/common/recovery"
	"walkeep/common/sealed"
	"walkeep/common/sealed/sealedtest"
	"walkeep/common/storage/local"
	"walkeep/common/storage/mem"
)

// encrypting are the options of a host that has the public keys only.
func encrypting(t *testing.T, k sealedtest.Keys) archive.PushOptions {
	o := archivetest.Options(t, "zstd")
	o.Recipients, o.CompareKey = k.To(t), k.Compare(t)
	return o
}

// A host that has only the public keys archives, finds what is archived already, and reads the trailers. Only a host with the
// private key reads the content.
func TestEncrypted(t *testing.T) {
	archivetest.OnEach(t, func(t *testing.T, r *archivetest.Rig) {
		k := sealedtest.New(t)
		o := encrypting(t, k)
		for _, name := range []string{archivetest.Segment, archivetest.Partial} {
			content := archivetest.File(t, name)
			done, err := r.PushWith(o, name, content)
			if err != nil || done.Object != archivetest.Directory(name)+name+".zst.age" || done.Stored != int64(len(r.Read(done.Object))) {
				t.Fatalf("got %+v, %v", done, err)
			}
			if bytes.Contains(r.Read(done.Object), []byte("WALKEEP")) {
				t.Error("the trailer is not encrypted")
			}
			again, err := r.PushWith(o, name, content)
			if err != nil || !again.Duplicate || again.Object != done.Object {
				t.Errorf("the same again: got %+v, %v", again, err)
			}
			facts, err := r.A.Trailer(t.Context(), archivetest.Parse(t, name))
			if err != nil || facts.PlainSize != uint64(len(content)) || facts.Start == 0 || facts.SystemID == 0 || facts.StoredSHA256 == [32]byte{} {
				t.Errorf("got %+v, %v", facts, err)
			}
			_, _, err = r.Fetch(name, 0)
			if !errors.Is(err, sealed.ErrNoKey) || errors.Is(err, archive.ErrNotStored) || errors.Is(err, recovery.ErrAbsent) || errors.Is(err, archive.ErrDamaged) {
				t.Errorf("without a private key: got %v, want ErrNoKey", err)
			}
			var w archivetest.Target
			got, err := r.A.WithKeys(k.Private()).Deliver(t.Context(), archivetest.Parse(t, name), 0, &w)
			if err != nil || !bytes.Equal(w.B, content) || got.Foreign {
				t.Errorf("with the private key: got %+v, %v", got, err)
			}
			var none archivetest.Target
			if _, err := r.A.WithKeys(sealedtest.New(t).Private()).Deliver(t.Context(), archivetest.Parse(t, name), 0, &none); !errors.Is(err, sealed.ErrNoKey) {
				t.Errorf("with another private key: got %v, want ErrNoKey", err)
			}
		}
		_, err := r.PushWith(o, archivetest.Segment, another(t, archivetest.Segment))
		archivetest.WantErr(t, "another content", err, archive.ErrConflict)
		second, err := r.PushWith(o, archivetest.Partial, another(t, archivetest.Partial))
		if err != nil || !second.Variant || !strings.HasSuffix(second.Object, ".zst.age") {
			t.Errorf("a second partial segment: got %+v, %v", second, err)
		}
		for _, name := range []string{archivetest.Label, archivetest.History2} {
			if done, err := r.PushWith(o, name, archivetest.File(t, name)); err != nil || strings.HasSuffix(done.Object, ".age") {
				t.Errorf("%s: got %+v, %v", name, done, err)
			}
			r.WantFetch(name, archivetest.File(t, name))
		}
	})
}

// A name that is stored in one form is not stored again in the other.
func TestEncryptedBesidePlain(t *testing.T) {
	archivetest.OnEach(t, func(t *testing.T, r *archivetest.Rig) {
		k := sealedtest.New(t)
		o := encrypting(t, k)
		content := archivetest.File(t, archivetest.Segment)
		first := r.MustPush(archivetest.Segment, content)
		if done, err := r.PushWith(o, archivetest.Segment, content); err != nil || !done.Duplicate || done.Object != first.Object {
			t.Errorf("encryption was switched on: got %+v, %v", done, err)
		}
		next := archivetest.Parse(t, archivetest.Segment).Next(1 << 20).String()
		content = archivetest.File(t, next)
		sealedOne, err := r.PushWith(o, next, content)
		if err != nil || sealedOne.Duplicate {
			t.Fatalf("got %+v, %v", sealedOne, err)
		}
		if _, err := r.Push(next, content); !errors.Is(err, sealed.ErrNoCompareKey) || errors.Is(err, archive.ErrConflict) {
			t.Errorf("encryption was switched off: got %v, want ErrNoCompareKey", err)
		}
		other := o
		other.CompareKey = sealedtest.New(t).Compare(t)
		if _, err := r.PushWith(other, next, content); !errors.Is(err, sealed.ErrNoCompareKey) || errors.Is(err, archive.ErrConflict) {
			t.Errorf("another key for comparisons: got %v, want ErrNoCompareKey", err)
		}
		if len(r.Objects()) != 2 {
			t.Errorf("objects are %q", r.Objects())
		}
		// Both forms of the same are no conflict, for one who has the private key.
		elsewhere := archivetest.New(t, new(mem.Backend))
		r.Put(archivetest.Directory(next)+next+".zst", elsewhere.Read(elsewhere.MustPush(next, content).Object))
		var w archivetest.Target
		if _, err := r.A.WithKeys(k.Private()).Deliver(t.Context(), archivetest.Parse(t, next), 0, &w); err != nil || !bytes.Equal(w.B, content) {
			t.Errorf("both forms: %v", err)
		}
	})
}

// What is damaged, or under another name, is found with and without the private key.
func TestEncryptedDamaged(t *testing.T) {
	r := archivetest.New(t, new(mem.Backend))
	k := sealedtest.New(t)
	o := encrypting(t, k)
	content := archivetest.File(t, archivetest.Segment)
	done, err := r.PushWith(o, archivetest.Segment, content)
	if err != nil {
		t.Fatal(err)
	}
	id, err := r.A.Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	check := func(object string) error {
		entries, err := r.A.List(t.Context(), object)
		if err != nil || len(entries) != 1 {
			t.Fatalf("got %v, %v", entries, err)
		}
		one, ok := archive.ParseObject(entries[0])
		if !ok || !one.Encrypted {
			t.Fatalf("got %+v", one)
		}
		_, err = r.A.CheckStored(t.Context(), id, one)
		return err
	}
	if err := check(done.Object); err != nil {
		t.Error(err)
	}
	whole := r.Read(done.Object)
	for _, at := range []int{0, 30, 100, 150, 300, 400, len(whole) / 2, len(whole) - 1} {
		bad := bytes.Clone(whole)
		bad[at] ^= 1
		r.Put(done.Object, bad)
		if err := check(done.Object); !errors.Is(err, archive.ErrDamaged) {
			t.Errorf("byte %d, without the private key: got %v, want ErrDamaged", at, err)
		}
		if _, err := r.PushWith(o, archivetest.Segment, content); !errors.Is(err, archive.ErrDamaged) {
			t.Errorf("byte %d, archived again: got %v, want ErrDamaged", at, err)
		}
		var w archivetest.Target
		if _, err := r.A.WithKeys(k.Private()).Deliver(t.Context(), archivetest.Parse(t, archivetest.Segment), 0, &w); err == nil {
			t.Errorf("byte %d: it is delivered", at)
		}
	}
	r.Put(done.Object, whole)
	next := archivetest.Parse(t, archivetest.Segment).Next(1 << 20).String()
	r.Put(archivetest.Directory(next)+next+".zst.age", whole)
	if err := check(archivetest.Directory(next) + next + ".zst.age"); !errors.Is(err, archive.ErrDamaged) {
		t.Errorf("under another name: got %v, want ErrDamaged", err)
	}
	if _, err := r.A.Trailer(t.Context(), archivetest.Parse(t, next)); !errors.Is(err, archive.ErrDamaged) {
		t.Errorf("under another name: got %v, want ErrDamaged", err)
	}
}

// No temporary file of an encrypted segment holds its plain bytes.
func TestEncryptedTemporary(t *testing.T) {
	dir := archivetest.QuickDir(t)
	b, err := local.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	r := archivetest.New(t, b)
	o := encrypting(t, sealedtest.New(t))
	content := archivetest.File(t, archivetest.Segment)
	path := filepath.Join(r.PgWAL, archivetest.Segment)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := r.A.NewPusher(o).Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := in.Write(t.Context()); err != nil {
		t.Fatal(err)
	}
	temps, err := filepath.Glob(filepath.Join(dir, archivetest.Directory(archivetest.Segment), ".*"))
	if err != nil || len(temps) != 1 {
		t.Fatalf("got %q, %v, want one temporary file", temps, err)
	}
	stored, err := os.ReadFile(temps[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sealed.CheckStored(bytes.NewReader(stored), temps[0]+".zst.age"); err != nil {
		t.Error(err)
	}
	if err := in.Commit(t.Context()); err != nil {
		t.Error(err)
	}
}

// Encrypted objects are copied as they are, and compared without a private key.
func TestCopyEncrypted(t *testing.T) {
	from, to := archivetest.New(t, new(mem.Backend)), archivetest.New(t, new(mem.Backend))
	k := sealedtest.New(t)
	o := encrypting(t, k)
	content := archivetest.File(t, archivetest.Segment)
	done, err := from.PushWith(o, archivetest.Segment, content)
	if err != nil {
		t.Fatal(err)
	}
	id, err := from.A.Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	to.Bind(id.SystemID, id.SegmentSize)
	copied, err := to.A.Copy(t.Context(), from.A, done.Object)
	if err != nil || copied.Duplicate || !bytes.Equal(to.Read(done.Object), from.Read(done.Object)) {
		t.Fatalf("got %+v, %v", copied, err)
	}
	if again, err := to.A.Copy(t.Context(), from.A, done.Object); err != nil || !again.Duplicate {
		t.Errorf("again: got %+v, %v", again, err)
	}
	// Another host of the cluster has archived the same, and encrypted it otherwise.
	twin := archivetest.New(t, new(mem.Backend))
	if _, err := twin.PushWith(o, archivetest.Segment, content); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(twin.Read(done.Object), from.Read(done.Object)) {
		t.Error("two objects are encrypted with the same key")
	}
	if again, err := to.A.Copy(t.Context(), twin.A, done.Object); err != nil || !again.Duplicate {
		t.Errorf("of a twin: got %+v, %v", again, err)
	}
	other := archivetest.New(t, new(mem.Backend))
	if _, err := other.PushWith(o, archivetest.Segment, another(t, archivetest.Segment)); err != nil {
		t.Fatal(err)
	}
	_, err = to.A.Copy(t.Context(), other.A, done.Object)
	archivetest.WantErr(t, "another content", err, archive.ErrConflict)
	bad := bytes.Clone(from.Read(done.Object))
	bad[len(bad)/2] ^= 1
	from.Put(done.Object, bad)
	empty := archivetest.New(t, new(mem.Backend))
	empty.Bind(id.SystemID, id.SegmentSize)
	_, err = empty.A.Copy(t.Context(), from.A, done.Object)
	archivetest.WantErr(t, "a damaged object", err, archive.ErrDamaged)
	if len(empty.Objects()) > 0 {
		t.Error("a damaged object was copied")
	}
	// A second partial segment is named by its tag, not by its hash.
	if _, err := other.PushWith(o, archivetest.Partial, archivetest.File(t, archivetest.Partial)); err != nil {
		t.Fatal(err)
	}
	partial, err := twin.PushWith(o, archivetest.Partial, another(t, archivetest.Partial))
	if err != nil {
		t.Fatal(err)
	}
	variant, err := other.A.Copy(t.Context(), twin.A, partial.Object)
	if err != nil || variant.Object == partial.Object || !strings.HasSuffix(variant.Object, ".zst.age") {
		t.Errorf("got %+v, %v", variant, err)
	}
	if again, err := other.PushWith(o, archivetest.Partial, another(t, archivetest.Partial)); err != nil || !again.Duplicate || again.Object != variant.Object {
		t.Errorf("the variant again: got %+v, %v", again, err)
	}
}
