package recovery_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/recovery"
	"walkeep/common/storage/mem"
	"walkeep/common/wal"
)

// A sketch is an archive of segments of 1 MB of which only the names count.
type sketch struct {
	segments  [][3]int          // timeline, first and last number
	histories map[int]string    // by timeline
	backups   map[string][3]int // timeline, and the numbers of the segments in which it begins and ends
}

var january = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

const sketched = wal.SystemID(7711122973582134654)

func (s sketch) archive(t *testing.T) (*archive.Archive, *recovery.Inventory) {
	t.Helper()
	b := new(mem.Backend)
	put := func(name, content string) {
		if err := b.Replace(t.Context(), name, []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	put("archive.json", fmt.Sprintf(`{"version":1,"system_identifier":"%s","segment_size":%d}`, sketched, 1<<20))
	for _, span := range s.segments {
		for number := span[1]; number <= span[2]; number++ {
			n := name(span[0], number)
			put("wal/"+n[:16]+"/"+n+".zst", "a segment")
		}
	}
	for tli, content := range s.histories {
		put(fmt.Sprintf("wal/%08X.history", tli), content)
	}
	for id, at := range s.backups {
		putManifest(t, b, &backup.Manifest{
			Version: backup.Version, ID: id, Type: "full", Codec: "zstd", SystemID: sketched, SegmentSize: 1 << 20,
			Timeline: wal.Timeline(at[0]), Start: within(at[1]), Stop: within(at[2]) + 8, Began: january, Ended: january, Files: 1, Bytes: 1,
			Volumes: []backup.Stored{{Name: "data-0001.tar.zst", Plain: 1, Stored: 1}}, Index: backup.Stored{Name: "files.json.zst", Plain: 1, Stored: 1},
		})
	}
	a := archive.New(b)
	inv, err := recovery.ReadInventory(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	return a, inv
}

const (
	one   = "20260101T000000Z"
	two   = "20260102T000000Z"
	three = "20260103T000000Z"
)

// What the listing alone decides: the way, the backup, and whether the end is the end.
func TestPlanByListing(t *testing.T) {
	simple := sketch{segments: [][3]int{{1, 3, 20}}, backups: map[string][3]int{one: {1, 4, 5}, two: {1, 10, 10}}}
	gap := sketch{segments: [][3]int{{1, 3, 7}, {1, 9, 12}, {1, 15, 20}}, backups: map[string][3]int{one: {1, 4, 5}, two: {1, 10, 10}}}
	fork := sketch{
		segments:  [][3]int{{1, 3, 20}, {2, 12, 15}},
		histories: map[int]string{2: from(1, within(12))},
		backups:   map[string][3]int{one: {1, 4, 5}, two: {1, 15, 15}, three: {2, 13, 13}},
	}
	begun := sketch{segments: [][3]int{{1, 3, 11}}, histories: map[int]string{2: from(1, within(12))}, backups: map[string][3]int{one: {1, 4, 5}}}
	stranger := sketch{
		segments:  [][3]int{{1, 3, 20}, {3, 12, 15}},
		histories: map[int]string{2: from(1, begin(4)), 3: from(1, begin(4), 2, begin(12))},
		backups:   map[string][3]int{one: {1, 5, 6}},
	}
	lost := sketch{segments: [][3]int{{1, 3, 8}}, backups: map[string][3]int{one: {1, 4, 5}, two: {1, 8, 9}}}
	near := sketch{ // timeline 1 was left in the segment in which its backup ended
		segments:  [][3]int{{1, 3, 11}, {2, 12, 13}},
		histories: map[int]string{2: from(1, within(12)+64)},
		backups:   map[string][3]int{one: {1, 11, 12}},
	}
	for _, test := range []struct {
		what    string
		there   sketch
		target  recovery.Target
		id      string
		want    string // backup, timeline, last segment
		refused string // what the refusal says
	}{
		{"the end", simple, recovery.Target{Kind: recovery.ToLatest}, "", two + " 1 " + name(1, 20), ""},
		{"the end, from an older backup", simple, recovery.Target{Kind: recovery.ToLatest}, one, one + " 1 " + name(1, 20), ""},
		{"no such backup", simple, recovery.Target{Kind: recovery.ToLatest}, three, "", "there is no backup " + three},
		{"no such timeline", simple, recovery.Target{Kind: recovery.ToLatest, Timeline: 7}, "", "", "nothing of timeline 7"},
		{"no backup", sketch{segments: simple.segments}, recovery.Target{Kind: recovery.ToImmediate}, "", "", "no backup"},
		{"a gap behind the newest backup", gap, recovery.Target{Kind: recovery.ToLatest}, "", "", name(1, 13) + " to " + name(1, 14) + " are missing; possible is timeline 1 from 0/500178"},
		{"a gap behind the older backup", gap, recovery.Target{Kind: recovery.ToLatest}, one, "", name(1, 8) + " is missing"},
		{"a consistent state before a gap", gap, recovery.Target{Kind: recovery.ToImmediate}, "", two + " 1 " + name(1, 10), ""},
		{"a position in a gap", gap, recovery.Target{Kind: recovery.ToLSN, LSN: within(13)}, "", "", name(1, 13) + " to " + name(1, 14) + " are missing"},
		{"the newest timeline", fork, recovery.Target{Kind: recovery.ToLatest}, "", three + " 2 " + name(2, 15), ""},
		{"the newest timeline from the parent's backup", fork, recovery.Target{Kind: recovery.ToLatest}, one, one + " 2 " + name(2, 15), ""},
		{"the older timeline", fork, recovery.Target{Kind: recovery.ToLatest, Timeline: 1}, "", two + " 1 " + name(1, 20), ""},
		{"a backup that is not on the way", fork, recovery.Target{Kind: recovery.ToLatest}, two, "", "is not on the way to that timeline (2)"},
		{"a consistent state off the way", fork, recovery.Target{Kind: recovery.ToImmediate}, two, two + " 1 " + name(1, 15), ""},
		{"a timeline of which there is only the history", begun, recovery.Target{Kind: recovery.ToLatest}, "", "", "none of its WAL is in the archive"},
		{"the same for a standby", begun, recovery.Target{Kind: recovery.ToLatest, Follow: true}, "", one + " 2 " + name(1, 11), ""},
		{"a gap for a standby", gap, recovery.Target{Kind: recovery.ToLatest, Follow: true}, "", "", name(1, 13) + " to " + name(1, 14) + " are missing"},
		{"its parent", begun, recovery.Target{Kind: recovery.ToLatest, Timeline: 1}, "", one + " 1 " + name(1, 11), ""},
		{"a newest timeline without a backup", stranger, recovery.Target{Kind: recovery.ToLatest}, "", "", "no backup leads to timeline 3, the newest; name the timeline that is meant with --target-timeline"},
		{"an older one named", stranger, recovery.Target{Kind: recovery.ToLatest, Timeline: 1}, "", one + " 1 " + name(1, 20), ""},
		{"WAL that a backup proves", lost, recovery.Target{Kind: recovery.ToLatest}, "", "", "WAL that it needs is missing"},
		{"WAL that another backup proves", lost, recovery.Target{Kind: recovery.ToLatest}, one, "", "there was WAL up to 0/900178, where backup " + two + " ended"},
		{"a consistent state of what is whole", lost, recovery.Target{Kind: recovery.ToImmediate}, "", one + " 1 " + name(1, 5), ""},
		{"a timeline that was left where the backup ended", near, recovery.Target{Kind: recovery.ToImmediate}, "", one + " 2 " + name(2, 12), ""},
		{"a time before all backups", simple, recovery.Target{Kind: recovery.ToTime, Time: january.Add(-time.Hour)}, "", "", "no backup was complete by then"},
	} {
		t.Run(test.what, func(t *testing.T) {
			_, inv := test.there.archive(t)
			p, err := inv.Plan(t.Context(), test.target, test.id)
			if test.refused != "" {
				if !errors.Is(err, recovery.ErrUnreachable) || !strings.Contains(err.Error(), test.refused) || strings.Contains(err.Error(), "\n") {
					t.Errorf("got %v, want a refusal that says %q", err, test.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprintf("%s %d %s", p.Backup.ID, p.Timeline, p.Until); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
			if p.Target.Timeline != p.Timeline {
				t.Errorf("target's timeline: got %d, want %d", p.Target.Timeline, p.Timeline)
			}
		})
	}
}

// A search that meets a segment that cannot be read is no answer, and names the object.
func TestPlanMeetsDamage(t *testing.T) {
	_, inv := sketch{segments: [][3]int{{1, 3, 20}}, backups: map[string][3]int{one: {1, 4, 5}}}.archive(t)
	for _, target := range []recovery.Target{
		{Kind: recovery.ToXID, XID: 700}, {Kind: recovery.ToName, Name: "x"}, {Kind: recovery.ToTime, Time: january.Add(time.Hour)},
		{Kind: recovery.ToLSN, LSN: within(7)},
	} {
		p, err := inv.Plan(t.Context(), target, "")
		if err == nil || errors.Is(err, recovery.ErrUnreachable) || !strings.Contains(err.Error(), "wal/0000000100000000/0000000100000000000000") {
			t.Errorf("%s: got %+v, %v, want an error that names the object", target, p, err)
		}
	}
}

func TestWindows(t *testing.T) {
	there := sketch{
		segments:  [][3]int{{1, 3, 7}, {1, 9, 20}, {2, 12, 15}, {2, 17, 18}},
		histories: map[int]string{2: from(1, within(12))},
		backups:   map[string][3]int{one: {1, 4, 5}, two: {1, 10, 11}, three: {1, 7, 8}},
	}
	_, inv := there.archive(t)
	var got []string
	for _, w := range inv.Windows() {
		gap := "the end"
		if w.Gap != nil {
			gap = w.Gap.String()
		}
		var ids []string
		for _, b := range w.Backups {
			ids = append(ids, b.ID[6:8])
		}
		got = append(got, fmt.Sprintf("%d: %s to %s from %s; %s", w.Timeline, w.From, w.To, strings.Join(ids, ","), gap))
	}
	want := []string{
		"1: 0/500178 to 0/800000 from 01; " + name(1, 8) + " is missing",
		"1: 0/B00178 to 0/1500000 from 02; the end",
		"2: 0/500178 to 0/800000 from 01; " + name(1, 8) + " is missing",
		"2: 0/B00178 to 0/1000000 from 02; " + name(2, 16) + " is missing",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if _, err := inv.Restorable(inv.Backup(three)); !errors.Is(err, recovery.ErrIncomplete) {
		t.Errorf("a backup in a gap: got %v, want %v", err, recovery.ErrIncomplete)
	}
}
