package retain_test

import (
	"errors"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"walkeep/common/archive"
	"walkeep/common/storage"
	"walkeep/common/storage/s3"
	"walkeep/common/storage/s3/s3test"
	"walkeep/supervisor/retain"
)

// cleanup names each locked object with the end of its lock, and keeps it with those that belong to it. The rest is removed.
func TestObjectLock(t *testing.T) {
	s := s3test.Start(t, s3test.Versitygw)
	o := s.Options(t, s.LockedBucket(t))
	o.ObjectLock, o.ObjectLockDays = "governance", 3
	locked, err := s3.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer locked.Close()
	o.ObjectLock, o.ObjectLockDays = "", 0
	b, err := s3.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	mem, _ := simple(t)
	held := object(name(1, 7)) // and all that come later
	for _, name := range objects(t, mem) {
		content, err := storage.ReadAll(t.Context(), mem, name, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		to := b
		if name >= held && strings.HasPrefix(name, path.Dir(held)) {
			to = locked
		}
		put(t, to, name, content)
	}
	r, err := retain.Clean(t.Context(), archive.New(b), retain.Options{Policy: retain.Policy{Backups: 1}, Now: noon, Live: live})
	if !errors.Is(err, retain.ErrRefused) || len(r.Refused) != 1 {
		t.Fatalf("got %v, %+v", err, r.Refused)
	}
	if f := r.Refused[0]; f.Object != held || f.LockedUntil == nil || time.Until(*f.LockedUntil).Round(24*time.Hour) != 72*time.Hour {
		t.Errorf("refused: %+v, want %s until in three days", f, held)
	}
	there := objects(t, b)
	for n := uint64(1); n <= 20; n++ {
		if got, want := slices.Contains(there, object(name(1, n))), n >= 7; got != want {
			t.Errorf("segment %d: there %v, want %v", n, got, want)
		}
	}
}
