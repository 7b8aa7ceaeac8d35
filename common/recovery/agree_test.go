package recovery_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"walkeep/common/archive"
	"walkeep/common/archive/archivetest"
	"walkeep/common/recovery"
	"walkeep/common/storage/local"
	"walkeep/common/wal"
)

// Archives are damaged at random. A server that asks for a file that is reported as recoverable gets it, and recovery never
// ends by "absent" before the reported end.
func TestAnswersAgree(t *testing.T) {
	const seed, rounds = 20261128, 400
	random := rand.New(rand.NewPCG(seed, 0))
	for round := range rounds {
		root := archivetest.QuickDir(t)
		b, err := local.Open(root)
		if err != nil {
			t.Fatal(err)
		}
		layTwoTimelines(t, b)
		var done []string
		for range 1 + random.IntN(3) {
			done = append(done, spoil(t, random, root))
		}
		if problem := disagreement(t, archive.New(b)); problem != "" {
			t.Errorf("seed %d, round %d: after %s: %s", uint64(seed), round, strings.Join(done, ", "), problem)
		}
		if err := os.RemoveAll(root); err != nil {
			t.Fatal(err)
		}
	}
}

// layTwoTimelines makes an archive of two timelines, in two logs each, with a backup on either.
func layTwoTimelines(t *testing.T, b *local.Backend) {
	t.Helper()
	lay(t, b, "archive.json", []byte(identity))
	segments := func(tli, first, last int) {
		for n := first; n <= last; n++ {
			log := fmt.Sprintf("%08X%08X", tli, n>>12)
			lay(t, b, fmt.Sprintf("wal/%s/%s%08X.zst", log, log, n&0xFFF), []byte("x"))
		}
	}
	segments(1, 0xFFA, 0xFFF)
	segments(1, 0x1000, 0x1003)
	segments(2, 0x1004, 0x1008)
	lay(t, b, "wal/00000002.history", []byte("1\t1/480000\tno reason\n"))
	lay(t, b, "streams/one.json", []byte(`{"slot":"one","timeline":2,"flushed":"1/900010","ended":true}`))
	lay(t, b, "partial/000000020000000100000009.partial", []byte("x"))
	layBackup(t, b, "20261122T120000Z", encode(t, backupOn(1, 0xFFB*mb, 0xFFC*mb), "20261122T120000Z", 4711))
	layBackup(t, b, "20261122T130000Z", encode(t, backupOn(2, 0x1005*mb, 0x1006*mb), "20261122T130000Z", 4711))
}

// spoil does something to an object or a directory, and says what.
func spoil(t *testing.T, random *rand.Rand, root string) string {
	t.Helper()
	var all []string
	filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if rel, _ := filepath.Rel(root, path); err == nil && rel != "." && rel != "archive.json" {
			all = append(all, path)
		}
		return nil
	})
	slices.Sort(all)
	if len(all) == 0 {
		return "nothing"
	}
	path := all[random.IntN(len(all))]
	rel, _ := filepath.Rel(root, path)
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	switch what := random.IntN(6); what {
	case 0:
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		return "removal of " + rel
	case 1:
		if err := errors.Join(os.RemoveAll(path), os.Symlink("nowhere", path)); err != nil {
			t.Fatal(err)
		}
		return rel + " leading nowhere"
	case 2:
		ending := []string{".bak", ".sha256", ".tmp", ".gpg"}[random.IntN(4)]
		if err := errors.Join(os.RemoveAll(path+ending), os.Rename(path, path+ending)); err != nil {
			t.Fatal(err)
		}
		return rel + " renamed to " + ending
	case 3:
		if info.Mode().IsRegular() {
			if err := os.Truncate(path, 0); err != nil {
				t.Fatal(err)
			}
			return rel + " emptied"
		}
	case 4:
		err := os.RemoveAll(path)
		switch {
		case err != nil:
		case info.IsDir():
			err = os.WriteFile(path, []byte("x"), 0o600)
		default:
			err = os.Mkdir(path, 0o700)
		}
		if err != nil {
			t.Fatal(err)
		}
		return rel + " of another kind"
	case 5:
		segment := fmt.Sprintf("%08X%08X%08X", 1+random.IntN(3), 1, random.IntN(12))
		name := filepath.Join(root, "partial", segment+[]string{"", ".partial"}[random.IntN(2)])
		os.WriteFile(name, []byte("x"), 0o600)
		return "streaming of " + filepath.Base(name)
	}
	return "nothing to " + rel
}

// disagreement compares the answers that recovery would get with the inventory; "" if they agree. An answer can also be that
// nothing can be determined.
func disagreement(t *testing.T, a *archive.Archive) string {
	t.Helper()
	inv, err := recovery.ReadInventory(t.Context(), a)
	if err != nil {
		return ""
	}
	ask := func(n wal.Name) error {
		_, err := recovery.Fetch(t.Context(), a, n, 0, archivetest.Discard{})
		return err
	}
	for _, m := range inv.Backups {
		for _, l := range inv.Lines {
			r, err := inv.Reach(m, l.Timeline)
			if err != nil {
				continue
			}
			for number := uint64(m.Start) / mb; number < uint64(r.To)/mb; number++ {
				n, err := inv.NameOn(l.Timeline, number)
				if err != nil {
					return err.Error()
				}
				if err := ask(n); errors.Is(err, recovery.ErrAbsent) || errors.Is(err, recovery.ErrGap) || errors.Is(err, archive.ErrNoFormat) {
					return fmt.Sprintf("timeline %d can be recovered to %s, and %v", l.Timeline, r.To, err)
				}
			}
			next, err := inv.NameOn(l.Timeline, uint64(r.To)/mb)
			if err != nil {
				return err.Error()
			}
			if err := ask(next); r.Gap == nil && !errors.Is(err, recovery.ErrAbsent) {
				return fmt.Sprintf("timeline %d ends at %s, and there %v", l.Timeline, r.To, err)
			} else if r.Gap != nil && (err == nil || errors.Is(err, recovery.ErrAbsent)) {
				return fmt.Sprintf("timeline %d has a hole (%s), and there %v", l.Timeline, r.Gap, err)
			}
		}
		later := wal.Name{Kind: wal.KindHistory, Timeline: inv.Newest() + 1}
		if err := ask(later); !errors.Is(err, recovery.ErrAbsent) && inv.Newest() > 0 {
			return fmt.Sprintf("timeline %d is the newest, and %v", inv.Newest(), err)
		}
	}
	return ""
}
