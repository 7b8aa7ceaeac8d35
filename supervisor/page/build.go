package page

import (
	"fmt"
	"html/template"
	"slices"
	"strconv"
	"strings"
	"time"

	"walkeep/common/cli"
	"walkeep/supervisor/progress"
	"walkeep/supervisor/report"
)

const minute, second = "2006-01-02 15:04", "2006-01-02 15:04:05"

// clock formats a time, in UTC.
func clock(t time.Time) string { return t.UTC().Format(minute) }

// utc formats a time that stands alone.
func utc(t time.Time) string { return t.UTC().Format(second) + " UTC" }

func number(n int) string { return strconv.Itoa(n) }

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return number(n) + " " + noun + "s"
}

// duration formats seconds.
func duration(seconds float64) string {
	return report.Round(time.Duration(seconds * float64(time.Second)))
}

// ago formats how long a time is before another.
func ago(t, now time.Time) string {
	d := now.Sub(t)
	if d < 0 {
		return "in the future"
	}
	return report.Round(d) + " ago"
}

// A builder makes the view of a report.
type builder struct {
	r       *report.Report
	now     time.Time // of the report
	clocks  *clocks
	removed map[string]time.Time // until when a backup that is marked for removal stays
}

func build(s State, now time.Time) view {
	v := view{Title: "walkeep", Version: s.Version, State: "UNKNOWN", Mark: warn, Looked: "never", Policy: Policy, Style: template.CSS(style)}
	worst := report.OK
	add := func(state report.State, f finding) {
		worst = max(worst, state)
		f.State, f.Class = state.String(), class(state)
		v.Findings = append(v.Findings, f)
	}
	r := s.Report
	switch {
	case s.Error != "":
		f := finding{Text: "The archive cannot be read: " + s.Error + "."}
		if r != nil {
			f.Text += " All below is how it was at " + utc(r.Time) + "."
		}
		f.Help, f.Command = "See whether it can be read by hand", cli.Call("status")
		add(report.Critical, f)
	case s.Looked.IsZero():
		add(report.Unknown, finding{Text: "The archive was not read yet. Reload this page in a minute."})
	case s.Late > 0 && now.Sub(s.Looked) > s.Late:
		add(report.Warning, finding{Text: "This state is " + report.Round(now.Sub(s.Looked)) + " old: a newer one should be here since.", Help: "See what the service does, in its log, and ask by hand", Command: cli.Call("status")})
	}
	if !s.Looked.IsZero() {
		v.Looked, v.LookAge = utc(s.Looked), ago(s.Looked, now)
	}
	if r != nil {
		b := &builder{r: r, now: r.Time, clocks: newClocks(r), removed: make(map[string]time.Time)}
		for _, m := range r.Removals {
			for _, id := range m.Backups {
				if until, ok := b.removed[id]; !ok || m.Until.Before(until) {
					b.removed[id] = m.Until
				}
			}
		}
		for _, f := range s.Findings {
			one := finding{Text: sentence(f.Text), Help: f.Help, Command: f.Command}
			if f.Since != nil {
				one.Since = utc(*f.Since) + " (" + ago(*f.Since, b.now) + ")"
			}
			add(f.State, one)
		}
		v.Cluster = r.SystemID
		removed := make(map[string]bool)
		for id := range b.removed {
			removed[id] = true
		}
		v.Drawings = drawings(r, b.clocks, removed)
		v.Facts, v.Commands = b.facts(), b.commands()
		v.Sections = b.sections()
	}
	v.State, v.Mark = worst.String(), class(worst)
	v.Title = v.State + ": walkeep"
	if v.Cluster != "" {
		v.Title += ", cluster " + v.Cluster
	}
	v.Icon = template.URL("data:image/svg+xml," + map[string]string{
		good: "%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'%3E%3Ccircle cx='4' cy='4' r='4' fill='%231a7f37'/%3E%3C/svg%3E",
		warn: "%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'%3E%3Cpath d='M4 0L8 8H0Z' fill='%23d29922'/%3E%3C/svg%3E",
		bad:  "%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'%3E%3Crect width='8' height='8' fill='%23cf222e'/%3E%3C/svg%3E",
	}[v.Mark])
	return v
}

