package verify_test

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"

	"walkeep/common/archive"
	"walkeep/common/notes"
	"walkeep/common/storage"
	"walkeep/common/storage/mem"
	"walkeep/common/wal"
	"walkeep/supervisor/verify"
)

func put(t testing.TB, b storage.Backend, name string, content []byte) {
	t.Helper()
	write := func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	}
	if err := storage.Put(context.Background(), b, name, write, nil); err != nil {
		t.Fatal(err)
	}
}

func remove(t testing.TB, b storage.Backend, name string) {
	t.Helper()
	if err := b.Remove(context.Background(), name); err != nil {
		t.Fatal(err)
	}
}

const (
	backupDir = "backups/20261122T120000Z/"
	walDir    = "wal/0000000100000000/"
	lease     = `{"id":"one","kind":"backup","backup":"20261122T130000Z","timeline":0,"lsn":"0/0"}`
)

func TestProblems(t *testing.T) {
	known := lines(run(t, newArchive(t), false))
	for _, test := range []struct {
		name  string
		spoil func(t *testing.T, b *mem.Backend)
		deep  bool // only a deep run can see it
		want  []string
	}{
		{"nothing", func(t *testing.T, b *mem.Backend) {}, false, nil},
		{"no volume", func(t *testing.T, b *mem.Backend) { remove(t, b, backupDir+"data-0002.tar.zst") }, false,
			[]string{"damaged " + backupDir + "data-0002.tar.zst"}},
		{"no index", func(t *testing.T, b *mem.Backend) { remove(t, b, backupDir+"files.json.zst") }, false,
			[]string{"damaged " + backupDir + "files.json.zst"}},
		{"no manifest", func(t *testing.T, b *mem.Backend) { remove(t, b, backupDir+"manifest.json") }, false,
			[]string{"leftover " + backupDir}},
		{"two volumes changed places", func(t *testing.T, b *mem.Backend) {
			one, two := all(t, b)[backupDir+"data-0001.tar.zst"], all(t, b)[backupDir+"data-0002.tar.zst"]
			b.Replace(t.Context(), backupDir+"data-0001.tar.zst", two)
			b.Replace(t.Context(), backupDir+"data-0002.tar.zst", one)
		}, false, []string{"damaged " + backupDir + "data-0001.tar.zst", "damaged " + backupDir + "data-0002.tar.zst"}},
		{"a segment that the backup needs", func(t *testing.T, b *mem.Backend) { remove(t, b, walDir+"000000010000000000000009.zst") }, false,
			[]string{"missing " + backupDir}},
		{"empty segment", func(t *testing.T, b *mem.Backend) { b.Replace(t.Context(), walDir+"00000001000000000000000A.zst", nil) }, false,
			[]string{"damaged " + walDir + "00000001000000000000000A.zst"}},
		{"no history", func(t *testing.T, b *mem.Backend) { remove(t, b, "wal/00000003.history.zst") }, false,
			[]string{"damaged wal/00000003.history"}},
		{"unreadable lease", func(t *testing.T, b *mem.Backend) { put(t, b, "leases/one.json", []byte("{")) }, false,
			[]string{"damaged leases/one.json"}},
		{"a streamed segment that was put aside", func(t *testing.T, b *mem.Backend) {
			put(t, b, "partial/00000001000000000000000B.partial.differs", []byte("x"))
		}, false, []string{"damaged partial/00000001000000000000000B.partial.differs"}},
		{"a streamed segment that is none", func(t *testing.T, b *mem.Backend) {
			put(t, b, "partial/00000001000000000000000B.partial", make([]byte, 10_000))
		}, true, []string{"damaged partial/00000001000000000000000B.partial"}},
		{"unfinished backup", func(t *testing.T, b *mem.Backend) {
			put(t, b, "backups/20261122T130000Z/data-0001.tar.zst", []byte("x"))
		}, false,
			[]string{"leftover backups/20261122T130000Z/"}},
		{"a segment under another's name", func(t *testing.T, b *mem.Backend) {
			b.Replace(t.Context(), walDir+"00000001000000000000000A.zst", all(t, b)[walDir+"000000010000000000000009.zst"])
		}, true, []string{"damaged " + walDir + "00000001000000000000000A.zst"}},
		{"a second object that holds something else", func(t *testing.T, b *mem.Backend) {
			put(t, b, walDir+"000000010000000000000009", load(t, "00000001000000000000000A"))
		}, true, []string{"damaged " + walDir + "000000010000000000000009"}},
		{"broken records", func(t *testing.T, b *mem.Backend) { repush(t, b, "000000010000000000000009", 500_000) }, false,
			[]string{"database 000000010000000000000009"}},
		// The record began in the segment before, so that it could not be checked when this one was archived.
		{"a record that is broken across a border", func(t *testing.T, b *mem.Backend) { repush(t, b, "00000001000000000000000A", 20_000) }, true,
			[]string{"database " + walDir + "00000001000000000000000A.zst"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newArchive(t)
			test.spoil(t, b)
			for _, deep := range []bool{false, true} {
				got := slices.DeleteFunc(lines(run(t, b, deep)), func(line string) bool {
					return slices.Contains(known, line) || strings.HasPrefix(line, "missing 0000000")
				})
				want := test.want
				if test.deep && !deep {
					want = nil
				}
				if !slices.Equal(got, want) {
					t.Errorf("deep %v: got %q, want %q", deep, got, want)
				}
			}
		})
	}
}

