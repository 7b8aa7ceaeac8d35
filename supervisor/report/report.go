// Package report collects what an archive contains, what can be recovered from it, and the state of its server. A
// [Report] is collected once; the tables for people, the JSON for programs and the judgement for monitoring use
// nothing else.
package report

import (
	"context"
	"errors"
	"path"
	"time"

	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/notes"
	"walkeep/common/recovery"
	"walkeep/common/wal"
)

// A Report is the state of an archive and its server. docs/json.md describes its JSON, whose names stay. Positions
// are PostgreSQL's LSNs as text, sizes are bytes, times are RFC 3339 in UTC. A Report may be read concurrently.
type Report struct {
	Time        time.Time    `json:"time"`
	SystemID    string       `json:"system_identifier"`
	SegmentSize int64        `json:"segment_size"`
	StoredBytes int64        `json:"stored_bytes"` // of WAL and finished backups
	Backups     []Backup     `json:"backups"`      // oldest first
	Unfinished  []Unfinished `json:"unfinished_backups"`
	Timelines   []Timeline   `json:"timelines"`
	Windows     []Window     `json:"windows"`
	Streams     []Stream     `json:"streams"`
	Shipping    []Shipping   `json:"shipping,omitempty"` // one for each repository; none where the spool alone is the archive
	// Production is the timeline of the production server, if ProductionSaid reports that this server has given it;
	// else the newest timeline.
	Production     uint32    `json:"production_timeline"`
	ProductionSaid bool      `json:"production_said"`
	Branches       []Branch  `json:"branches"`
	Standbys       []Standby `json:"standbys"`
	Leases         []Lease   `json:"leases"`
	// Removals are what cleanup has marked for removal in repositories.
	Removals    []notes.Removal `json:"removals"`
	Damaged     []Damaged       `json:"damaged_segments"`
	Faults      []Fault         `json:"faults"`
	Archives    []Member        `json:"archives,omitempty"`               // that are described together; none where the spool alone is the archive
	Config      []string        `json:"configuration_problems,omitempty"` // of all commands
	Server      *Server         `json:"server"`                           // null if it was not asked, or did not answer
	ServerError string          `json:"server_error"`                     // why it did not answer

	foreign bool // because it is another cluster's
}

// A Backup is a finished base backup.
type Backup struct {
	ID           string    `json:"id"`
	Type         string    `json:"type"`
	Timeline     uint32    `json:"timeline"`
	StartLSN     string    `json:"start_lsn"`
	StopLSN      string    `json:"stop_lsn"`
	Began        time.Time `json:"began"`
	Ended        time.Time `json:"ended"`
	Seconds      float64   `json:"seconds"`
	Bytes        int64     `json:"bytes"`
	StoredBytes  int64     `json:"stored_bytes"`
	Files        int       `json:"files"`
	FirstSegment string    `json:"first_segment"` // of the WAL that it needs
	LastSegment  string    `json:"last_segment"`
	Restorable   bool      `json:"restorable"`
	Reason       string    `json:"reason"`      // why it is not restorable
	PageErrors   int       `json:"page_errors"` // messages of the server about damaged pages in it
	Server       string    `json:"server_version"`
	FromStandby  bool      `json:"from_standby"`
	ToProduction bool      `json:"leads_to_production"` // it can be restored along the path to the production server's timeline
	// Verified is the time of the last verification, DeepVerified of the last one with --deep, Drilled of the last
	// drill; null for never.
	Verified     *time.Time `json:"verified"`
	DeepVerified *time.Time `json:"deep_verified"`
	Drilled      *time.Time `json:"drilled"`
	DrillSeconds *float64   `json:"drill_seconds"` // how long the last drill took; null if that was not noted
	DrillError   string     `json:"drill_error"`   // why the last drill failed; empty if it did not
}

// A Branch is a timeline beside the path to the production server's.
type Branch struct {
	Timeline uint32 `json:"timeline"`
	LeftLSN  string `json:"left_lsn"` // where it parts from that path
	EndLSN   string `json:"end_lsn"`
	Copy     bool   `json:"copy"` // it does not lead to the production server's: it is that of a copy or of another server

	further bool // it ends behind the production server's
}

