package recovery_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"

	"walkeep/common/archive"
	"walkeep/common/archive/archivetest"
	"walkeep/common/recovery"
	"walkeep/common/storage"
	"walkeep/common/storage/mem"
	"walkeep/common/wal"
)

// Delivery and the inventory use the same evidence that a segment existed. The archive holds segments 3 to 5 of timeline 1.
func TestEvidence(t *testing.T) {
	const dir = "wal/0000000100000000/"
	for _, test := range []struct {
		name, object, content string
		gap                   bool
	}{
		{"nothing", "backups/README", "", false},
		{"streamed to its end", "partial/000000010000000000000006", "x", true},
		{"a later one is being streamed", "partial/000000010000000000000007.partial", "x", true},
		{"it is being streamed", "partial/000000010000000000000006.partial", "x", false},
		{"a later one was streamed and put aside", "partial/000000010000000000000007.partial.differs-1", "x", true},
		{"a stream has it", "streams/one.json", `{"slot":"one","timeline":1,"flushed":"0/700000"}`, true},
		{"a stream has a part of it", "streams/one.json", `{"slot":"one","timeline":1,"flushed":"0/6FFFFF"}`, false},
		{"a stream of another timeline", "streams/one.json", `{"slot":"one","timeline":2,"flushed":"0/700000"}`, false},
		{"a repository has held it", "ship/far.json", `{"repository":"far","marks":[{"timeline":1,"lsn":"0/700000"}]}`, true},
		{"a repository has held all before it", "ship/far.json", `{"repository":"far","marks":[{"timeline":1,"lsn":"0/600000"}]}`, false},
		{"a repository has held another timeline", "ship/far.json", `{"repository":"far","marks":[{"timeline":2,"lsn":"0/700000"}]}`, false},
		{"a damaged note of a repository", "ship/far.json", `{"repository":"far","marks":[{"timeline":1,"lsn":"0/7`, false},
		{"a damaged note of a stream", "streams/one.json", `{"slot":"one","timeline":1,"flushed":"0/7`, false},
		{"a backup that ended in it", "backups/20261122T140000Z/manifest.json", "0/600028", true},
		{"a backup that ended before it", "backups/20261122T140000Z/manifest.json", "0/600000", false},
		{"a later segment", dir + "000000010000000000000007.zst", "x", true},
		{"a part of a later one", dir + "000000010000000000000007.partial.zst", "x", true},
		{"a part of it", dir + "000000010000000000000006.partial.zst", "x", false},
		{"a label of it", dir + "000000010000000000000006.00000028.backup.zst", "x", true},
		{"a later one that is empty", dir + "000000010000000000000007.zst", "", true},
		{"a later one that cannot be read here", dir + "000000010000000000000007.zst.age", "x", true},
		{"what lay beside a later one", dir + "000000010000000000000007.zst.sha256", "x", true},
		{"a later one in the next log", "wal/0000000100000001/000000010000000100000000.zst", "x", true},
		{"a later one where it is not looked for", "wal/0000000100000001/000000010000000000000007.zst", "x", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			archivetest.OnEach(t, func(t *testing.T, r *archivetest.Rig) {
				lay(t, r.B, "archive.json", []byte(identity))
				for _, number := range []string{"3", "4", "5"} {
					lay(t, r.B, dir+"00000001000000000000000"+number+".zst", []byte("x"))
				}
				const id = "20261122T120000Z"
				layBackup(t, r.B, id, manifestOf(t, id, 4711))
				content := []byte(test.content)
				if strings.HasSuffix(test.object, "manifest.json") {
					stop, err := wal.ParseLSN(test.content)
					if err != nil {
						t.Fatal(err)
					}
					content = manifestTo(t, "20261122T140000Z", stop)
				}
				lay(t, r.B, test.object, content)
				asked := wal.Name{Kind: wal.KindSegment, Timeline: 1, Seg: 6}
				_, err := recovery.Fetch(t.Context(), r.A, asked, 0, archivetest.Discard{})
				if want := map[bool]error{false: recovery.ErrAbsent, true: recovery.ErrGap}[test.gap]; !errors.Is(err, want) {
					t.Errorf("fetch: got %v, want %v", err, want)
				}
				inv, err := recovery.ReadInventory(t.Context(), r.A)
				if err != nil {
					t.Fatal(err)
				}
				reach, err := inv.Reach(inv.Backup(id), 1)
				if err != nil || (reach.Gap != nil) != test.gap || reach.To != wal.LSN(6*mb) {
					t.Errorf("reach: got %s, gap %v, %v; want a gap: %v", reach.To, reach.Gap, err, test.gap)
				}
				if reach.Gap != nil && reach.Gap.First != asked {
					t.Errorf("the gap begins at %s", reach.Gap.First)
				}
			})
		})
	}
}

