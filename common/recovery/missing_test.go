package recovery_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walkeep/common/archive"
	"walkeep/common/archive/archivetest"
	"walkeep/common/recovery"
	"walkeep/common/storage/local"
	"walkeep/common/storage/mem"
	"walkeep/common/wal"
)

// name returns the name of a segment of 1 MB.
func name(timeline, number int) string {
	return fmt.Sprintf("%08X%08X%08X", timeline, number>>12, number&0xFFF)
}

// within returns a position inside a segment of 1 MB.
func within(number int) wal.LSN { return wal.LSN(number)<<20 + 0x170 }

// begin returns the position of a segment's first byte.
func begin(number int) wal.LSN { return wal.LSN(number) << 20 }

// from writes a history: timelines and where they were left, oldest first.
func from(entries ...any) string {
	var s strings.Builder
	for i := 0; i < len(entries); i += 2 {
		fmt.Fprintf(&s, "%d\t%s\tno recovery target specified\n", entries[i], entries[i+1])
	}
	return s.String()
}

// Whether a file that is not there is proven absent, or missing. What is there counts by its name alone, except for
// the histories.
func TestMissing(t *testing.T) {
	type histories map[string]string
	absent, gap := recovery.ErrAbsent, recovery.ErrGap
	for _, test := range []struct {
		what      string
		there     []string // objects below wal/, without their directories
		histories histories
		ask       string
		want      error
	}{
		// The first timeline.
		{"an empty archive", nil, nil, name(1, 5), absent},
		{"the next one", []string{name(1, 3) + ".zst", name(1, 4) + ".zst"}, nil, name(1, 5), absent},
		{"far behind the end", []string{name(1, 3) + ".zst"}, nil, name(1, 50), absent},
		{"a hole", []string{name(1, 3) + ".zst", name(1, 5) + ".zst"}, nil, name(1, 4), gap},
		{"a wide hole", []string{name(1, 3) + ".zst", name(1, 9000) + ".lz4"}, nil, name(1, 4), gap},
		{"before the first", []string{name(1, 5) + ".zst"}, nil, name(1, 1), gap},
		{"before the first of all", []string{name(1, 5) + ".zst"}, nil, name(1, 0), gap},
		{"a hole at the end of a log file", []string{name(1, 4094) + ".zst", name(1, 4096) + ".zst"}, nil, name(1, 4095), gap},
		{"a hole at the begin of a log file", []string{name(1, 4095) + ".zst", name(1, 4097) + ".zst"}, nil, name(1, 4096), gap},
		{"the next one, at the begin of a log file", []string{name(1, 4095) + ".zst"}, nil, name(1, 4096), absent},
		{"a hole before a foreign file", []string{name(1, 5)}, nil, name(1, 4), gap},
		{"a hole before a form that is not known", []string{name(1, 5) + ".zst.age"}, nil, name(1, 4), gap},
		{"a hole before a partial", []string{name(1, 5) + ".partial.zst"}, nil, name(1, 4), gap},
		{"a hole before a variant of a partial", []string{name(1, 5) + ".partial.0123456789abcdef0123456789abcdef.zst"}, nil, name(1, 4), gap},
		{"a hole before a label", []string{name(1, 5) + ".00000028.backup.zst"}, nil, name(1, 4), gap},
		{"only its partial is there", []string{name(1, 3) + ".zst", name(1, 4) + ".partial.zst"}, nil, name(1, 4), absent},
		{"only its label is there", []string{name(1, 3) + ".zst", name(1, 4) + ".00000028.backup.zst"}, nil, name(1, 4), gap},
		{"what is no WAL file is no evidence", []string{name(1, 5)[:23] + ".zst", "x" + name(1, 5), "README"}, nil, name(1, 4), absent},
		{"another timeline's is no evidence", []string{name(2, 5) + ".zst"}, nil, name(1, 4), absent},

		// A timeline that was left shows how far it went.
		{"left behind it", []string{name(2, 7) + ".zst"}, histories{"2": from(1, within(7))}, name(1, 4), gap},
		{"left behind it, just", nil, histories{"2": from(1, within(5))}, name(1, 4), gap},
		{"left in it", []string{name(2, 4) + ".zst"}, histories{"2": from(1, within(4))}, name(1, 4), absent},
		{"left at its begin", nil, histories{"2": from(1, begin(4))}, name(1, 4), absent},
		{"left at its end", nil, histories{"2": from(1, begin(5))}, name(1, 4), gap},
		{"left before it", nil, histories{"2": from(1, within(3))}, name(1, 4), absent},
		{"left twice, once behind it", nil, histories{"2": from(1, within(3)), "3": from(1, within(9))}, name(1, 4), gap},
		{"left twice, both before it", nil, histories{"2": from(1, within(3)), "3": from(1, within(2))}, name(1, 4), absent},
		{"left by a grandchild's account", nil, histories{"3": from(1, within(6), 2, within(8))}, name(1, 4), gap},
		{"a child of another timeline", nil, histories{"3": from(2, within(9))}, name(1, 4), absent},

		// Another timeline than the first has a begin.
		{"the next one of timeline 2", []string{name(2, 4) + ".zst"}, histories{"2": from(1, within(4))}, name(2, 5), absent},
		{"a hole in timeline 2", []string{name(2, 4) + ".zst", name(2, 6) + ".zst"}, histories{"2": from(1, within(4))}, name(2, 5), gap},
		{"where timeline 2 begins", []string{name(2, 5) + ".zst"}, histories{"2": from(1, within(4))}, name(2, 4), gap},
		{"before timeline 2 begins", []string{name(2, 5) + ".zst"}, histories{"2": from(1, within(4))}, name(2, 3), absent},
		{"where timeline 2 begins with a segment", []string{name(2, 5) + ".zst"}, histories{"2": from(1, begin(4))}, name(2, 4), gap},
		{"before timeline 2 begins with a segment", []string{name(2, 5) + ".zst"}, histories{"2": from(1, begin(4))}, name(2, 3), absent},
		{"timeline 2 without a history, at its end", []string{name(2, 5) + ".zst"}, nil, name(2, 6), absent},
		{"timeline 2 without a history, a hole", []string{name(2, 6) + ".zst"}, nil, name(2, 5), gap},
		{"timeline 3, left late", nil, histories{"3": from(1, within(4), 2, within(6)), "4": from(1, within(4), 2, within(6), 3, within(9))}, name(3, 8), gap},
		{"timeline 3, before it begins", nil, histories{"3": from(1, within(4), 2, within(6)), "4": from(1, within(4), 2, within(6), 3, within(9))}, name(3, 5), absent},
		{"timeline 2, known from 3 alone", nil, histories{"3": from(1, within(4), 2, within(6))}, name(2, 5), gap},
		{"timelines are hexadecimal", []string{name(16, 6) + ".zst"}, histories{"16": from(1, within(4))}, name(16, 5), gap},
		{"timeline 10 and timeline 1", []string{name(16, 6) + ".zst"}, histories{"16": from(1, within(4))}, name(1, 4), absent},

		// Histories: a wrong "absent" makes PostgreSQL take the number again.
		{"the history of the first timeline", []string{name(1, 3) + ".zst"}, nil, "00000001.history", absent},
		{"the history of the first timeline, which was left", nil, histories{"2": from(1, within(4))}, "00000001.history", absent},
		{"a history that nobody made", []string{name(1, 3) + ".zst"}, nil, "00000002.history", absent},
		{"a history of a timeline that is there", []string{name(2, 3) + ".zst"}, nil, "00000002.history", gap},
		{"a history of which a partial is there", []string{name(2, 3) + ".partial.zst"}, nil, "00000002.history", gap},
		{"a history that a later one has", nil, histories{"3": from(1, within(4), 2, within(6))}, "00000002.history", gap},
		{"a history that a later one does not have", nil, histories{"3": from(1, within(4))}, "00000002.history", absent},
		{"a history after the last", nil, histories{"2": from(1, within(4)), "3": from(1, within(5))}, "00000004.history", absent},
		{"a history of timeline 16", []string{name(1, 3) + ".zst"}, nil, "00000010.history", absent},

		// Nobody counts on these.
		{"a partial", []string{name(1, 5) + ".zst"}, nil, name(1, 4) + ".partial", absent},
		{"a label", []string{name(1, 5) + ".zst"}, nil, name(1, 4) + ".00000028.backup", absent},

		// What would decide is damaged: it cannot be told.
		{"a hole in timeline 2, its history is broken", []string{name(2, 6) + ".zst"}, histories{"2": "1\t0/\n"}, name(2, 5), archive.ErrDamaged},
		{"the next one of timeline 2, its history is broken", []string{name(2, 4) + ".zst"}, histories{"2": "1\t0/\n"}, name(2, 5), absent},
		{"the next one, a history is broken", []string{name(1, 3) + ".zst"}, histories{"2": "1\t0/\n"}, name(1, 4), archive.ErrDamaged},
		{"a history, a later one is broken", nil, histories{"3": ""}, "00000002.history", archive.ErrDamaged},
		{"a history, an earlier one is broken", nil, histories{"2": ""}, "00000003.history", absent},
		{"a history names its own timeline", nil, histories{"3": from(3, within(4))}, "00000002.history", archive.ErrDamaged},
		{"histories that differ", nil, histories{"2": from(1, within(4)), "2.gz": from(1, within(5))}, name(1, 3), archive.ErrConflict},
	} {
		t.Run(test.what, func(t *testing.T) {
			r := archivetest.New(t, new(mem.Backend))
			r.Bind(7, 1<<20)
			for _, object := range test.there {
				dir := "wal/0000000100000000/"
				if len(object) >= 16 && !strings.HasPrefix(object, "x") {
					dir = archivetest.Directory(object)
				}
				r.Put(dir+object, []byte("x"))
			}
			for timeline, content := range test.histories {
				number, ending, _ := strings.Cut(timeline, ".")
				var n int
				fmt.Sscan(number, &n)
				if ending != "" {
					ending = "." + ending
				}
				r.Put(fmt.Sprintf("wal/%08X.history%s", n, ending), archivetest.ForeignForms[ending](t, []byte(content)))
			}
			_, _, err := r.Fetch(test.ask, 0)
			archivetest.WantErr(t, test.ask, err, test.want)
		})
	}
}

