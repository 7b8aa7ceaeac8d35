package recovery_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"walkeep/common/archive"
	"walkeep/common/archive/archivetest"
	"walkeep/common/backup"
	"walkeep/common/host"
	"walkeep/common/notes"
	"walkeep/common/recovery"
	"walkeep/common/storage"
	"walkeep/common/storage/local"
	"walkeep/common/wal"
)

// lay stores an object as it is.
func lay(t testing.TB, b storage.Backend, name string, content []byte) {
	t.Helper()
	write := func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	}
	if err := storage.Put(context.Background(), b, name, write, nil); err != nil {
		t.Fatal(err)
	}
}

const identity = `{"version":1,"system_identifier":"4711","segment_size":1048576}`

func manifestOf(t testing.TB, id string, system wal.SystemID) []byte {
	t.Helper()
	return encode(t, backupOn(1, 4*mb, 5*mb), id, system)
}

func manifestTo(t testing.TB, id string, stop wal.LSN) []byte {
	t.Helper()
	return encode(t, backupOn(1, 4*mb, uint64(stop)), id, 4711)
}

func encode(t testing.TB, m *backup.Manifest, id string, system wal.SystemID) []byte {
	t.Helper()
	m.Version, m.ID, m.Type, m.Codec, m.SystemID, m.Files = 1, id, "full", "zstd", system, 1
	m.Index = backup.Stored{Name: "files.json.zst", Stored: 1}
	m.Volumes = []backup.Stored{{Name: "data-0001.tar.zst", Stored: 1}}
	content, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func TestInventory(t *testing.T) {
	archivetest.OnEach(t, func(t *testing.T, r *archivetest.Rig) {
		for name, content := range map[string]string{
			"archive.json": identity,
			"wal/0000000100000000/000000010000000000000003.zst":                                          "x",
			"wal/0000000100000000/000000010000000000000004":                                              "x", // foreign
			"wal/0000000100000000/000000010000000000000004.zst":                                          "x", // twice
			"wal/0000000100000000/000000010000000000000005.lz4":                                          "x",
			"wal/0000000100000000/000000010000000000000007.gz":                                           "x",
			"wal/0000000100000000/000000010000000000000009.partial.zst":                                  "x",
			"wal/0000000100000000/000000010000000000000009.partial.00112233445566778899aabbccddeeff.zst": "x",
			"wal/0000000100000000/000000010000000000000003.00000028.backup.zst":                          "x",
			"wal/0000000100000000/000000010000000000000006.bz2":                                          "x", // not to be read here
			"wal/0000000100000000/000000010000000000000006.zst.old":                                      "x",
			"wal/0000000100000000/000000010000000100000006.zst":                                          "x", // not where it would be looked for
			"wal/0000000100000000/000000020000000000000006.zst":                                          "x",
			"wal/0000000100000000/README":                                                                "x",
			"wal/0000000100000000/000000010000000000001FFF.zst":                                          "x", // no segment of 1 MB has this name
			"wal/0000000300000000/000000030000000000000008.zst":                                          "x", // without a history
			"wal/00000002.history":                                                                       "1\t0/800000\ttest\n",
			"backups/20261122T120000Z/manifest.json":                                                     string(manifestOf(t, "20261122T120000Z", 4711)),
			"backups/20261122T130000Z/data-0001.tar.zst":                                                 "x",
			"backups/20261122T140000Z/manifest.json":                                                     "{}",
			"backups/20261122T150000Z/manifest.json":                                                     string(manifestOf(t, "20261122T150000Z", 4712)),
			"backups/20261122T160000Z/manifest.json":                                                     string(manifestOf(t, "20261122T120000Z", 4711)),
			"backups/mine/manifest.json":                                                                 "{}",
			"leases/one.json":                                                                            `{"id":"one","kind":"restore","timeline":1,"lsn":"0/500000"}`,
			"leases/two.json":                                                                            `{"id":"three"}`,
			"leases/evil.json":                                                                           `{"id":"evil","backup":"../x"}`,
			"standbys/one.json":                                                                          `{"restartpoint":"000000010000000000000004"}`,
			"standbys/two.json":                                                                          `{"restartpoint":"soon"}`,
			"standbys/three.json":                                                                        `{`,
			"standbys/README":                                                                            `{`,
			"partial/000000010000000000000009.partial":                                                   "x",
			"damaged/000000010000000000000099.json":                                                      `{"lsn":"0/99","reason":"of a segment that is not there"}`,
		} {
			lay(t, r.B, name, []byte(content))
		}
		inv, err := recovery.ReadInventory(t.Context(), r.A)
		if err != nil {
			t.Fatal(err)
		}
		check := func(what string, got, want any) {
			t.Helper()
			if g, w := text(got), text(want); g != w {
				t.Errorf("%s: got %s, want %s", what, g, w)
			}
		}
		var lines, faults []string
		for _, l := range inv.Lines {
			lines = append(lines, text(l.Timeline), text(l.Segments), text(l.Partials), text(l.History.Entries))
		}
		check("lines", lines, []string{
			"00000001", "[{3 5} {7 7}]", "[000000010000000000000009.partial]", "[]",
			"00000002", "[]", "[]", "[{00000001 0/800000 test}]", "00000003", "[{8 8}]", "[]", "[]",
		})
		for _, f := range inv.Faults {
			faults = append(faults, f.Object)
		}
		slices.Sort(faults)
		check("faults", faults, []string{
			"backups/20261122T140000Z/manifest.json", "backups/20261122T150000Z/manifest.json", "backups/20261122T160000Z/manifest.json",
			"leases/evil.json", "leases/two.json", "standbys/three.json", "standbys/two.json",
			"wal/0000000100000000/000000010000000000000006.bz2", "wal/0000000100000000/000000010000000000000006.zst.old",
			"wal/0000000100000000/000000010000000000001FFF.zst", "wal/00000003.history",
		})
		for _, f := range inv.Faults {
			if foreign := f.Object == "backups/20261122T150000Z/manifest.json"; errors.Is(f.Err, archive.ErrForeign) != foreign {
				t.Errorf("%s: %v", f.Object, f.Err)
			}
		}
		check("backups", len(inv.Backups), 1)
		check("unfinished", inv.Unfinished, []string{"backups/20261122T130000Z/"})
		check("leases", len(inv.Leases), 1)
		check("standbys", len(inv.Standbys), 1)
		check("streamed", len(inv.Streamed), 1)
		check("damages", len(inv.Damages), 0)
		check("newest", inv.Newest(), wal.Timeline(3))
		check("a segment that is there", inv.Has(segmentOf(1, 5)), true)
		check("a hole", inv.Has(segmentOf(1, 6)), false)
		check("a partial segment", inv.Has(wal.Name{Kind: wal.KindPartial, Timeline: 1, Seg: 5}), false)
	})
}

func text(v any) string { return fmt.Sprint(v) }

// An error of the storage makes the inventory fail: it is not a fault of the archive, as a damaged object is.
func TestInventoryFaults(t *testing.T) {
	r := archivetest.New(t, &archivetest.Faulty{Backend: newLocal(t), N: 1 << 30})
	lay(t, r.B, "archive.json", []byte(identity))
	if _, err := r.Push(archivetest.History2, archivetest.File(t, archivetest.History2)); err != nil {
		t.Fatal(err)
	}
	lay(t, r.B, "wal/0000000100000000/000000010000000000000003.zst", []byte("x"))
	lay(t, r.B, "backups/20261122T120000Z/manifest.json", manifestOf(t, "20261122T120000Z", 4711))
	lay(t, r.B, "leases/one.json", []byte(`{"id":"one"}`))
	f := r.B.(*archivetest.Faulty)
	for n := 0; ; n++ {
		f.N, f.Call = n, ""
		_, err := recovery.ReadInventory(t.Context(), r.A)
		if f.Call == "" {
			if n < 10 || err != nil {
				t.Fatalf("after %d calls: %v", n, err)
			}
			return
		}
		if !errors.Is(err, archivetest.ErrFault) {
			t.Errorf("%s fails: got %v", f.Call, err)
		}
	}
}

func newLocal(t testing.TB) *local.Backend {
	t.Helper()
	b, err := local.Open(archivetest.QuickDir(t))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestLease(t *testing.T) {
	archivetest.OnEach(t, func(t *testing.T, r *archivetest.Rig) {
		lay(t, r.B, "archive.json", []byte(identity))
		h, err := r.A.Notes().Hold(t.Context(), notes.Lease{Kind: "restore"})
		if err != nil {
			t.Fatal(err)
		}
		leases := func() []notes.Lease {
			t.Helper()
			l, _, err := r.A.Notes().Leases(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
		if l := leases(); len(l) != 1 || !l[0].Live() || l[0].Timeline != 0 || l[0].Kind != "restore" {
			t.Fatalf("taken: %+v", l)
		}
		if err := h.Change(t.Context(), func(l *notes.Lease) { l.Backup, l.Timeline, l.LSN = "20261122T120000Z", 3, 99 }); err != nil {
			t.Fatal(err)
		}
		if l := leases(); len(l) != 1 || l[0].Backup != "20261122T120000Z" || l[0].Timeline != 3 || l[0].LSN != 99 {
			t.Fatalf("changed: %+v", l)
		}
		if err := h.Release(); err != nil {
			t.Fatal(err)
		}
		if l := leases(); len(l) != 0 {
			t.Fatalf("released: %+v", l)
		}
		if err := r.A.Notes().DropLease(t.Context(), "gone"); err != nil {
			t.Errorf("drop what is gone: %v", err)
		}
	})
}

func TestLeaseLive(t *testing.T) {
	here, now := host.Here(), time.Now()
	long := now.Add(-notes.LeaseTimeout - time.Minute)
	// own is a lease of this process, changed.
	own := func(change func(l *notes.Lease)) notes.Lease {
		l := notes.Lease{Host: here.Host, Machine: here.Machine, Boot: here.Boot, PIDs: here.PIDs, PID: os.Getpid(), Started: host.Started(os.Getpid()), Renewed: now}
		change(&l)
		return l
	}
	linux := runtime.GOOS == "linux"
	for _, test := range []struct {
		name  string
		lease notes.Lease
		want  bool
	}{
		{"own process", own(func(*notes.Lease) {}), true},
		{"own process, whatever the clock says", own(func(l *notes.Lease) { l.Renewed = time.Time{} }), true},
		{"another process with the number of one that has ended", own(func(l *notes.Lease) { l.Started = 1 }), !linux},
		{"a process that has ended", own(func(l *notes.Lease) { l.PID = 1 << 30 }), false},
		{"before this machine was started again", own(func(l *notes.Lease) { l.Boot = "another" }), !linux || here.PIDs != "pid:[4026531836]"},
		{"another container of this machine", own(func(l *notes.Lease) { l.PIDs, l.PID = "pid:[1]", 1<<30 }), true},
		{"another container of this machine, too long ago", own(func(l *notes.Lease) { l.PIDs, l.Renewed = "pid:[1]", long }), false},
		{"a container before this machine was started again", own(func(l *notes.Lease) { l.Boot, l.PIDs = "another", "pid:[1]" }), true},
		{"another machine whose host has the same name", own(func(l *notes.Lease) { l.Machine, l.Boot, l.PID = "another", "another", 1<<30 }), true},
		{"another machine with the same image", own(func(l *notes.Lease) { l.Host, l.Boot, l.PID = here.Host+"x", "another", 1<<30 }), true},
		{"of a program that noted no more than a host's name and a boot", notes.Lease{Host: here.Host, Boot: "another", PID: 1 << 30, Renewed: now}, true},
		{"another host", notes.Lease{Host: here.Host + "x", PID: 1 << 30, Renewed: now}, true},
		{"another host, an hour ago", notes.Lease{Host: here.Host + "x", Renewed: now.Add(-time.Hour)}, true},
		{"another host, in the future", notes.Lease{Host: here.Host + "x", Renewed: now.Add(1000 * time.Hour)}, true},
		{"another host, too long ago", notes.Lease{Host: here.Host + "x", Renewed: long}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.lease.Live(); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// A holder notices for good that its lease was taken away, and takes no one else's away in turn.
func TestLeaseLost(t *testing.T) {
	archivetest.OnEach(t, func(t *testing.T, r *archivetest.Rig) {
		h, err := r.A.Notes().Hold(t.Context(), notes.Lease{Kind: "backup"})
		if err != nil {
			t.Fatal(err)
		}
		renew := func() error { return h.Change(t.Context(), func(*notes.Lease) {}) }
		if err := errors.Join(h.Check(t.Context()), renew(), h.Check(t.Context())); err != nil {
			t.Fatal(err)
		}
		name := "leases/" + h.Lease().ID + ".json"
		note, err := storage.ReadAll(t.Context(), r.B, name, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.A.Notes().DropLease(t.Context(), h.Lease().ID); err != nil {
			t.Fatal(err)
		}
		for _, f := range []func() error{renew, func() error { return h.Check(t.Context()) }} {
			if err := f(); !errors.Is(err, notes.ErrLost) {
				t.Errorf("got %v, want %v", err, notes.ErrLost)
			}
		}
		if leases, _, err := r.A.Notes().Leases(t.Context()); err != nil || len(leases) > 0 {
			t.Errorf("a lease that was taken away is there again: %+v, %v", leases, err)
		}
		if err := storage.PutAll(t.Context(), r.B, name, note); err != nil {
			t.Fatal(err)
		}
		if err := h.Check(t.Context()); !errors.Is(err, notes.ErrLost) {
			t.Errorf("one that somebody has put back: got %v, want %v", err, notes.ErrLost)
		}
	})
}

// Directories in which nothing is left are removed, and those that hold something, or are links, are not.
func TestPrune(t *testing.T) {
	dir := archivetest.QuickDir(t)
	b, err := local.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	lay(t, b, "wal/0000000100000000/000000010000000000000003.zst", []byte("x"))
	for _, d := range []string{"empty", "elsewhere"} {
		if err := os.MkdirAll(filepath.Join(dir, "wal", d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(dir, "wal", "elsewhere"), filepath.Join(dir, "wal", "link")); err != nil {
		t.Skip(err)
	}
	a := archive.New(b)
	if err := a.Prune(t.Context(), "wal/0000000100000000/", "wal/empty/", "wal/link/", "wal/none/"); err != nil {
		t.Fatal(err)
	}
	var left []string
	entries, err := os.ReadDir(filepath.Join(dir, "wal"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if want := []string{"0000000100000000", "elsewhere", "link"}; !slices.Equal(left, want) {
		t.Errorf("left %q, want %q", left, want)
	}
	if err := a.Prune(t.Context(), "../"); !errors.Is(err, storage.ErrName) {
		t.Errorf("outside of the archive: got %v, want %v", err, storage.ErrName)
	}
}
