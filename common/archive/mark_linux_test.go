package archive_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"walkeep/common/archive"
	"walkeep/common/archive/archivetest"
)

// A file that looks unmodified since it was archived need not be read again; one that was modified does, however well
// that is hidden, and the stored copy is read in any case.
func TestUnmodifiedFile(t *testing.T) {
	archivetest.OnEach(t, func(t *testing.T, r *archivetest.Rig) {
		const name = "000000010000000000000009"
		content := archivetest.File(t, name)
		path := filepath.Join(r.PgWAL, name)
		again := func() (archive.Pushed, error) {
			return r.A.NewPusher(archivetest.Options(t, "zstd")).Push(t.Context(), path)
		}

		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		date := func(at time.Time) {
			t.Helper()
			if err := os.Chtimes(path, at, at); err != nil {
				t.Fatal(err)
			}
		}
		date(time.Now().Add(time.Hour)) // so that it stays new
		first, err := again()
		if err != nil || first.Duplicate {
			t.Fatalf("push: got %+v, %v", first, err)
		}
		object := first.Object
		if mark := r.Trailer(object).Mark; mark != 0 {
			t.Errorf("a file that was written just now: got mark %x, want none", mark)
		}
		if done, err := again(); err != nil || !done.Duplicate {
			t.Errorf("again: got %+v, %v", done, err)
		}

		if err := r.B.Remove(t.Context(), object); err != nil {
			t.Fatal(err)
		}
		date(time.Now())
		time.Sleep(1100 * time.Millisecond) // the file's times settle
		if done, err := again(); err != nil || done.Duplicate {
			t.Fatalf("push: got %+v, %v", done, err)
		}
		if r.Trailer(object).Mark == 0 {
			t.Error("a file that was left alone: got no mark")
		}
		if done, err := again(); err != nil || !done.Duplicate {
			t.Errorf("again: got %+v, %v", done, err)
		}

		whole := r.Read(object)
		damaged := bytes.Clone(whole)
		damaged[len(damaged)/2] ^= 1
		replace := func(b []byte) {
			t.Helper()
			if err := r.B.Remove(t.Context(), object); err != nil {
				t.Fatal(err)
			}
			r.Put(object, b)
		}
		replace(damaged)
		_, err = again()
		archivetest.WantErr(t, "over a damaged copy", err, archive.ErrDamaged)
		replace(whole)

		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, archivetest.Broken(content), 0o600); err != nil {
			t.Fatal(err)
		}
		date(info.ModTime())
		time.Sleep(1100 * time.Millisecond)
		_, err = again()
		archivetest.WantErr(t, "a file that was modified behind its date", err, archive.ErrConflict)
	})
}