// Unfinished is a directory of a backup without a manifest.
type Unfinished struct {
	ID      string `json:"id"`
	Running bool   `json:"running"` // a live lease names it
}

// A Timeline lists the WAL of a timeline.
type Timeline struct {
	Timeline     uint32   `json:"timeline"`
	Parent       uint32   `json:"parent"`    // 0 for the first, or if unknown
	BeginLSN     string   `json:"begin_lsn"` // where it left the parent
	HistoryError string   `json:"history_error"`
	StoredBytes  int64    `json:"stored_bytes"`
	Ranges       []Range  `json:"ranges"` // without a hole, ascending
	Gaps         []Gap    `json:"gaps"`   // between them
	Partials     []string `json:"partials"`
}

// A Range is a number of complete segments without a hole.
type Range struct {
	First    string `json:"first"`
	Last     string `json:"last"`
	BeginLSN string `json:"begin_lsn"`
	EndLSN   string `json:"end_lsn"`
	Segments uint64 `json:"segments"`
}

// A Gap is a hole in the WAL, or a segment with broken records.
type Gap struct {
	First    string `json:"first"`
	Last     string `json:"last"`
	BeginLSN string `json:"begin_lsn"`
	EndLSN   string `json:"end_lsn"`
	Damage   string `json:"damage"` // what is broken; empty for a hole
	// Unproven: an archive that cannot be reached may have it.
	Unproven bool `json:"unproven,omitempty"`
}

// A Window is what can be recovered along the path to a timeline.
type Window struct {
	Timeline uint32     `json:"timeline"`
	FromLSN  string     `json:"from_lsn"`
	FromTime time.Time  `json:"from_time"`
	ToLSN    string     `json:"to_lsn"`  // end of the last record
	ToTime   *time.Time `json:"to_time"` // of the last transaction's end; null if the last segments have none
	Last     string     `json:"last_segment"`
	Reached  bool       `json:"timeline_reached"` // it ends behind the point where the timeline begins
	Backups  []string   `json:"backups"`
	Gap      *Gap       `json:"gap"` // what ends it, although there is later WAL

	unread bool // its last segments could not be read, so that its end is unknown
}

// A Standby is a server that reads WAL from the archive.
type Standby struct {
	ID            string    `json:"id"`
	Host          string    `json:"host"`
	DataDirectory string    `json:"data_directory"`
	Restartpoint  string    `json:"restartpoint"`
	Noted         time.Time `json:"noted"`
	// Behind is how many segments the restartpoint is behind the end of the WAL; null if unknown.
	Behind *int64 `json:"segments_behind"`
	// Held is how many segments are kept only for it, and for no backup; null if unknown.
	Held *int64 `json:"segments_held"`
}

// A Lease belongs to a backup, restore or drill.
type Lease struct {
	ID      string    `json:"id"`
	Kind    string    `json:"kind"`
	Backup  string    `json:"backup"`
	Host    string    `json:"host"`
	PID     int       `json:"pid"`
	Renewed time.Time `json:"renewed"`
	Live    bool      `json:"live"` // its holder may still be at work
}

// Damaged is a segment that was archived with broken records, or that verify has found damaged.
type Damaged struct {
	Segment string `json:"segment"`
	LSN     string `json:"lsn"`
	Reason  string `json:"reason"`
	Found   bool   `json:"found_by_verify"` // it seemed whole when it was archived
}

// A Fault is an object that cannot be read, or is not of the expected form.
type Fault struct {
	Object string `json:"object"`
	Error  string `json:"error"`
}

// Options describe what to query.
type Options struct {
	Ask      bool     // query the server
	Kept     bool     // use what this host has kept of listings of repositories: see [recovery.ReadInventoryKept]
	Conninfo string   // how to connect to it
	PGData   string   // its data directory, if that is on this host
	Config   []string // faults of the configuration, to be reported
	Places   []Place  // of which the archive consists; none where the spool alone is the archive
	Probe    bool     // ask each store whether it lets two writers store under one name
	// Notes is where it is noted what the server says; nil: the archive itself. From a spool it is shipped to the repositories.
	Notes *archive.Archive
}

