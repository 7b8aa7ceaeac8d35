package report_test

import (
	"os"
	"testing"
	"time"

	"walkeep/common/archive"
	"walkeep/common/notes"
	"walkeep/common/storage/local"
	"walkeep/common/storage/mem"
	"walkeep/common/wal"
	"walkeep/supervisor/report"
)

// What was shipped is that of the spool's note for the repository at that place.
func TestShipping(t *testing.T) {
	openSite(t)
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(site)); err != nil {
		t.Fatal(err)
	}
	b, err := local.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	a := archive.New(b)
	at := time.Now()
	for _, n := range []notes.Shipping{
		{Repository: "far", URL: "file:///far", Updated: at, Marks: []notes.Mark{{Timeline: 1, LSN: 0x2000000}}, Objects: 3, Bytes: 30, Since: at.Add(-time.Minute),
			Recoverable: at.Add(-time.Minute), Error: "down", Stuck: []notes.Problem{{Object: "wal/x", Text: "another content"}}},
		{Repository: "moved", URL: "file:///old", Updated: at},
		{Repository: "gone", URL: "file:///gone", Updated: at.Add(-time.Hour)},
	} {
		if err := a.Notes().NoteShipping(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	empty := archive.New(new(mem.Backend))
	r, err := report.Collect(t.Context(), a, report.Options{Places: []report.Place{
		{Name: "spool", Spool: true, Archive: a}, {Name: "far", URL: "file:///far", Archive: empty}, {Name: "moved", URL: "file:///new", Archive: empty},
		{Name: "gone", URL: "file:///gone", Archive: empty},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Shipping) != 3 {
		t.Fatalf("got %+v", r.Shipping)
	}
	far, moved, gone := r.Shipping[0], r.Shipping[1], r.Shipping[2]
	if !far.Running || far.Objects != 3 || far.Lag < 60 || far.Unrecoverable == nil || *far.Unrecoverable < 60 || len(far.Stuck) != 1 || far.Positions[0].LSN != wal.LSN(0x2000000).String() {
		t.Errorf("got %+v", far)
	}
	if moved.Noted != nil {
		t.Errorf("a note about another place counts: %+v", moved)
	}
	r, err = report.Collect(t.Context(), a, report.Options{Places: []report.Place{{Name: "spool", Spool: true, Archive: empty}, {Name: "far", URL: "file:///far", Archive: a}}})
	if err != nil || len(r.Shipping) > 0 {
		t.Errorf("a host on which nothing was archived: got %+v, %v", r.Shipping, err)
	}
	if gone.Running || gone.Lag < 3600 {
		t.Errorf("what came since a process has ended is not late: %+v", gone)
	}
}
