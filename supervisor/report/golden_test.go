package report_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"walkeep/common/cmdtest"
	"walkeep/common/notes"
	"walkeep/supervisor/report"
)

// TestGolden compares what list, status and check print of one archive and its server with golden files.
func TestGolden(t *testing.T) {
	r, err := report.Collect(t.Context(), openSite(t), report.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r.Time = now
	golden := func(name string, print func(*bytes.Buffer) error) {
		t.Helper()
		var out bytes.Buffer
		if err := print(&out); err != nil {
			t.Fatal(err)
		}
		cmdtest.Golden(t, "testdata/"+name+".golden", out.String())
	}
	all := func(suffix string) {
		t.Helper()
		golden("status"+suffix, func(out *bytes.Buffer) error { return r.Status(out, limits) })
		golden("report"+suffix+".json", func(out *bytes.Buffer) error {
			e := json.NewEncoder(out)
			e.SetIndent("", "  ")
			return e.Encode(r)
		})
		golden("check"+suffix, func(out *bytes.Buffer) error {
			line, _ := r.Check(limits)
			_, err := out.WriteString(line + "\n")
			return err
		})
	}
	golden("list", func(out *bytes.Buffer) error { return r.List(out) })
	r.Removals = []notes.Removal{{
		ID: "ABCDEFGHIJKLMNOPQRSTUVWXYZ", Repository: "far", Host: "db1", User: "postgres", Marked: now.Add(-time.Hour), Until: now.Add(23 * time.Hour),
		Backups: []string{"20261122T220000Z"}, WAL: []notes.Range{{First: "000000010000000000000003", Last: "000000010000000000000007"}},
	}}
	golden("list-marked", func(out *bytes.Buffer) error { return r.List(out) })
	all("")

	r.Server = primary()
	all("-primary")
	r.Server = standby()
	all("-standby")

	line, _ := well().Check(limits)
	cmdtest.Golden(t, "testdata/check-well.golden", line+"\n")
}

func primary() *report.Server {
	at := now.Add(-time.Hour)
	ready, room := int64(4), int64(5<<30)
	return &report.Server{
		Version: "15.18 (Debian 15.18-0+deb12u1)", Timeline: 3, LSN: "0/1500000", ArchiveMode: "on", Archived: 17, Failed: 2,
		LastArchived: "000000030000000000000010", LastArchivedTime: &at, LastFailed: "000000030000000000000011", LastFailedTime: &now, Failing: true,
		Lag:   &report.Lag{Bytes: 5 * mb, Segments: 4, Seconds: 3600, First: "000000030000000000000011"},
		Slots: []report.Slot{{Name: "walkeep", Physical: true, Held: 5 * mb, WALStatus: "reserved", Room: &room}, {Name: "db2", Physical: true, Active: true, WALStatus: "reserved"}},
		Ready: &ready,
	}
}

func standby() *report.Server {
	streaming, late := false, 7200.0
	return &report.Server{
		Version: "15.18", Standby: true, Timeline: 3, LSN: "0/1018000", ArchiveMode: "on", Slots: []report.Slot{},
		Replay: &report.Replay{Received: "0/1018000", Replayed: "0/1018000", Paused: true, Streaming: &streaming, Lag: &report.ReplayLag{Bytes: mb / 2, Seconds: &late}},
	}
}
