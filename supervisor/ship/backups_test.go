package ship_test

import (
	"bytes"
	"context"
	"os"
	"path"
	"strings"
	"sync"
	"testing"

	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/notes"
	"walkeep/common/storage"
	"walkeep/common/storage/flaky"
	"walkeep/common/storage/local"
	"walkeep/common/storage/mem"
	"walkeep/supervisor/ship"
	"walkeep/supervisor/spool"
)

// openSite is a spool with the content of the archive in testdata: backups, timelines and notes.
func openSite(t *testing.T) *rig {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../../testdata/site")); err != nil {
		t.Fatal(err)
	}
	s, err := spool.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return &rig{T: t, spool: s}
}

// A whole archive is shipped: what a reader of the repository finds is what a reader of the spool found, and what has left the
// spool is there. Of each backup the manifest comes last, under a lease.
func TestShipSite(t *testing.T) {
	before := openSite(t)
	r := openSite(t)
	inner := &watched{Backend: new(mem.Backend)}
	p := newPlace("far", inner)
	for _, result := range r.once(p) {
		if result.Err != nil || result.Waiting > 0 {
			t.Errorf("got %+v", result)
		}
	}
	var backups int
	for e, err := range before.spool.Archive.Backend().List(t.Context(), "", storage.ListOptions{Recursive: true}) {
		r.must(err)
		dir, _, _ := strings.Cut(e.Name, "/")
		switch dir + "/" {
		case archive.WALDir, archive.BackupsDir, notes.DamagedDir, notes.VerifiedDir, "standbys/", archive.IdentityName + "/", notes.ServerName + "/":
		default:
			continue
		}
		if _, ok := archive.ParseObject(e); dir+"/" == archive.WALDir && !ok {
			continue
		}
		finished, err := before.spool.Archive.Finished(t.Context(), path.Base(path.Dir(e.Name)))
		if dir+"/" == archive.BackupsDir && (err != nil || !finished) {
			continue // nobody knows what it is
		}
		if !exists(t, p, e.Name) || !bytes.Equal(read(t, p, e.Name), read(t, before.spool.Archive.Backend(), e.Name)) {
			t.Errorf("%s is not in the repository as it was in the spool", e.Name)
		}
		if path.Base(e.Name) == backup.ManifestName {
			backups++
			if r.inSpool(e.Name) {
				t.Errorf("%s has not left the spool", e.Name)
			}
		}
	}
	if backups == 0 {
		t.Error("the archive has no backup")
	}
	if inner.fault != "" {
		t.Error(inner.fault)
	}
	if leases, _, err := p.archive().Notes().Leases(t.Context()); err != nil || len(leases) > 0 {
		t.Errorf("leases are left: %+v, %v", leases, err)
	}
}

// A watched backend notices a manifest that comes before an object of its backup, and one without a lease.
type watched struct {
	storage.Backend
	mu       sync.Mutex
	finished map[string]bool
	fault    string
}

func (w *watched) Create(ctx context.Context, name string, o storage.CreateOptions) (storage.Writer, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if dir := path.Dir(name); strings.HasPrefix(name, archive.BackupsDir) {
		if w.finished == nil {
			w.finished = make(map[string]bool)
		}
		if w.finished[dir] {
			w.fault = name + " comes after its manifest"
		}
		w.finished[dir] = path.Base(name) == backup.ManifestName
		if leases, _, err := notes.In(w.Backend).Leases(ctx); err != nil || len(leases) == 0 {
			w.fault = name + " is stored without a lease"
		}
	}
	return w.Backend.Create(ctx, name, o)
}

// A backup that somebody reads stays in the spool; one that a killed process has shipped by half is completed.
func TestShipBackupAgain(t *testing.T) {
	r := openSite(t)
	b, err := local.Open(t.TempDir())
	r.must(err)
	p := newPlace("far", b)
	var id string
	dirs, err := r.spool.Archive.List(t.Context(), archive.BackupsDir)
	r.must(err)
	for _, d := range dirs {
		if m, err := r.spool.Archive.Manifest(t.Context(), path.Base(d.Name)); err == nil {
			id = m.ID
			id2, err := r.spool.Archive.Identity(t.Context())
			r.must(err)
			r.must(p.archive().Bind(t.Context(), id2))
			_, err = p.archive().Copy(t.Context(), r.spool.Archive, backup.Dir(id)+m.Volumes[0].Name)
			r.must(err)
			break
		}
	}
	held, err := r.spool.Archive.Notes().Hold(t.Context(), notes.Lease{Kind: "restore", Backup: id})
	r.must(err)
	results, err := ship.Run(t.Context(), r.options(false, p))
	r.must(err)
	if results[0].Err != nil || results[0].Found == 0 {
		t.Errorf("got %+v", results)
	}
	if _, err := p.archive().Manifest(t.Context(), id); err != nil {
		t.Error(err)
	}
	if _, err := r.spool.Archive.Manifest(t.Context(), id); err != nil {
		t.Errorf("it is read, and has left the spool: %v", err)
	}
	r.must(held.Release())
	r.once(p)
	if r.inSpool(backup.Dir(id) + backup.ManifestName) {
		t.Error("it is in the spool still")
	}
}

// A credential that may not remove anything suffices.
func TestAppendOnly(t *testing.T) {
	r := openSite(t)
	p := newPlace("far", &flaky.AppendOnly{Backend: new(mem.Backend)})
	for _, result := range r.once(p) {
		if result.Err != nil || result.Waiting > 0 {
			t.Errorf("got %+v", result)
		}
	}
	leases, _, err := p.archive().Notes().Leases(t.Context())
	for _, l := range leases {
		if l.Live() {
			t.Errorf("a lease is left: %+v", l)
		}
	}
	if err != nil {
		t.Error(err)
	}
}