// sentence makes a sentence of a clause.
func sentence(text string) string {
	if text == "" {
		return text
	}
	first, _, _ := strings.Cut(text, " ")
	if strings.ToLower(first) == first && !strings.ContainsAny(first, "0123456789_/.:") {
		text = strings.ToUpper(text[:1]) + text[1:]
	}
	if !strings.HasSuffix(text, ".") {
		text += "."
	}
	return text
}

// production returns the newest window of the production server's timeline; nil if there is none.
func (b *builder) production() *report.Window {
	for i := len(b.r.Windows) - 1; i >= 0; i-- {
		if b.r.Windows[i].Timeline == b.r.Production {
			return &b.r.Windows[i]
		}
	}
	return nil
}

func (b *builder) facts() (all []fact) {
	r := b.r
	if w := b.production(); w != nil {
		f := fact{Name: "Recoverable up to", Value: "position " + w.ToLSN, More: fmt.Sprintf("on timeline %d", w.Timeline), Class: good}
		if end := windowEnd(*w, b.clocks); end.known {
			f.Value, f.More = end.String(), fmt.Sprintf("position %s on timeline %d", w.ToLSN, w.Timeline)
			switch {
			case idle(*w):
				f.Value, f.More = utc(end.time), "the end of the backup, since which no transaction ended; "+f.More
			case end.exact:
				f.Value, f.More = utc(end.time), "the last transaction, "+ago(end.time, b.now)+"; "+f.More
			}
		}
		switch lag := b.lag(); {
		case w.Gap != nil:
			f.Class, f.More = bad, f.More+". Not further: "+w.Gap.Text()
		case whole(r, *w):
			f.More += ". The server has written no more"
		case lag > 0:
			f.More += ". The server has written " + progress.Bytes(lag) + " more"
		}
		all = append(all, f, fact{Name: "From", Value: utc(w.FromTime), More: ago(w.FromTime, b.now) + ", by the oldest of " + count(len(w.Backups), "backup") + b.earlier(w)})
	} else {
		all = append(all, fact{Name: "Recoverable up to", Value: "nothing", More: "no backup leads to the production server's timeline", Class: bad})
	}
	if n := r.Newest(); n != nil {
		all = append(all, fact{Name: "Newest sound backup", Value: ago(n.Ended, b.now), More: fmt.Sprintf("%s, %s, took %s", n.ID, progress.Bytes(n.Bytes), duration(n.Seconds))})
	} else {
		all = append(all, fact{Name: "Newest sound backup", Value: "none", Class: bad})
	}
	all = append(all, b.lossFact()...)
	if d := b.lastDrill(); d != nil {
		f := fact{Name: "Last drill", Value: ago(*d.Drilled, b.now), More: "of backup " + d.ID + ": all is well", Class: good}
		if d.DrillError != "" {
			f.More, f.Class = "of backup "+d.ID+": FAILED", bad
		}
		all = append(all, f)
	} else if len(r.Backups) > 0 {
		all = append(all, fact{Name: "Last drill", Value: "never", More: "no backup was tested", Class: warn})
	}
	return all
}

// lag returns how many bytes the server has written that the archive lacks; 0 if that is unknown.
func (b *builder) lag() int64 {
	if s := b.r.Server; s != nil && s.Lag != nil && s.Timeline == b.r.Production {
		return s.Lag.Bytes
	}
	return 0
}

