package archive_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"walkeep/common/archive"
	"walkeep/common/archive/archivetest"
	"walkeep/common/codec"
	"walkeep/common/sealed"
	"walkeep/common/sealed/sealedtest"
	"walkeep/common/storage"
	"walkeep/common/storage/mem"
)

// expand copies a file of an archive into a new archive, and gives that and the name of the copy.
func expand(t *testing.T, from *archive.Archive, name string) (*archive.Archive, string, error) {
	t.Helper()
	var object string
	var content bytes.Buffer
	n := archivetest.Parse(t, name)
	_, err := from.Expand(t.Context(), n, 0, func(as string) (io.Writer, error) {
		object = as
		return &content, nil
	})
	if err != nil {
		return nil, "", err
	}
	id, err := from.Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b := new(mem.Backend)
	to := archive.New(b)
	if err := errors.Join(to.Bind(t.Context(), id), storage.PutAll(t.Context(), b, object, content.Bytes())); err != nil {
		t.Fatal(err)
	}
	return to, object, nil
}

// A copy that was expanded delivers the same, says the same of its WAL, and is an object that verifies by itself.
func TestExpand(t *testing.T) {
	for _, name := range codec.Names() {
		t.Run(name, func(t *testing.T) {
			archivetest.OnEach(t, func(t *testing.T, r *archivetest.Rig) {
				for _, file := range []string{archivetest.Segment, archivetest.Label, archivetest.History2} {
					content := archivetest.File(t, file)
					done, err := r.PushWith(archivetest.Options(t, name), file, content)
					if err != nil {
						t.Fatal(err)
					}
					to, object, err := expand(t, r.A, file)
					if err != nil || object != archive.Location(archivetest.Parse(t, file))+".zst" {
						t.Fatalf("got %q, %v", object, err)
					}
					for _, quick := range []bool{false, true} {
						to.PlainOnly = quick
						var w archivetest.Target
						if _, err := to.Deliver(t.Context(), archivetest.Parse(t, file), 0, &w); err != nil || !bytes.Equal(w.B, content) {
							t.Errorf("%s: the copy does not deliver it: %v", file, err)
						}
					}
					was, err := r.A.Trailer(t.Context(), archivetest.Parse(t, file))
					is, bad := to.Trailer(t.Context(), archivetest.Parse(t, file))
					if err != nil || bad != nil || was.WALCheck != is.WALCheck || was.End != is.End || was.SystemID != is.SystemID || was.PlainHash != is.PlainHash {
						t.Errorf("%s: got the trailer %+v, %v, want %+v, %v", file, is, bad, was, err)
					}
					stored := r.Read(done.Object)
					r.Put(done.Object, flipped(stored))
					_, _, err = expand(t, r.A, file)
					archivetest.WantErr(t, file+" damaged", err, archive.ErrDamaged)
					if _, err := r.A.Check(t.Context(), archivetest.Parse(t, file), 0); !errors.Is(err, archive.ErrDamaged) {
						t.Errorf("%s damaged: the check says %v", file, err)
					}
				}
				_, _, err := expand(t, r.A, archivetest.Partial)
				archivetest.WantErr(t, "a file that is not there", err, archive.ErrNotStored)
			})
		})
	}
}

// An encrypted object is copied as it is, and verified, by one who has no private key.
func TestExpandEncrypted(t *testing.T) {
	archivetest.OnEach(t, func(t *testing.T, r *archivetest.Rig) {
		k := sealedtest.New(t)
		content := archivetest.File(t, archivetest.Segment)
		done, err := r.PushWith(encrypting(t, k), archivetest.Segment, content)
		if err != nil {
			t.Fatal(err)
		}
		to, object, err := expand(t, r.A, archivetest.Segment)
		if err != nil || object != done.Object {
			t.Fatalf("got %q, %v", object, err)
		}
		var w archivetest.Target
		if _, err := to.Deliver(t.Context(), archivetest.Parse(t, archivetest.Segment), 0, &w); !errors.Is(err, sealed.ErrNoKey) {
			t.Errorf("without a private key: got %v", err)
		}
		if _, err := to.WithKeys(k.Private()).Deliver(t.Context(), archivetest.Parse(t, archivetest.Segment), 0, &w); err != nil || !bytes.Equal(w.B, content) {
			t.Errorf("with the private key: %v", err)
		}
		r.Put(done.Object, flipped(r.Read(done.Object)))
		_, _, err = expand(t, r.A, archivetest.Segment)
		archivetest.WantErr(t, "damaged", err, archive.ErrDamaged)
	})
}

// flipped is an object of which a bit in the middle is another one.
func flipped(stored []byte) []byte {
	b := bytes.Clone(stored)
	b[len(b)/2] ^= 1
	return b
}
