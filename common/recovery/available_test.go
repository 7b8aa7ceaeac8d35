package recovery_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"walkeep/common/archive/archivetest"
	"walkeep/common/backup"
	"walkeep/common/recovery"
	"walkeep/common/wal"
)

// Whatever is missing or broken, the end that is reported as recoverable can be given as a target, and so can "as far as
// possible": both end there.
func TestPlanToWhatIsSaidToBeThere(t *testing.T) {
	segments := []string{
		archivetest.Segment, archivetest.Switched, "00000001000000000000000C", "00000001000000000000000D", "00000001000000000000000E", "00000001000000000000000F",
	}
	header, err := wal.ParseHeader(archivetest.File(t, archivetest.Segment))
	if err != nil {
		t.Fatal(err)
	}
	tried, holes, broken := 0, 0, 0
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 1))
		r := archivetest.New(t, newLocal(t))
		for _, name := range segments {
			content := archivetest.File(t, name)
			switch random.IntN(8) {
			case 0:
				continue
			case 1: // its records are broken somewhere
				content = bytes.Clone(content)
				content[4096+random.IntN(len(content)/2)] ^= 0x55
			}
			r.MustPush(name, content)
		}
		if random.IntN(2) == 0 {
			r.MustPush(archivetest.History3, archivetest.File(t, archivetest.History3))
			r.MustPush(archivetest.History2, archivetest.File(t, archivetest.History2))
			r.MustPush(archivetest.Third, archivetest.File(t, archivetest.Third))
		}
		r.MustPush(archivetest.Partial, archivetest.File(t, archivetest.Partial))
		for i := range 3 {
			start := wal.LSN((9 + uint64(random.IntN(8))) * mb)
			putManifest(t, r.B, &backup.Manifest{
				Version: backup.Version, ID: fmt.Sprintf("2026010%dT000000Z", i+1), Type: "full", Codec: "zstd", SystemID: header.SystemID, SegmentSize: wal.SegmentSize(mb),
				Timeline: 1, Start: start + 40, Stop: start + 40 + wal.LSN(random.IntN(256)), Began: january, Ended: january, Files: 1, Bytes: 1,
				Volumes: []backup.Stored{{Name: "data-0001.tar.zst", Plain: 1, Stored: 1}}, Index: backup.Stored{Name: "files.json.zst", Plain: 1, Stored: 1},
			})
			r.Put(backup.Dir(fmt.Sprintf("2026010%dT000000Z", i+1))+"data-0001.tar.zst", []byte("x"))
			r.Put(backup.Dir(fmt.Sprintf("2026010%dT000000Z", i+1))+"files.json.zst", []byte("x"))
		}
		inv, err := recovery.ReadInventory(t.Context(), r.A)
		if err != nil {
			t.Fatal(err)
		}
		for i, w := range inv.Windows() {
			end, err := inv.EndOfRecords(t.Context(), w)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			tried++
			if w.Gap != nil {
				holes++
				if w.Gap.Damage != nil {
					broken++
				}
			}
			p, err := inv.Plan(t.Context(), recovery.Target{Kind: recovery.ToLSN, LSN: end, Timeline: w.Timeline}, "")
			if err != nil || p.Until != w.Last && p.At != end && p.Target.Kind != recovery.ToImmediate {
				t.Errorf("seed %d: %s, whose records end at %s: got %+v, %v", seed, w, end, p, err)
				continue
			}
			if all := inv.Windows(); i == len(all)-1 || all[i+1].Timeline != w.Timeline {
				q, err := inv.Plan(t.Context(), recovery.Target{Kind: recovery.ToAvailable, Timeline: w.Timeline}, "")
				if err != nil || q.Target != p.Target || q.At != p.At {
					t.Errorf("seed %d: %s, as far as possible: got %+v, %v, want %+v", seed, w, q, err, p)
				}
			}
		}
	}
	if tried < 30 || holes < 10 || broken < 3 {
		t.Errorf("only %d windows, %d before holes, %d before broken records", tried, holes, broken)
	}
}
