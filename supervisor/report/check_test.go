package report_test

import (
	"strings"
	"testing"
	"time"

	"walkeep/supervisor/report"
)

var now = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

const mb = 1 << 20

// well returns a report without findings: two backups on timeline 1, a primary that archives, and no standby or
// stream.
func well() *report.Report {
	b := func(id string, ended time.Duration) report.Backup {
		return report.Backup{ID: id, Timeline: 1, Ended: now.Add(ended), Restorable: true, ToProduction: true}
	}
	return &report.Report{
		Time: now, SegmentSize: 16 * mb, Production: 1, ProductionSaid: true,
		Backups:   []report.Backup{b("one", -48*time.Hour), b("two", -24*time.Hour)},
		Timelines: []report.Timeline{{Timeline: 1}},
		Windows:   []report.Window{{Timeline: 1, ToLSN: "0/9000000", Reached: true}},
		Server:    &report.Server{Timeline: 1, ArchiveMode: "on", Lag: &report.Lag{}},
	}
}

var limits = report.Limits{BackupAge: 8 * 24 * time.Hour, Lag: 10 * time.Minute, Ready: 32, StandbyLag: time.Hour, ShipLag: 10 * time.Minute}

// ships returns what was shipped to one repository.
func ships(s report.Shipping) []report.Shipping {
	s.Repository, s.Noted = "far", &now
	return []report.Shipping{s}
}