// lossFact says what would be left if this host were lost; nothing where there is no repository.
func (b *builder) lossFact() []fact {
	if len(b.r.Shipping) == 0 {
		return nil
	}
	f := fact{Name: "If this host is lost", Value: "unknown", More: "nothing was shipped to a repository", Class: bad}
	var best *report.Shipping
	for i := range b.r.Shipping {
		if s := &b.r.Shipping[i]; s.Recoverable != nil && (best == nil || s.Recoverable.After(*best.Recoverable)) {
			best = s
		}
	}
	if best != nil {
		f.Value, f.More, f.Class = utc(*best.Recoverable), ago(*best.Recoverable, b.now)+", from repository "+best.Repository, good
		if b.now.Sub(*best.Recoverable) > 10*time.Minute {
			f.Class = warn
		}
	}
	return []fact{f}
}

// earlier says that earlier times can be recovered, too.
func (b *builder) earlier(last *report.Window) string {
	n := 0
	for i := range b.r.Windows {
		if w := &b.r.Windows[i]; w.Timeline == last.Timeline && w != last {
			n++
		}
	}
	if n == 0 {
		return ""
	}
	return "; " + count(n, "earlier window") + " below"
}

func (b *builder) lastDrill() (last *report.Backup) {
	for i := range b.r.Backups {
		if one := &b.r.Backups[i]; one.Drilled != nil && (last == nil || one.Drilled.After(*last.Drilled)) {
			last = one
		}
	}
	return last
}

func (b *builder) commands() (all []command) {
	w := b.production()
	if w == nil {
		return []command{{"See what the archive holds", cli.Call("list")}}
	}
	at := b.now
	if end := windowEnd(*w, b.clocks); end.known {
		at = end.time
	}
	at = at.Add(-time.Minute).Truncate(time.Second)
	all = append(all, command{"Restore all that is there into a new directory", cli.Call("restore", "--target-dir", "DIR")})
	if at.After(w.FromTime) {
		all = append(all, command{"Restore up to a time, such as the minute before a mistake", cli.Call("restore", "--target-dir", "DIR", "--target-time", at.UTC().Format("2006-01-02 15:04:05-07:00"))})
	}
	return append(all, []command{
		{"Fail over to the standby of this host", cli.Call("promote", "--pgdata", "DIR")},
		{"Test the newest backup on this host", cli.Call("drill")},
		{"See each backup and range of WAL", cli.Call("list")},
	}...)
}

func (b *builder) sections() []section {
	all := []section{
		{ID: "windows", Title: "Windows, forks, gaps and damage", Tables: []table{b.windows(), b.timelines(), b.gaps(), b.damaged()}},
		{ID: "backups", Title: "Backups", Tables: []table{b.backups(), b.unfinished(), b.removals()}},
		{ID: "drills", Title: "Drills", Tables: []table{b.drills()}},
		{ID: "server", Title: "Server", Lead: b.noServer(), Tables: []table{b.server(), b.slots()}},
		{ID: "streams", Title: "Streams and standbys", Tables: []table{b.streams(), b.standbys()}},
		{ID: "repositories", Title: "Spool and repositories", Tables: []table{b.shipping(), b.places(), b.stuck()}},
		{ID: "leases", Title: "Leases and faults", Tables: []table{b.leases(), b.faults()}},
	}
	none := map[string]string{
		"windows": "Nothing can be recovered.", "backups": "There is no backup.", "drills": "There was no drill. " + cli.Call("drill") + " tests the newest backup.",
		"streams":      "No stream and no standby is known.",
		"repositories": "There is no repository: the spool alone is the archive, " + progress.Bytes(b.r.StoredBytes) + " in all. If its disk is lost, everything is lost.",
		"leases":       "Nothing is running, and no fault is known.",
	}
	for i := range all {
		s := &all[i]
		s.Tables = slices.DeleteFunc(s.Tables, func(t table) bool { return len(t.Rows) == 0 })
		if len(s.Tables) == 0 && s.Lead == "" {
			s.Lead = none[s.ID]
		}
	}
	return all
}