// repush archives a segment again with one bit changed.
func repush(t *testing.T, b *mem.Backend, name string, at int) {
	t.Helper()
	remove(t, b, walDir+name+".zst")
	content := load(t, name)
	content[at] ^= 1
	push(t, b, name, content)
}

// lines returns the problems without their texts.
func lines(r *verify.Result) []string {
	var found []string
	for _, p := range r.Problems {
		found = append(found, string(p.Severity)+" "+p.Object)
	}
	return found
}

// A backup that is being taken is not a leftover.
func TestUnfinishedWithLease(t *testing.T) {
	b := newArchive(t)
	put(t, b, "backups/20261122T130000Z/data-0001.tar.zst", []byte("x"))
	put(t, b, "leases/one.json", []byte(lease))
	for _, live := range []bool{true, false} {
		r, err := verify.Run(t.Context(), archive.New(b), verify.Options{Live: func(notes.Lease) bool { return live }})
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Contains(lines(r), "leftover backups/20261122T130000Z/"); got == live {
			t.Errorf("with a lease that is live: %v, it is a leftover: %v", live, got)
		}
	}
}

// Histories that contradict each other are damage, although each can be read.
func TestHistoriesDisagree(t *testing.T) {
	for _, test := range []struct {
		name       string
		two, three []wal.HistoryEntry
		want       bool
	}{
		{"they agree", entries(1, 100), entries(1, 100, 2, 200), false},
		{"another beginning", entries(1, 100), entries(1, 90, 2, 200), true},
		{"another way", entries(1, 100), entries(2, 200), true},
		{"left before it began", entries(1, 100), entries(1, 100, 2, 100), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := new(mem.Backend)
			push(t, b, files[0], load(t, files[0]))
			put(t, b, "wal/00000002.history", wal.History{Timeline: 2, Entries: test.two}.Bytes())
			put(t, b, "wal/00000003.history", wal.History{Timeline: 3, Entries: test.three}.Bytes())
			if got := slices.Contains(lines(run(t, b, false)), "damaged wal/00000003.history"); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// entries makes a history of pairs of a timeline and where it was left, in MB.
func entries(pairs ...uint64) []wal.HistoryEntry {
	var h []wal.HistoryEntry
	for i := 0; i < len(pairs); i += 2 {
		h = append(h, wal.HistoryEntry{Timeline: wal.Timeline(pairs[i]), End: wal.LSN(pairs[i+1] << 20), Reason: "test"})
	}
	return h
}

// An object that is removed or added while verify runs is no problem.
func TestRemovedMeanwhile(t *testing.T) {
	whole := newArchive(t)
	known := len(run(t, whole, true).Problems)
	content := all(t, whole)
	for name := range content {
		if !strings.HasPrefix(name, walDir) && !strings.HasPrefix(name, backupDir) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			b := newArchive(t)
			// The archive loses the object, or the whole backup, when it is opened for the first time after the
			// inventory.
			v := &vanishing{Backend: b, name: name}
			r := run(t, v, true)
			if !v.gone {
				t.Fatal("it was never opened")
			}
			for _, p := range r.Problems {
				if p.Severity != verify.Missing {
					t.Errorf("%s %s", p.Severity, p)
				}
			}
			if len(r.Problems) > known+2 {
				t.Errorf("%d problems: %v", len(r.Problems), r.Problems)
			}
		})
	}
}

// vanishing removes an object just before it is opened; for a backup, all of it.
type vanishing struct {
	*mem.Backend
	name string
	gone bool
	seen int
}

func (v *vanishing) Open(ctx context.Context, name string) (storage.Object, error) {
	if name == v.name && !v.gone {
		if v.seen++; v.seen > 1 || !strings.HasSuffix(name, "manifest.json") {
			v.gone = true
			if strings.HasPrefix(name, backupDir) {
				entries, _ := storage.ListAll(ctx, v.Backend, backupDir)
				for _, e := range entries {
					v.Backend.Remove(ctx, e.Name)
				}
			} else {
				v.Backend.Remove(ctx, name)
			}
		}
	}
	return v.Backend.Open(ctx, name)
}