// Collect reads an archive, queries its server, and returns a report on both. Objects that cannot be read are part of the report.
// An error means that there is no report.
func Collect(ctx context.Context, a *archive.Archive, o Options) (*Report, error) {
	read := recovery.ReadInventory
	if o.Kept {
		read = recovery.ReadInventoryKept
	}
	inv, err := read(ctx, a)
	if err != nil {
		return nil, err
	}
	if o.Notes == nil {
		o.Notes = a
	}
	r := &Report{
		Time: time.Now().UTC().Truncate(time.Millisecond), SystemID: inv.SystemID.String(), SegmentSize: int64(inv.SegmentSize),
		Backups: []Backup{}, Unfinished: []Unfinished{}, Timelines: []Timeline{}, Windows: []Window{}, Streams: []Stream{}, Standbys: []Standby{},
		Branches: []Branch{}, Leases: []Lease{}, Removals: []notes.Removal{}, Damaged: []Damaged{}, Faults: []Fault{}, Config: o.Config,
	}
	r.takeNotes(inv)
	r.takeStreams(inv)
	for _, b := range inv.Backups {
		r.takeBackup(inv, b)
	}
	for i := range inv.Lines {
		r.takeTimeline(inv, &inv.Lines[i])
	}
	if err := r.takeWindows(ctx, a, inv); err != nil {
		return nil, err
	}
	if o.Ask {
		if r.Server, err = ask(ctx, a, inv, r.Windows, o); err != nil {
			r.ServerError, r.foreign = wal.ShortLSNs(err.Error()), errors.Is(err, errForeign)
		}
	}
	r.findProduction(inv)
	r.takePlaces(ctx, inv, o)
	if err := r.takeShipping(ctx, o.Places); err != nil {
		return nil, err
	}
	r.settleStreams()
	return r, ctx.Err()
}

// findProduction determines the production server's timeline, after that server was queried, and the branches beside
// it.
func (r *Report) findProduction(inv *recovery.Inventory) {
	p := inv.Production()
	r.Production, r.ProductionSaid = uint32(p.Timeline), p.Said
	for i, b := range inv.Backups {
		_, err := inv.Reach(b, p.Timeline)
		r.Backups[i].ToProduction = err == nil
	}
	var end wal.LSN
	if l := inv.Line(p.Timeline); l != nil {
		end = l.History.Begin()
		if n := len(l.Segments); n > 0 {
			end = wal.LSN((l.Segments[n-1].Last + 1) * uint64(inv.SegmentSize))
		}
	}
	for _, b := range inv.Branches(p.Timeline) {
		r.Branches = append(r.Branches, Branch{uint32(b.Timeline), b.Left.String(), b.End.String(), b.Copy, b.End > end})
	}
}

func (r *Report) takeNotes(inv *recovery.Inventory) {
	running := make(map[string]bool)
	for _, l := range inv.Leases {
		live := l.Live()
		running[l.Backup] = running[l.Backup] || live && l.Kind == "backup"
		r.Leases = append(r.Leases, Lease{l.ID, l.Kind, l.Backup, l.Host, l.PID, l.Renewed.UTC(), live})
	}
	for _, dir := range inv.Unfinished {
		id := path.Base(dir)
		r.Unfinished = append(r.Unfinished, Unfinished{id, running[id]})
	}
	for _, s := range inv.Standbys {
		r.Standbys = append(r.Standbys, Standby{s.ID, s.Host, s.Data, s.Restartpoint, s.Noted.UTC(), behind(inv, s.Restartpoint), held(inv, s.Restartpoint)})
	}
	r.Removals = append(r.Removals, inv.Removals...)
	for _, d := range inv.Damages {
		if d.Left {
			continue
		}
		r.Damaged = append(r.Damaged, Damaged{d.Segment.String(), d.LSN.String(), d.Reason, d.Found})
	}
	for _, f := range inv.Faults {
		r.Faults = append(r.Faults, Fault{f.Object, f.Err.Error()})
	}
}