func (b *builder) windows() table {
	var rows [][]cell
	for _, w := range slices.Backward(b.r.Windows) {
		last := cell{Text: windowEnd(w, b.clocks).String(), More: w.ToLSN}
		switch {
		case idle(w):
			last.Text = "none since then"
		case w.ToTime != nil:
			last.Text = w.ToTime.UTC().Format(second)
		}
		ends := cell{Text: "end of the WAL", Class: good}
		switch {
		case w.Gap != nil:
			ends = cell{Text: w.Gap.Text(), Class: bad}
		case !w.Reached:
			ends = cell{Text: "none of this timeline's own WAL is here", Class: warn}
		}
		rows = append(rows, []cell{{Text: "Timeline " + number(int(w.Timeline))}, {Text: clock(w.FromTime), More: w.FromLSN}, last, ends, {Text: number(len(w.Backups))}})
	}
	return newTable("What can be recovered, the newest first (UTC)", "windows", []string{"To", "From", "Last transaction", "Ends at", "Backups"}, rows)
}

func (b *builder) timelines() table {
	var rows [][]cell
	for _, t := range slices.Backward(b.r.Timelines) {
		what := cell{Text: "Timeline " + number(int(t.Timeline))}
		if t.Timeline == b.r.Production {
			what.More = "newest"
			if b.r.ProductionSaid {
				what.More = "production"
			}
		}
		for _, one := range b.r.Branches {
			if one.Timeline == t.Timeline && one.Copy {
				what.More = "a copy's"
			}
		}
		from := cell{Text: "the first"}
		switch {
		case t.HistoryError != "":
			from = cell{Text: "unknown: " + t.HistoryError, Class: bad}
		case t.Parent != 0:
			from = cell{Text: "left timeline " + number(int(t.Parent)), More: t.BeginLSN + ", " + b.clocks.when(t.Timeline, t.BeginLSN).String()}
		}
		var segments uint64
		for _, one := range t.Ranges {
			segments += one.Segments
		}
		wal := cell{Text: count(int(segments), "segment")}
		if n := len(t.Ranges); n > 0 {
			wal.More = t.Ranges[0].First + " to " + t.Ranges[n-1].Last
		}
		gaps := cell{Text: "none", Class: good}
		if len(t.Gaps) > 0 {
			gaps = cell{Text: number(len(t.Gaps)), Class: bad}
		}
		rows = append(rows, []cell{what, from, wal, gaps, {Text: progress.Bytes(t.StoredBytes)}})
	}
	return newTable("Timelines and their WAL", "timelines", []string{"Timeline", "Begins", "WAL", "Gaps", "Stored"}, rows)
}

// gapsListed is how many of a timeline's newest gaps are listed.
const gapsListed = 50

func (b *builder) gaps() table {
	var rows [][]cell
	omitted := 0
	for _, t := range slices.Backward(b.r.Timelines) {
		omitted += max(0, len(t.Gaps)-gapsListed)
		for _, g := range slices.Backward(newest(t.Gaps, gapsListed)) {
			rows = append(rows, []cell{{Text: "Timeline " + number(int(t.Timeline))}, {Text: g.Text(), Class: bad},
				{Text: b.clocks.when(t.Timeline, g.BeginLSN).String(), More: g.BeginLSN}, {Text: b.clocks.when(t.Timeline, g.EndLSN).String(), More: g.EndLSN}})
		}
	}
	all := newTable("Gaps in the WAL, the newest first (UTC; times between two known ones are in proportion)", "gaps", []string{"In", "Missing", "From", "To"}, rows)
	if omitted > 0 {
		all.Omitted = count(omitted, "older gap") + " are in " + cli.Call("list")
	}
	return all
}

func (b *builder) damaged() table {
	var rows [][]cell
	for _, d := range slices.Backward(b.r.Damaged) {
		how := "when it was archived"
		if d.Found {
			how = "by verify --deep"
		}
		rows = append(rows, []cell{{Text: d.Segment}, {Text: d.LSN}, {Text: d.Reason, Class: bad}, {Text: how}})
	}
	return newTable("Damaged segments, the newest first", "segments", []string{"Segment", "Position", "Reason", "Found"}, rows)
}

