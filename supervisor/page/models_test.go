package page_test

import (
	"fmt"
	"time"

	"walkeep/common/notes"
	"walkeep/supervisor/page"
	"walkeep/supervisor/report"
)

var now = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

const (
	mb = 1 << 20
	gb = 1 << 30
)

var limits = report.Limits{BackupAge: 8 * 24 * time.Hour, Lag: 10 * time.Minute, Ready: 32, StandbyLag: time.Hour, ShipLag: 10 * time.Minute}

// lsn returns the position that many segments of 16 MB behind the beginning.
func lsn(segment int) string {
	at := int64(segment) * 16 * mb
	return fmt.Sprintf("%X/%X", at>>32, at&0xffffffff)
}

func segment(tli, n int) string { return fmt.Sprintf("%08X%08X%08X", tli, n/256, n%256) }

// back returns a time before now.
func back(d time.Duration) *time.Time {
	t := now.Add(-d)
	return &t
}

const day = 24 * time.Hour

// rate is how many segments are written in a day.
const rate = 480

// at returns how many segments were written that long before now.
func at(before time.Duration) int { return 20000 - int(before*rate/day) }

// taken returns a backup that ended that long before now.
func taken(tli int, before time.Duration, size int64) report.Backup {
	ended := now.Add(-before)
	began := ended.Add(-time.Duration(size/(100*mb)) * time.Second)
	return report.Backup{
		ID: began.Format("20060102T150405Z"), Type: "full", Timeline: uint32(tli), StartLSN: lsn(at(before)), StopLSN: lsn(at(before) + 1), Began: began, Ended: ended,
		Seconds: ended.Sub(began).Seconds(), Bytes: size, StoredBytes: size / 4, Files: 1200, FirstSegment: segment(tli, at(before)), LastSegment: segment(tli, at(before)+1),
		Restorable: true, Server: "17.5", ToProduction: true, Verified: back(before - time.Hour),
	}
}

// span returns the segments of a timeline from one time before now to another.
func span(tli int, from, to time.Duration) report.Range {
	a, b := at(from), at(to)
	return report.Range{First: segment(tli, a), Last: segment(tli, b-1), BeginLSN: lsn(a), EndLSN: lsn(b), Segments: uint64(b - a)}
}

// healthy returns a cluster after one promotion, with a repository and a stream, of which nothing is wrong.
func healthy() *report.Report {
	r := &report.Report{
		Time: now, SystemID: "7311223344556677889", SegmentSize: 16 * mb, Production: 2, ProductionSaid: true,
		Timelines: []report.Timeline{
			{Timeline: 1, BeginLSN: "0/0", StoredBytes: 9 * gb, Ranges: []report.Range{span(1, 15*day, 4*day)}},
			{Timeline: 2, Parent: 1, BeginLSN: lsn(at(4 * day)), StoredBytes: 3 * gb, Ranges: []report.Range{span(2, 4*day, 0)}},
		},
	}
	for d := 14; d >= 0; d-- {
		tli := 1
		if d < 4 {
			tli = 2
		}
		b := taken(tli, time.Duration(d)*day+10*time.Hour, int64(40+2*(14-d)%7)*gb)
		if d%7 == 3 {
			took := 431.5
			b.Drilled, b.DrillSeconds = back(time.Duration(d)*day+4*time.Hour), &took
		}
		r.Backups = append(r.Backups, b)
	}
	r.StoredBytes = 160 * gb
	window := func(tli int, from, to time.Duration) report.Window {
		w := report.Window{Timeline: uint32(tli), FromTime: now.Add(-from), FromLSN: lsn(at(from)), ToTime: back(to), ToLSN: lsn(at(to)), Last: segment(tli, at(to)), Reached: true}
		for _, b := range r.Backups {
			if !b.Ended.After(*w.ToTime) {
				w.Backups = append(w.Backups, b.ID)
			}
		}
		return w
	}
	r.Windows = []report.Window{window(1, 14*day+10*time.Hour, 4*day), window(2, 14*day+10*time.Hour, 8*time.Second)}
	r.Streams = []report.Stream{{Slot: "walkeep", Host: "backup1", Timeline: 2, FlushedLSN: lsn(at(0)), SentLSN: lsn(at(0)), Heard: now.Add(-2 * time.Second), Running: true, Synchronous: true}}
	behind, held := int64(3), int64(0)
	r.Standbys = []report.Standby{{ID: "db2-1f00", Host: "db2", DataDirectory: "/srv/postgres/17", Restartpoint: segment(2, at(0)-3), Noted: now.Add(-time.Minute), Behind: &behind, Held: &held}}
	zero := 4.0
	r.Shipping = []report.Shipping{{Repository: "far", Running: true, Noted: back(10 * time.Second), Positions: []report.Position{{Timeline: 2, LSN: lsn(at(0))}},
		Recoverable: back(4 * time.Second), Unrecoverable: &zero, Answered: back(3 * time.Second), Requests: 81234, Sent: 39 * gb}}
	r.Archives = []report.Member{
		{Name: "spool", URL: "/var/lib/walkeep", Backups: []string{}, Last: segment(2, at(0)-1), Lacks: []string{}},
		{Name: "far", URL: "s3://walkeep/main", Last: segment(2, at(0)-1), Lacks: []string{}},
	}
	for _, b := range r.Backups {
		r.Archives[1].Backups = append(r.Archives[1].Backups, b.ID)
	}
	ready := int64(0)
	r.Server = &report.Server{Version: "17.5 (Debian 17.5-1.pgdg12+1)", Timeline: 2, LSN: lsn(at(0)), ArchiveMode: "on", Archived: 54321, Failed: 2, LastArchived: segment(2, at(0)-1),
		LastArchivedTime: back(40 * time.Second), LastFailed: segment(2, at(3*day)), LastFailedTime: back(3 * day), Lag: &report.Lag{Bytes: 3 * mb}, Ready: &ready,
		Slots: []report.Slot{{Name: "walkeep", Physical: true, Active: true, WALStatus: "reserved", Held: 2 * mb}}}
	r.Leases = []report.Lease{{ID: "A", Kind: "drill", Backup: r.Backups[14].ID, Host: "backup1", PID: 4711, Renewed: now.Add(-20 * time.Second), Live: true}}
	return r
}