func (r *Report) takeBackup(inv *recovery.Inventory, m *backup.Manifest) {
	b := Backup{
		ID: m.ID, Type: m.Type, Timeline: uint32(m.Timeline), StartLSN: m.Start.String(), StopLSN: m.Stop.String(),
		Began: m.Began.UTC(), Ended: m.Ended.UTC(), Seconds: m.Ended.Sub(m.Began).Seconds(),
		Bytes: m.Bytes, StoredBytes: m.StoredBytes(), Files: m.Files,
		FirstSegment: m.FirstSegment().String(), LastSegment: m.LastSegment().String(), Server: m.Server, FromStandby: m.Standby,
	}
	b.PageErrors = len(m.PageErrors)
	_, err := inv.Restorable(m)
	if b.Restorable = err == nil; err != nil {
		b.Reason = err.Error()
	}
	when := func(v *notes.Verified) *time.Time {
		if v == nil {
			return nil
		}
		return &v.At
	}
	found := inv.Records[m.ID]
	b.DeepVerified = when(found.Deep)
	if b.Verified = when(found.Verify); b.Verified == nil {
		b.Verified = b.DeepVerified
	}
	if d := found.Drill; d != nil {
		b.Drilled, b.DrillError = &d.At, d.Error
		if d.Seconds > 0 {
			b.DrillSeconds = &d.Seconds
		}
	}
	r.StoredBytes += b.StoredBytes
	r.Backups = append(r.Backups, b)
}

func (r *Report) takeTimeline(inv *recovery.Inventory, l *recovery.Line) {
	t := Timeline{
		Timeline: uint32(l.Timeline), BeginLSN: l.History.Begin().String(), StoredBytes: l.Bytes,
		Ranges: []Range{}, Gaps: []Gap{}, Partials: []string{},
	}
	if n := len(l.History.Entries); n > 0 {
		t.Parent = uint32(l.History.Entries[n-1].Timeline)
	}
	if l.HistoryErr != nil {
		t.HistoryError = l.HistoryErr.Error()
	}
	size := uint64(inv.SegmentSize)
	// From the beginning of segment first to that of segment end.
	span := func(first, end uint64) (a, b, begin, past string) {
		from, to := wal.LSN(first*size), wal.LSN(end*size)
		return wal.SegmentAt(l.Timeline, from, inv.SegmentSize).String(), wal.SegmentAt(l.Timeline, to-1, inv.SegmentSize).String(), from.String(), to.String()
	}
	for i, s := range l.Segments {
		if i > 0 {
			first, last, begin, end := span(l.Segments[i-1].Last+1, s.First)
			t.Gaps = append(t.Gaps, Gap{First: first, Last: last, BeginLSN: begin, EndLSN: end})
		}
		first, last, begin, end := span(s.First, s.Last+1)
		t.Ranges = append(t.Ranges, Range{first, last, begin, end, s.Last - s.First + 1})
	}
	for _, n := range l.Partials {
		t.Partials = append(t.Partials, n.String())
	}
	r.StoredBytes += l.Bytes
	r.Timelines = append(r.Timelines, t)
}

// timed is the number of windows, the newest ones, for which the time of the last transaction is read from the WAL.
const timed = 4

func (r *Report) takeWindows(ctx context.Context, a *archive.Archive, inv *recovery.Inventory) error {
	all := inv.Windows()
	for i, w := range all {
		v := Window{
			Timeline: uint32(w.Timeline), FromLSN: w.From.String(), FromTime: w.FromTime.UTC(), ToLSN: w.To.String(),
			Last: w.Last.String(), Reached: !w.Short(), Backups: []string{},
		}
		for _, b := range w.Backups {
			v.Backups = append(v.Backups, b.ID)
		}
		if g := w.Gap; g != nil {
			v.Gap = &Gap{First: g.First.String(), Last: g.Last.String(), BeginLSN: g.Begin.String(), EndLSN: g.End.String()}
			if g.Damage != nil {
				v.Gap.Damage = g.String() + ": " + g.Damage.Reason
			}
		}
		end, err := inv.EndOfRecords(ctx, w)
		if err == nil {
			v.ToLSN = end.String()
		}
		if err == nil && len(all)-i <= timed {
			var at time.Time
			if at, err = inv.LastCommit(ctx, w); err == nil && !at.IsZero() {
				v.ToTime = &at
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			r.Faults = append(r.Faults, Fault{v.Last, err.Error()})
			v.unread = true
		}
		r.Windows = append(r.Windows, v)
	}
	return nil
}