// A directory alone is no evidence that its timeline was used: a Push that failed may have made it.
func TestMissingInEmptyDirectory(t *testing.T) {
	root := archivetest.QuickDir(t)
	b, err := local.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	r := archivetest.New(t, b)
	r.Bind(7, 1<<20)
	for _, dir := range []string{"0000000100000000", "0000000200000000"} {
		if err := os.MkdirAll(filepath.Join(root, "wal", dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, ask := range []string{"00000002.history", name(2, 4), name(1, 4)} {
		_, _, err := r.Fetch(ask, 0)
		archivetest.WantErr(t, ask, err, recovery.ErrAbsent)
	}
}

// Someone has moved a timeline's directory to another disk. What is in it counts.
func TestMissingBehindLink(t *testing.T) {
	root, disk := archivetest.QuickDir(t), archivetest.QuickDir(t)
	b, err := local.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	r := archivetest.New(t, b)
	r.Bind(7, 1<<20)
	r.Put(archivetest.Directory(name(2, 6))+name(2, 6)+".zst", []byte("x"))
	dir := filepath.Join(root, "wal", "0000000200000000")
	if err := os.Rename(dir, filepath.Join(disk, "moved")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(disk, "moved"), dir); err != nil {
		t.Skip(err)
	}
	for _, ask := range []string{"00000002.history", name(2, 5)} {
		_, _, err := r.Fetch(ask, 0)
		archivetest.WantErr(t, ask, err, recovery.ErrGap)
	}
}

// A segment is absent only if that is proven: if any call on the way fails, the answer is that it cannot be determined.
func TestMissingFaults(t *testing.T) {
	for _, ask := range []string{name(1, 9), name(2, 9), name(2, 5), name(2, 3), "00000002.history", "00000004.history"} {
		for n := 0; ; n++ {
			f := &archivetest.Faulty{Backend: new(mem.Backend), N: -1}
			r := archivetest.New(t, f)
			r.Bind(7, 1<<20)
			r.Put(archivetest.Directory(name(1, 4))+name(1, 4)+".zst", []byte("x"))
			r.Put(archivetest.Directory(name(2, 6))+name(2, 6)+".zst", []byte("x"))
			if ask != "00000002.history" {
				r.Put("wal/00000002.history.gz", archivetest.ForeignForms[".gz"](t, []byte(from(1, within(4)))))
			}
			r.Put("wal/00000003.history", []byte(from(1, within(4), 2, within(7))))
			f.Mu.Lock()
			f.N = n
			f.Mu.Unlock()
			_, _, err := r.Fetch(ask, 0)
			if f.Call == "" {
				if n < 3 || !errors.Is(err, recovery.ErrAbsent) && !errors.Is(err, recovery.ErrGap) {
					t.Errorf("%s: after %d calls: got %v", ask, n, err)
				}
				break
			}
			if err == nil || errors.Is(err, recovery.ErrAbsent) || errors.Is(err, recovery.ErrGap) {
				t.Errorf("%s: %s: got %v, want the fault", ask, f.Call, err)
			}
		}
	}
}

// A real archive of three timelines, from which each file is taken in turn.
func TestEveryFileMissing(t *testing.T) {
	files := archivetest.Archived(t, "15")
	const last = "00000003000000000000001E"
	for _, name := range files {
		r := archivetest.New(t, new(mem.Backend))
		for _, other := range files {
			if other != name {
				r.MustPush(other, archivetest.File(t, other))
			}
		}
		want := recovery.ErrGap
		if name == last || strings.HasSuffix(name, ".partial") || strings.HasSuffix(name, ".backup") {
			want = recovery.ErrAbsent
		}
		_, _, err := r.Fetch(name, archivetest.SystemID(t, archivetest.File(t, archivetest.Segment)))
		archivetest.WantErr(t, name, err, want)
	}
}

func TestHistory(t *testing.T) {
	archivetest.OnEach(t, func(t *testing.T, r *archivetest.Rig) {
		r.MustPush(archivetest.History2, archivetest.File(t, archivetest.History2))
		r.Put("wal/"+archivetest.History3+".gz", archivetest.ForeignForms[".gz"](t, archivetest.File(t, archivetest.History3)))
		for tli, name := range map[wal.Timeline]string{2: archivetest.History2, 3: archivetest.History3} {
			got, err := r.A.History(t.Context(), tli)
			want, parseErr := wal.ParseHistory(tli, archivetest.File(t, name))
			if err != nil || parseErr != nil || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%d: got %v, %v, want %v", tli, got, err, want)
			}
		}
		_, err := r.A.History(t.Context(), 4)
		archivetest.WantErr(t, "4", err, archive.ErrNotStored)
	})
}