// gap returns the same with segments that are missing since a day ago, and an archiver that fails.
func gap() *report.Report {
	r := healthy()
	missing := at(30 * time.Hour)
	g := report.Gap{First: segment(2, missing), Last: segment(2, missing+2), BeginLSN: lsn(missing), EndLSN: lsn(missing + 3)}
	r.Timelines[1].Ranges = []report.Range{span(2, 4*day, 30*time.Hour), {First: segment(2, missing+3), Last: segment(2, at(0)-1), BeginLSN: lsn(missing + 3), EndLSN: lsn(at(0)), Segments: uint64(at(0) - missing - 3)}}
	r.Timelines[1].Gaps = []report.Gap{g}
	r.Backups = r.Backups[:len(r.Backups)-1] // the one since then is missing
	r.Leases = nil
	w := &r.Windows[1]
	w.Gap, w.ToLSN, w.ToTime, w.Last = &g, lsn(missing), back(30*time.Hour), segment(2, missing-1)
	r.Server.Failing, r.Server.LastFailed, r.Server.LastFailedTime, r.Server.LastArchivedTime = true, segment(2, at(0)), back(time.Minute), back(47*time.Minute)
	r.Server.Lag = &report.Lag{Bytes: 300 * mb, Segments: 18, Seconds: 2820, First: segment(2, at(0))}
	waits := int64(19)
	r.Server.Ready = &waits
	return r
}

// damaged returns a cluster without a repository, with a damaged segment, a backup that cannot be restored, one whose drill failed,
// and faults.
func damaged() *report.Report {
	r := healthy()
	r.Shipping, r.Archives = nil, nil
	n := at(2*day + 5*time.Hour)
	g := report.Gap{First: segment(2, n), Last: segment(2, n), BeginLSN: lsn(n), EndLSN: lsn(n + 1), Damage: segment(2, n) + ": record at " + lsn(n) + " has a wrong checksum"}
	r.Damaged = []report.Damaged{{Segment: segment(2, n), LSN: lsn(n), Reason: "record at " + lsn(n) + " has a wrong checksum"}}
	later := r.Windows[1]
	r.Windows[1].Gap, r.Windows[1].ToLSN, r.Windows[1].ToTime = &g, lsn(n), back(2*day+5*time.Hour)
	later.FromTime, later.FromLSN, later.Backups = r.Backups[13].Ended, r.Backups[13].StartLSN, []string{r.Backups[13].ID, r.Backups[14].ID}
	r.Windows = append(r.Windows, later)
	r.Backups[5].Restorable, r.Backups[5].Reason = false, "backup "+r.Backups[5].ID+" cannot be restored: backups/"+r.Backups[5].ID+"/data-0003.tar.zst has another hash than when it was stored"
	r.Backups[13].Drilled, r.Backups[13].DrillError = back(20*time.Hour), "at replay: the server stopped: PANIC: WAL contains references to invalid pages"
	r.Unfinished = []report.Unfinished{{ID: "20261127T220000Z"}}
	r.Faults = []report.Fault{{Object: "wal/0000000200000000/" + segment(2, 77) + ".zst", Error: "unexpected EOF"}}
	r.Streams[0].Running, r.Streams[0].Heard, r.Streams[0].Trouble = false, now.Add(-3*time.Hour), "connect to the server: connection refused"
	r.Server.Awaited = true
	r.Server.Slots[0].Active, r.Server.Slots[0].Held = false, 900*mb
	return r
}

