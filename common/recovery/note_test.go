package recovery_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"walkeep/common/archive"
	"walkeep/common/archive/archivetest"
	"walkeep/common/notes"
	"walkeep/common/recovery"
	"walkeep/common/storage"
	"walkeep/common/storage/local"
)

// A single object that cannot be read, or is empty, is a fault, and the rest of the archive stays usable. A command that
// needs its content gets an error.
func TestUnreadableNotes(t *testing.T) {
	const id, other = "20261122T120000Z", "20261122T130000Z"
	const broken = "000000010000000000000004"
	link := func(file string) error { return os.Symlink(filepath.Join(file, "gone"), file) }
	spoilers := map[string]func(file string) error{
		"a link that leads nowhere": link,
		"far too large":             func(file string) error { return errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, 3<<30)) },
		"empty":                     func(file string) error { return os.WriteFile(file, nil, 0o600) },
		"cut":                       func(file string) error { return os.WriteFile(file, []byte(`{"slot":"o`), 0o600) },
		"null":                      func(file string) error { return os.WriteFile(file, []byte("null\n"), 0o600) },
		"a directory":               func(file string) error { return os.Mkdir(file, 0o700) },
	}
	for _, object := range []string{
		"server.json", "leases/one.json", "standbys/one.json", "verified/" + id + ".json", "verified/" + broken + ".json",
		"damaged/" + broken + ".json",
	} {
		for how, spoil := range spoilers {
			t.Run(object+"/"+how, func(t *testing.T) {
				dir, b := localAt(t)
				lay(t, b, "archive.json", []byte(identity))
				for _, number := range []string{"3", "4", "5"} {
					lay(t, b, "wal/0000000100000000/00000001000000000000000"+number+".zst", []byte("x"))
				}
				layBackup(t, b, id, manifestOf(t, id, 4711))
				lay(t, b, object, []byte("{}"))
				file := filepath.Join(dir, object)
				if err := errors.Join(os.Remove(file), spoil(file)); err != nil {
					t.Fatal(err)
				}
				a := archive.New(b)
				inv, err := recovery.ReadInventory(t.Context(), a)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.ContainsFunc(inv.Faults, func(f notes.Fault) bool { return f.Object == object }) {
					t.Errorf("faults %v, want %s among them", inv.Faults, object)
				}
				if len(inv.Backups) != 1 || len(inv.Lines) != 1 {
					t.Errorf("got %d backups and %d timelines, want one each", len(inv.Backups), len(inv.Lines))
				}
				// The name of a note on a segment leads to the segment, which is no whole one here.
				if found := object == "verified/"+broken+".json"; found != (len(inv.Damages) == 1) {
					t.Errorf("damaged segments: %v", inv.Damages)
				}
				var fault notes.Fault
				if err := a.SweepBackups(t.Context()); errors.As(err, &fault) != (object == "leases/one.json") {
					t.Errorf("sweep: got %v", err)
				}
			})
		}
	}
	// What shows how far the WAL has gone must be read before a segment is called absent.
	for _, object := range []string{"streams/one.json", "backups/" + other + "/manifest.json"} {
		dir, b := localAt(t)
		lay(t, b, "archive.json", []byte(identity))
		lay(t, b, "wal/0000000100000000/000000010000000000000003.zst", []byte("x"))
		lay(t, b, object, []byte("{}"))
		file := filepath.Join(dir, object)
		if err := errors.Join(os.Remove(file), link(file)); err != nil {
			t.Fatal(err)
		}
		r := archivetest.New(t, b)
		if _, _, err := r.Fetch(broken, 0); err == nil || errors.Is(err, recovery.ErrAbsent) || errors.Is(err, storage.ErrNotExist) {
			t.Errorf("%s: got %v, want an error that does not say that the segment is absent", object, err)
		}
	}
}

func localAt(t *testing.T) (dir string, b *local.Backend) {
	t.Helper()
	dir = archivetest.QuickDir(t)
	b, err := local.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir, b
}
