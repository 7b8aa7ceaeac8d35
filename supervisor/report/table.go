package report

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"walkeep/common/notes"
	"walkeep/common/wal"
	"walkeep/supervisor/progress"
)

// A page is text for people. Blank lines separate its sections.
type page struct {
	strings.Builder
}

func (p *page) line(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

func (p *page) section(title string) {
	if p.Len() > 0 {
		p.line("")
	}
	p.line("%s", title)
}

// table aligns the columns of the rows that fill writes, with tabs between them.
func (p *page) table(fill func(row func(columns ...any))) {
	t := tabwriter.NewWriter(p, 0, 0, 2, ' ', 0)
	fill(func(columns ...any) {
		for i, c := range columns {
			if i > 0 {
				fmt.Fprint(t, "\t")
			}
			fmt.Fprint(t, c)
		}
		fmt.Fprintln(t)
	})
	t.Flush()
}

// write writes the page, without the spaces at the ends of lines that aligning leaves.
func (p *page) write(to io.Writer) error {
	var b strings.Builder
	for line := range strings.Lines(p.String()) {
		b.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	_, err := io.WriteString(to, b.String())
	return err
}

const minute, second = "2006-01-02 15:04", "2006-01-02 15:04:05 MST"

// List writes the contents of the archive and what can be recovered, the newest last.
func (r *Report) List(to io.Writer) error {
	var p page
	p.section(fmt.Sprintf("CLUSTER %s, segments of %s, %s stored", r.SystemID, wal.SegmentSize(r.SegmentSize), progress.Bytes(r.StoredBytes)))
	if len(r.Archives) > 0 {
		p.section("ARCHIVES")
		p.table(func(row func(...any)) {
			for _, m := range r.Archives {
				row(m.Name, m.URL, m.text())
			}
		})
	}
	r.listBackups(&p)
	r.listWAL(&p)
	r.listWindows(&p)
	r.listOthers(&p)
	return p.write(to)
}

func (r *Report) listBackups(p *page) {
	p.section("BACKUPS")
	if len(r.Backups) == 0 {
		p.line("NONE: nothing can be recovered")
		return
	}
	p.table(func(row func(...any)) {
		row("id", "type", "tl", "ended (UTC)", "took", "size", "stored", "start", "stop", "server")
		for _, b := range r.Backups {
			version, _, _ := strings.Cut(b.Server, " ")
			row(b.ID, b.Type, b.Timeline, b.Ended.Format(minute), Round(time.Duration(b.Seconds*float64(time.Second))),
				progress.Bytes(b.Bytes), progress.Bytes(b.StoredBytes), b.StartLSN, b.StopLSN, version)
		}
	})
	for _, b := range r.Backups {
		if !b.Restorable {
			p.line("NOT RESTORABLE: %s", b.Reason)
		} else if b.DrillError != "" {
			p.line("FAILED IN ITS DRILL: backup %s: %s", b.ID, b.DrillError)
		}
	}
}

func (r *Report) listWAL(p *page) {
	p.section("WAL")
	if len(r.Timelines) == 0 {
		p.line("NONE")
	}
	for _, t := range r.Timelines {
		from := ""
		switch {
		case t.HistoryError != "":
			from = ": WHERE IT COMES FROM IS NOT KNOWN: " + t.HistoryError
		case t.Parent != 0:
			from = fmt.Sprintf(", which left timeline %d at %s", t.Parent, t.BeginLSN)
		}
		for _, b := range r.Branches {
			if b.Timeline == t.Timeline && b.Copy {
				from += fmt.Sprintf("; a copy's, beside timeline %d", r.Production)
			}
		}
		p.line("timeline %d, %s stored%s", t.Timeline, progress.Bytes(t.StoredBytes), from)
		for i, w := range t.Ranges {
			if i > 0 {
				p.line("  GAP: %s", t.Gaps[i-1].Text())
			}
			p.line("  %s to %s (%s to %s), %s", w.First, w.Last, w.BeginLSN, w.EndLSN, count(int(w.Segments), "segment"))
		}
		for _, n := range t.Partials {
			p.line("  %s", n)
		}
	}
}

func (r *Report) listWindows(p *page) {
	p.section("CAN BE RECOVERED")
	if len(r.Windows) == 0 {
		p.line("NOTHING")
	}
	for _, w := range r.Windows {
		p.line("timeline %d from %s (%s)", w.Timeline, w.FromLSN, w.FromTime.Format(second))
		last := ""
		if w.ToTime != nil {
			last = fmt.Sprintf(" (last transaction %s)", w.ToTime.Format(second))
		}
		p.line("  to %s%s, with %s", w.ToLSN, last, count(len(w.Backups), "backup"))
		switch {
		case w.Gap != nil:
			p.line("  NO FURTHER: %s", w.Gap.Text())
		case !w.Reached:
			p.line("  NOTHING OF TIMELINE %d ITSELF: none of its WAL is in the archive", w.Timeline)
		}
	}
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// listOthers writes the sections that are usually empty.
func (r *Report) listOthers(p *page) {
	if len(r.Unfinished) > 0 {
		p.section("UNFINISHED BACKUPS")
		for _, u := range r.Unfinished {
			state := "no process works on it"
			if u.Running {
				state = "running"
			}
			p.line("%s: %s", u.ID, state)
		}
	}
	if len(r.Streams) > 0 {
		p.section("STREAMED")
		for _, s := range r.Streams {
			p.line("%s: %s", s.Slot, s.text())
		}
	}
	if len(r.Standbys) > 0 {
		p.section("STANDBYS")
		for _, s := range r.Standbys {
			p.line("%s: %s", s.ID, s.text())
		}
	}
	if len(r.Leases) > 0 {
		p.section("AT WORK")
		for _, l := range r.Leases {
			state := ""
			if !l.Live {
				state = ", which is gone"
			}
			p.line("%s of %s by process %d on %s%s, renewed %s", l.Kind, l.Backup, l.PID, l.Host, state, l.Renewed.Format(second))
		}
	}
	if len(r.Removals) > 0 {
		p.section("MARKED FOR REMOVAL")
		for _, m := range r.Removals {
			p.line("%s", removalText(m))
		}
	}
	if len(r.Damaged) > 0 {
		p.section("ARCHIVED WITH BROKEN RECORDS, OR DAMAGED SINCE")
		for _, d := range r.Damaged {
			p.line("%s at %s: %s", d.Segment, d.LSN, d.Reason)
		}
	}
	if len(r.Faults) > 0 {
		p.section("FAULTS")
		for _, f := range r.Faults {
			p.line("%s: %s", f.Object, f.Error)
		}
	}
}

// removalText describes a mark.
func removalText(m notes.Removal) string {
	return fmt.Sprintf("in repository %s, until %s: %s (marked %s by %s on %s)", m.Repository, m.Until.UTC().Format(second), m.Text(), m.Marked.UTC().Format(second), m.User, m.Host)
}

// text describes what a standby needs.
func (s Standby) text() string {
	far := ""
	if s.Behind != nil {
		far = fmt.Sprintf(", for which %s are kept", count(int(*s.Behind), "segment"))
	}
	return fmt.Sprintf("%s on %s needs WAL from %s on%s (%s)", s.DataDirectory, s.Host, s.Restartpoint, far, s.Noted.Format(second))
}

// Status writes a summary, with the findings first.
func (r *Report) Status(to io.Writer, l Limits) error {
	var p page
	found := r.Findings(l)
	for _, f := range found {
		p.line("%s: %s", f.State, f.Text)
	}
	if len(found) == 0 {
		p.line("all is well")
	}
	p.line("")
	p.table(func(row func(...any)) {
		row("cluster", r.SystemID)
		var segments uint64
		for _, t := range r.Timelines {
			for _, w := range t.Ranges {
				segments += w.Segments
			}
		}
		for _, m := range r.Archives {
			row("in "+m.Name, m.URL+": "+m.text())
		}
		row("archive", fmt.Sprintf("%s, %s on %s, %s", count(len(r.Backups), "backup"), count(int(segments), "segment"),
			count(len(r.Timelines), "timeline"), progress.Bytes(r.StoredBytes)))
		if b := r.Newest(); b != nil {
			row("newest backup", fmt.Sprintf("%s, %s old, %s in %s", b.ID, Round(max(0, r.Time.Sub(b.Ended))), progress.Bytes(b.Bytes), progress.Bytes(b.StoredBytes)))
		}
		if on := r.windowsOf(r.Production); len(on) > 0 {
			w := on[len(on)-1]
			row("recoverable", fmt.Sprintf("timeline %d from %s (%s)", w.Timeline, w.FromLSN, w.FromTime.Format(second)))
			last := ""
			if w.ToTime != nil {
				last = " (" + w.ToTime.Format(second) + ")"
			}
			row("", fmt.Sprintf("to %s%s", w.ToLSN, last))
		}
		for _, b := range r.Branches {
			if b.Copy {
				row("beside it", fmt.Sprintf("timeline %d, a copy's, which parts from it at %s and ends at %s", b.Timeline, b.LeftLSN, b.EndLSN))
			}
		}
		r.Server.rows(row, r.ServerError)
		for _, s := range r.Streams {
			row("stream "+s.Slot, s.text())
		}
		for _, s := range r.Shipping {
			row("ship to "+s.Repository, s.text())
		}
		for _, s := range r.Standbys {
			row("standby "+s.ID, s.text())
		}
		for _, m := range r.Removals {
			row("to be removed", removalText(m))
		}
	})
	return p.write(to)
}

func (s *Server) rows(row func(...any), failed string) {
	if s == nil {
		if failed == "" {
			failed = "none was reached; --conninfo says where it is"
		}
		row("server", failed)
		return
	}
	role := "primary"
	if s.Standby {
		role = "standby"
	}
	row("server", fmt.Sprintf("PostgreSQL %s, %s on timeline %d at %s", s.Version, role, s.Timeline, s.LSN))
	if s.Advice != "" {
		row("advice", s.Advice)
	}
	s.Replay.rows(row)
	archiving := fmt.Sprintf("archive_mode %s, %d archived, %d failed", s.ArchiveMode, s.Archived, s.Failed)
	row("archiving", archiving)
	if s.LastArchivedTime != nil {
		row("", fmt.Sprintf("last archived %s at %s", s.LastArchived, s.LastArchivedTime.Format(second)))
	}
	if s.LastFailedTime != nil {
		row("", fmt.Sprintf("last failed %s at %s", s.LastFailed, s.LastFailedTime.Format(second)))
	}
	if s.Lag != nil {
		row("behind", fmt.Sprintf("%s: %s and %s", progress.Bytes(s.Lag.Bytes), count(int(s.Lag.Segments), "segment"), "what is being written"))
	}
	if s.Ready != nil {
		row("waiting", count(int(*s.Ready), "file"))
	}
	for _, one := range s.Slots {
		row("slot "+one.Name, one.text())
	}
}