// down returns a cluster with two repositories, one of which is down.
func down() *report.Report {
	r := healthy()
	late := (3 * time.Hour).Seconds()
	bad := report.Shipping{Repository: "vault", Running: true, Noted: back(10 * time.Second), Positions: []report.Position{{Timeline: 2, LSN: lsn(at(3 * time.Hour))}},
		Objects: 61, Bytes: 240 * mb, Oldest: "wal/" + segment(2, at(3*time.Hour)) + ".zst", Lag: late, Recoverable: back(3 * time.Hour), Unrecoverable: &late, Answered: back(3 * time.Hour),
		Error: "dial tcp 192.0.2.7:22: connect: connection refused", Failing: back(3 * time.Hour), Requests: 220, Sent: 2 * gb,
		Stuck: []report.Fault{{Object: "wal/00000002.history", Error: "the repository holds another content under this name"}}}
	r.Shipping = append(r.Shipping, bad)
	r.Archives = append(r.Archives, report.Member{Name: "vault", URL: "sftp://walkeep@vault.example/srv/main", Error: "dial tcp 192.0.2.7:22: connect: connection refused", Backups: []string{}, Lacks: []string{}})
	r.Removals = []notes.Removal{{ID: "ABCDEFGHIJKLMNOPQRSTUVWXYZ", Repository: "far", Host: "db1", User: "postgres", Marked: now.Add(-time.Hour), Until: now.Add(23 * time.Hour),
		Backups: []string{r.Backups[0].ID, r.Backups[1].ID}, WAL: []notes.Range{{First: segment(1, at(15*day)), Last: segment(1, at(13*day))}}}}
	return r
}

// quiet returns a paused standby with a fresh backup, since which no transaction has ended.
func quiet() *report.Report {
	b := taken(1, 10*time.Minute, 3*gb)
	b.Verified, b.FromStandby = nil, true
	streaming, late := false, 7200.0
	return &report.Report{
		Time: now, SystemID: "7311223344556677889", SegmentSize: 16 * mb, Production: 1, Backups: []report.Backup{b}, StoredBytes: 900 * mb,
		Timelines: []report.Timeline{{Timeline: 1, BeginLSN: "0/0", Ranges: []report.Range{span(1, time.Hour, 5*time.Minute)}}},
		Windows:   []report.Window{{Timeline: 1, FromTime: b.Ended, FromLSN: b.StopLSN, ToLSN: lsn(at(5 * time.Minute)), ToTime: back(5 * time.Hour), Reached: true, Backups: []string{b.ID}}},
		Server: &report.Server{Version: "17.5", Standby: true, Timeline: 1, LSN: lsn(at(2 * time.Hour)), ArchiveMode: "always",
			Replay: &report.Replay{Received: lsn(at(0)), Replayed: lsn(at(2 * time.Hour)), Paused: true, Streaming: &streaming, Lag: &report.ReplayLag{Bytes: 600 * mb, Segments: 37, Seconds: &late}}},
		Unfinished: []report.Unfinished{{ID: "20261128T115900Z", Running: true}},
	}
}

// many returns a cluster with many backups, and 200,000 segments with many gaps.
func many(backups, gaps int) *report.Report {
	r := healthy()
	r.Backups, r.Leases = nil, nil
	rate := 200000 / (backups + 1)
	for i := range backups {
		b := taken(2, time.Duration(backups-1-i)*day+10*time.Hour, int64(20+i/10)*gb)
		b.StartLSN, b.StopLSN = lsn(i*rate+rate/2), lsn(i*rate+rate/2+1)
		b.Verified, b.DeepVerified = back(day), back(2*day)
		if i%30 == 29 {
			took := 600.0
			b.Drilled, b.DrillSeconds = back(time.Duration(backups-1-i)*day), &took
		}
		r.Backups = append(r.Backups, b)
	}
	one := report.Timeline{Timeline: 2, BeginLSN: "0/0", StoredBytes: 900 * gb}
	from := 0
	for i := 1; i <= gaps+1; i++ {
		to := i * 200000 / (gaps + 1)
		one.Ranges = append(one.Ranges, report.Range{First: segment(2, from), Last: segment(2, to-2), BeginLSN: lsn(from), EndLSN: lsn(to - 1), Segments: uint64(to - 1 - from)})
		if i <= gaps {
			one.Gaps = append(one.Gaps, report.Gap{First: segment(2, to-1), Last: segment(2, to-1), BeginLSN: lsn(to - 1), EndLSN: lsn(to)})
		}
		from = to
	}
	r.Timelines = []report.Timeline{one}
	w := &r.Windows[1]
	w.FromTime, w.FromLSN, w.ToLSN = r.Backups[0].Ended, r.Backups[0].StartLSN, lsn(199999)
	w.Backups = make([]string, backups)
	r.Windows = r.Windows[1:]
	r.Server.LSN = lsn(200000)
	return r
}

// state returns what the service shows of a report.
func state(r *report.Report) page.State {
	return page.State{Report: r, Findings: r.Findings(limits), Looked: now, Version: "1.2.3"}
}

// models are the states of which there are golden files and screenshots.
func models() map[string]page.State {
	lost := state(healthy())
	lost.Looked, lost.Error = now.Add(20*time.Minute), "stat /var/lib/walkeep: input/output error"
	return map[string]page.State{
		"healthy": state(healthy()), "gap": state(gap()), "damaged": state(damaged()), "down": state(down()), "many": state(many(60, 3)), "quiet": state(quiet()), "lost": lost,
		"empty": {Version: "1.2.3"},
	}
}