// The mark of a timeline that was dropped neither takes its number nor makes it a timeline of the archive.
func TestMarkOfDroppedTimeline(t *testing.T) {
	r := archivetest.New(t, new(mem.Backend))
	lay(t, r.B, "archive.json", []byte(identity))
	lay(t, r.B, "wal/0000000100000000/000000010000000000000003.zst", []byte("x"))
	lay(t, r.B, "ship/far.json", []byte(`{"repository":"far","marks":[{"timeline":2,"lsn":"0/700000"}]}`))
	_, err := recovery.Fetch(t.Context(), r.A, wal.Name{Kind: wal.KindHistory, Timeline: 2}, 0, archivetest.Discard{})
	if !errors.Is(err, recovery.ErrAbsent) {
		t.Errorf("the history: got %v", err)
	}
	inv, err := recovery.ReadInventory(t.Context(), r.A)
	if err != nil || len(inv.Lines) != 1 {
		t.Errorf("got %d timelines, %v", len(inv.Lines), err)
	}
}

// A stream that can store is about to store what lies complete in partial/; nothing is missing then, unless it is.
func TestEvidenceWaits(t *testing.T) {
	r := archivetest.New(t, new(mem.Backend))
	lay(t, r.B, "archive.json", []byte(identity))
	for _, number := range []string{"3", "4", "5"} {
		lay(t, r.B, "wal/0000000100000000/00000001000000000000000"+number+".zst", []byte("x"))
	}
	const id = "20261122T120000Z"
	layBackup(t, r.B, id, manifestOf(t, id, 4711))
	segment := make([]byte, mb)
	lay(t, r.B, "partial/000000010000000000000006", segment)
	lay(t, r.B, "partial/000000010000000000000007", segment)
	lay(t, r.B, "partial/000000010000000000000008.partial", segment[:100])
	gap := func(note string) bool {
		t.Helper()
		if err := r.B.Replace(t.Context(), "streams/one.json", []byte(note)); err != nil {
			t.Fatal(err)
		}
		inv, err := recovery.ReadInventory(t.Context(), r.A)
		if err != nil {
			t.Fatal(err)
		}
		reach, err := inv.Reach(inv.Backup(id), 1)
		if err != nil {
			t.Fatal(err)
		}
		return reach.Gap != nil
	}
	if gap(`{"slot":"one","timeline":1,"flushed":"0/800064"}`) || gap(`{"slot":"one","timeline":1,"flushed":"0/800064","trouble":"no server"}`) {
		t.Error("a stream is at work, and something is missing")
	}
	if !gap(`{"slot":"one","timeline":1,"flushed":"0/800064","ended":true}`) || !gap(`{"slot":"one","timeline":1,"flushed":"0/800064","trouble":"x","unstored":"x"}`) {
		t.Error("no stream is at work, and nothing is missing")
	}
	if err := r.B.Remove(t.Context(), "partial/000000010000000000000007"); err != nil {
		t.Fatal(err)
	}
	if !gap(`{"slot":"one","timeline":1,"flushed":"0/800064"}`) {
		t.Error("a segment is nowhere, and nothing is missing")
	}
}

// layBackup stores a backup of which the manifest counts, and that the rest is there.
func layBackup(t testing.TB, b storage.Backend, id string, manifest []byte) {
	t.Helper()
	for name, content := range map[string][]byte{"manifest.json": manifest, "files.json.zst": {0}, "data-0001.tar.zst": {0}} {
		lay(t, b, "backups/"+id+"/"+name, content)
	}
}

// late is a backend whose listings of a directory lack, once each, what is stored while they run.
type late struct {
	storage.Backend
	dir  string
	hide []string
}

func (l *late) List(ctx context.Context, prefix string, o storage.ListOptions) iter.Seq2[storage.Entry, error] {
	hiding := prefix == l.dir
	if hiding {
		l.dir = ""
	}
	return func(yield func(storage.Entry, error) bool) {
		for e, err := range l.Backend.List(ctx, prefix, o) {
			if hiding && slices.Contains(l.hide, e.Name) {
				continue
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// Segments that are archived while the archive is listed make no hole, neither between two directories nor within one.
func TestNoHoleWhileListing(t *testing.T) {
	const first, second = "wal/0000000100000000/", "wal/0000000100000001/"
	objects := []string{
		first + "000000010000000000000FFD.zst", first + "000000010000000000000FFE.zst", first + "000000010000000000000FFF.zst",
		second + "000000010000000100000000.zst", second + "000000010000000100000001.zst", second + "000000010000000100000002.zst",
	}
	for _, hide := range []struct {
		dir     string
		objects []string
	}{{first, objects[1:3]}, {first, objects[2:3]}, {first, objects[1:2]}, {second, objects[4:5]}, {second, objects[3:5]}, {first, objects[:3]}} {
		b := &late{Backend: new(mem.Backend)}
		lay(t, b, "archive.json", []byte(identity))
		for _, o := range objects {
			lay(t, b, o, []byte("x"))
		}
		b.dir, b.hide = hide.dir, hide.objects
		inv, err := recovery.ReadInventory(t.Context(), archive.New(b))
		if err != nil {
			t.Fatal(err)
		}
		if segments := inv.Lines[0].Segments; len(segments) != 1 {
			t.Errorf("without %v at first: got %v", hide.objects, segments)
		}
	}
}