func TestFindings(t *testing.T) {
	silent := report.Stream{Slot: "old", Heard: now.Add(-time.Hour), Synchronous: true}
	for _, test := range []struct {
		name  string
		spoil func(r *report.Report)
		want  report.State
		words string
	}{
		{"well", func(r *report.Report) {}, report.OK, "the newest 24h0m old"},
		{"the newest backup by position, not by its time", func(r *report.Report) { r.Backups[0].Ended = now.Add(-time.Minute) }, report.OK, "the newest 24h0m old"},
		{"a clock that was ahead hides no age", func(r *report.Report) {
			r.Backups[0].Ended, r.Backups[1].Ended = now.AddDate(0, 0, -100), now.AddDate(1, 0, 0)
		}, report.Warning, "the newest backup is 100 days old"},
		{"a backup in the future", func(r *report.Report) { r.Backups[1].Ended = now.AddDate(1, 0, 0) }, report.Warning, "is in the future"},
		{"a copy's backup is not the newest", func(r *report.Report) {
			r.Backups[1].Ended = now.AddDate(0, 0, -9)
			r.Backups = append(r.Backups, report.Backup{ID: "copy", Timeline: 2, Ended: now, Restorable: true})
		}, report.Warning, "the newest backup is 9 days old"},
		{"a copy's timeline does not hide a hole in the production server's", func(r *report.Report) {
			r.Windows[0].Gap = &report.Gap{First: "000000010000000000000009", Last: "000000010000000000000009"}
			r.Timelines = append(r.Timelines, report.Timeline{Timeline: 2})
			r.Windows = append(r.Windows, report.Window{Timeline: 2, ToLSN: "0/5000000", Reached: true})
		}, report.Critical, "timeline 1 can be recovered only up to"},
		{"nothing of the server's timeline", func(r *report.Report) { r.Production = 3 }, report.Critical, "nothing of timeline 3"},
		{"a drill that failed", func(r *report.Report) { r.Backups[1].DrillError = "at read: x" }, report.Warning, "the last drill of backup two failed"},
		{"no time has passed, but much is missing", func(r *report.Report) {
			r.Server.Lag = &report.Lag{Bytes: 320 * mb, Segments: 20, First: "000000010000000000000009"}
		}, report.Warning, "20 segments behind: it lacks all WAL from 000000010000000000000009"},
		{"some are on their way", func(r *report.Report) { r.Server.Lag = &report.Lag{Bytes: 100 * mb, Segments: 6} }, report.OK, ""},
		{"archived elsewhere", func(r *report.Report) { r.Server.ArchiverProblem = "the server has reported X as archived" }, report.Critical, "has reported X"},
		{"archived elsewhere, beside a stream", func(r *report.Report) {
			r.Server.ArchiverProblem = "the server has reported X as archived"
			r.Streams = []report.Stream{{Slot: "walkeep", Running: true}}
		}, report.OK, ""},
		{"an unused slot", func(r *report.Report) { r.Server.Slots = []report.Slot{{Name: "s", Held: 960 * mb}} }, report.Warning, "slot s is not in use"},
		{"an unused slot of a stream that was stopped", func(r *report.Report) {
			r.Streams = []report.Stream{{Slot: "walkeep", Ended: true}}
			r.Server.Slots = []report.Slot{{Name: "walkeep", Held: 960 * mb}}
		}, report.Warning, "start it again, or drop the slot"},
		{"an unused slot on a disk that is full soon", func(r *report.Report) {
			room := int64(100 * mb)
			r.Server.Slots = []report.Slot{{Name: "s", Held: 960 * mb, Room: &room}}
		}, report.Critical, "with room for 100"},
		{"a slot in use", func(r *report.Report) { r.Server.Slots = []report.Slot{{Name: "s", Held: 960 * mb, Active: true}} }, report.OK, ""},
		{"a slot that was lost", func(r *report.Report) { r.Server.Slots = []report.Slot{{Name: "s", Lost: true, Reason: "wal_removed"}} }, report.Warning, "slot s is lost (wal_removed)"},
		{"the lost slot of a stream that does not run", func(r *report.Report) {
			r.Streams = []report.Stream{{Slot: "walkeep", Ended: true}}
			r.Server.Slots = []report.Slot{{Name: "walkeep", Lost: true}}
		}, report.Critical, "slot walkeep is lost"},
		{"a slot that is lost soon", func(r *report.Report) {
			r.Server.Slots = []report.Slot{{Name: "s", Active: true, WALStatus: "unreserved"}}
		}, report.Critical, "about to be lost"},
		{"a silent stream that commits wait for", func(r *report.Report) {
			r.Streams = []report.Stream{silent}
			r.Server.Awaited = true
		}, report.Critical, "commits that wait for it do not return"},
		{"a silent stream, and no server was asked", func(r *report.Report) {
			r.Streams = []report.Stream{silent}
			r.Server = nil
		}, report.Critical, "commits that wait for it do not return"},
		{"a silent stream that nobody waits for", func(r *report.Report) { r.Streams = []report.Stream{silent} }, report.Warning, "cleanup --forget-stream old"},
		{"a stream that another one has replaced", func(r *report.Report) {
			silent.Gone = "stream new has taken its place"
			r.Streams = []report.Stream{silent, {Slot: "new", Running: true, Synchronous: true}}
		}, report.OK, ""},
		{"a standby has received what the archive lacks", func(r *report.Report) {
			r.Timelines[0].Ranges = []report.Range{{EndLSN: "0/9000000"}}
			r.Server = &report.Server{Standby: true, Timeline: 1, Replay: &report.Replay{Received: "0/1A000000"}}
		}, report.Warning, "lacks 272.0 MB of what the standby has received"},
		{"a standby has received what is on its way", func(r *report.Report) {
			r.Timelines[0].Ranges = []report.Range{{EndLSN: "0/9000000"}}
			r.Server = &report.Server{Standby: true, Timeline: 1, Replay: &report.Replay{Received: "0/19000000"}}
		}, report.OK, ""},
		{"shipped", func(r *report.Report) { r.Shipping = ships(report.Shipping{Running: true}) }, report.OK, ""},
		{"never shipped", func(r *report.Report) { r.Shipping = []report.Shipping{{Repository: "far"}} }, report.Warning, "nothing was ever shipped to repository far"},
		{"a repository that is down", func(r *report.Report) {
			r.Shipping = ships(report.Shipping{Running: true, Error: "connection refused"})
		}, report.Warning, "shipping to repository far fails: connection refused"},
		{"a repository that is down for long", func(r *report.Report) {
			r.Shipping = ships(report.Shipping{Running: true, Error: "connection refused", Objects: 4, Lag: 601})
		}, report.Critical, "repository far lacks what has been in the spool for 10m1s: connection refused"},
		{"a repository that is late", func(r *report.Report) { r.Shipping = ships(report.Shipping{Running: true, Objects: 4, Lag: 301}) }, report.Warning, "lacks what has been in the spool for 5m1s"},
		{"nobody ships", func(r *report.Report) { r.Shipping = ships(report.Shipping{Objects: 4, Lag: 3600}) }, report.Critical, "no process ships"},
		{"a repository of another cluster", func(r *report.Report) {
			r.Shipping = ships(report.Shipping{Running: true, Refused: true, Error: "of another cluster"})
		}, report.Critical, "of another cluster"},
		{"an object with another content", func(r *report.Report) {
			r.Shipping = ships(report.Shipping{Running: true, Stuck: []report.Fault{{Object: "wal/x", Error: "another content"}}})
		}, report.Critical, "wal/x cannot be shipped to repository far: another content"},
		{"a standby that holds much", func(r *report.Report) {
			held := int64(60)
			r.Standbys = []report.Standby{{ID: "s", Held: &held}}
		}, report.Warning, "holds 60 segments that no backup needs"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := well()
			test.spoil(r)
			line, state := r.Check(limits)
			if state != test.want || !strings.Contains(line, test.words) {
				t.Errorf("got %s\nwant %s: ... %s", line, test.want, test.words)
			}
		})
	}
}