func (b *builder) backups() table {
	where := make(map[string][]string)
	for _, m := range b.r.Archives {
		for _, id := range m.Backups {
			where[id] = append(where[id], m.Name)
		}
	}
	heads := []string{"Backup", "Ended (UTC)", "Size", "State", "Checked"}
	if len(b.r.Archives) > 0 {
		heads = append(heads, "In")
	}
	var rows [][]cell
	for _, one := range slices.Backward(b.r.Backups) {
		id := cell{Text: one.ID, More: fmt.Sprintf("%s, timeline %d", one.Type, one.Timeline)}
		if one.FromStandby {
			id.More += ", of a standby"
		}
		state := cell{Text: "sound", Class: good}
		until, marked := b.removed[one.ID]
		switch {
		case !one.Restorable:
			state = cell{Text: "cannot be restored", More: one.Reason, Class: bad}
		case one.DrillError != "":
			state = cell{Text: "failed in its drill", More: one.DrillError, Class: bad}
		case marked:
			state = cell{Text: "marked for removal", More: "at " + clock(until) + " at the earliest", Class: mute}
		case one.PageErrors > 0:
			state = cell{Text: "has damaged pages", More: count(one.PageErrors, "message") + " of the server", Class: warn}
		}
		checked := cell{Text: "never", Class: mute}
		switch {
		case one.Drilled != nil && one.DrillError == "":
			checked = cell{Text: "by a drill", More: clock(*one.Drilled), Class: good}
		case one.DeepVerified != nil:
			checked = cell{Text: "every byte", More: clock(*one.DeepVerified)}
		case one.Verified != nil:
			checked = cell{Text: "objects", More: clock(*one.Verified)}
		}
		r := []cell{id, {Text: clock(one.Ended), More: "took " + duration(one.Seconds)}, {Text: progress.Bytes(one.Bytes), More: progress.Bytes(one.StoredBytes) + " stored"}, state, checked}
		if len(b.r.Archives) > 0 {
			r = append(r, cell{Text: strings.Join(where[one.ID], ", ")})
		}
		rows = append(rows, r)
	}
	return newTable("Backups, the newest first", "backups", heads, rows)
}

func (b *builder) unfinished() table {
	var rows [][]cell
	for _, u := range b.r.Unfinished {
		state := cell{Text: "no process works on it", Class: warn}
		if u.Running {
			state = cell{Text: "running", Class: good}
		}
		rows = append(rows, []cell{{Text: u.ID}, state})
	}
	return newTable("Unfinished backups", "backups", []string{"Backup", "State"}, rows)
}

func (b *builder) removals() table {
	var rows [][]cell
	for _, m := range b.r.Removals {
		rows = append(rows, []cell{{Text: m.Repository}, {Text: m.Text()}, {Text: clock(m.Until)}, {Text: m.User + " on " + m.Host, More: clock(m.Marked)}})
	}
	return newTable("Marked for removal by cleanup; "+cli.Call("cleanup", "--undelete")+" takes all marks back (UTC)", "marks", []string{"Repository", "What", "Not before", "Marked by"}, rows)
}

func (b *builder) drills() table {
	all := slices.Clone(b.r.Backups)
	all = slices.DeleteFunc(all, func(one report.Backup) bool { return one.Drilled == nil })
	slices.SortStableFunc(all, func(x, y report.Backup) int { return y.Drilled.Compare(*x.Drilled) })
	var rows [][]cell
	for _, one := range all {
		result := cell{Text: "all is well", Class: good}
		if one.DrillError != "" {
			result = cell{Text: "failed", More: one.DrillError, Class: bad}
		}
		took := "unknown"
		if one.DrillSeconds != nil {
			took = duration(*one.DrillSeconds)
		}
		rows = append(rows, []cell{{Text: clock(*one.Drilled), More: ago(*one.Drilled, b.now)}, {Text: one.ID}, {Text: took}, result})
	}
	return newTable("The last drill of each backup, the newest first (UTC)", "drills", []string{"Ended", "Backup", "Took", "Result"}, rows)
}
