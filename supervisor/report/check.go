package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"walkeep/supervisor/progress"
)

// A State is the result of a check, in the numbers of monitoring plugins.
type State int

// The states, ascending.
const (
	OK State = iota
	Warning
	Critical
	Unknown
)

func (s State) String() string { return [...]string{"OK", "WARNING", "CRITICAL", "UNKNOWN"}[s] }

// Limits are the highest values that are not reported.
type Limits struct {
	BackupAge time.Duration // of the newest backup that can be restored
	Lag       time.Duration // since the last segment was archived while complete ones wait
	Ready     int64         // files that wait to be archived
	// LagSize is how many bytes the archive may lack, or the server keep for an unused slot; 0: those of 16 segments.
	LagSize int64
	// StandbyLag is how long ago the end of the last replayed transaction of a standby may be, while there is more to
	// replay.
	StandbyLag time.Duration
	// ShipLag is how long an object of the spool may wait to be shipped to a repository. Half of it is worth a warning.
	ShipLag time.Duration
}

// A Finding is something that needs attention.
type Finding struct {
	State State  `json:"state"`
	Text  string `json:"text"`
}

// Findings judges the report, and returns the findings, the worst first.
func (r *Report) Findings(l Limits) []Finding {
	f := findings{r: r}
	f.places()
	f.shipping(l)
	f.backups(l)
	f.windows()
	f.server(l)
	f.streams()
	f.rest()
	slices.SortStableFunc(f.found, func(a, b Finding) int { return cmp.Compare(b.State, a.State) })
	return f.found
}

type findings struct {
	r     *Report
	found []Finding
}

func (f *findings) add(s State, format string, args ...any) {
	f.found = append(f.found, Finding{s, fmt.Sprintf(format, args...)})
}

// lagSize returns the limit in bytes.
func (f *findings) lagSize(l Limits) int64 {
	if l.LagSize > 0 {
		return l.LagSize
	}
	return 16 * f.r.SegmentSize
}

// Newest returns the last backup, by position, of those that can be restored: on the path to the production server's
// timeline if there is one there. It returns nil if no backup can be restored.
func (r *Report) Newest() *Backup { return r.last(func(*Backup) bool { return true }) }

func (r *Report) last(is func(*Backup) bool) *Backup {
	var found *Backup
	for i := range r.Backups {
		if b := &r.Backups[i]; b.Restorable && is(b) && (found == nil || b.ToProduction || !found.ToProduction) {
			found = b
		}
	}
	return found
}

// clockSlack is how much two clocks may differ.
const clockSlack = 5 * time.Minute

// future reports whether a backup's end is in the future.
func (r *Report) future(b *Backup) bool { return b.Ended.Sub(r.Time) > clockSlack }

// age returns the time since the end of the last backup that is not in the future; false if there is none.
func (r *Report) age() (time.Duration, bool) {
	b := r.last(func(b *Backup) bool { return !r.future(b) })
	if b == nil {
		return 0, false
	}
	return max(0, r.Time.Sub(b.Ended)), true
}

func (f *findings) backups(l Limits) {
	newest := f.r.Newest()
	switch {
	case len(f.r.Backups) == 0:
		f.add(Critical, "there is no backup")
	case newest == nil:
		f.add(Critical, "no backup can be restored")
	default:
		if age, ok := f.r.age(); ok && age > l.BackupAge {
			f.add(Warning, "the newest backup is %s old, more than %s", round(age), round(l.BackupAge))
		}
	}
	for _, b := range f.r.Backups {
		if !b.Restorable {
			f.add(Warning, "%s", b.Reason)
		} else if b.DrillError != "" {
			f.add(Warning, "the last drill of backup %s failed: %s", b.ID, b.DrillError)
		}
		if f.r.future(&b) {
			f.add(Warning, "backup %s ended at %s, which is in the future: the clock of its server or of this host was or is wrong", b.ID, b.Ended.Format(time.RFC3339))
		}
	}
	for _, u := range f.r.Unfinished {
		if !u.Running {
			f.add(Warning, "backup %s is unfinished, and no process works on it", u.ID)
		}
	}
}

// windows judges the production server's timeline: whether the newest data can be recovered. WAL before the oldest
// backup is in no window, and is not judged.
func (f *findings) windows() {
	if len(f.r.Timelines) == 0 || f.r.Newest() == nil {
		return
	}
	tli, which := f.r.Production, "the newest"
	if f.r.ProductionSaid {
		which = "that of the production server"
	}
	at := slices.IndexFunc(f.r.Timelines, func(t Timeline) bool { return t.Timeline == tli })
	if at < 0 {
		f.add(Critical, "there is nothing of timeline %d, %s, in the archive", tli, which)
		return
	}
	newest := f.r.Timelines[at]
	on := f.r.windowsOf(tli)
	if newest.HistoryError != "" {
		f.add(Critical, "the history of timeline %d cannot be read: %s", tli, newest.HistoryError)
		return
	}
	if len(on) == 0 {
		f.add(Critical, "timeline %d, %s, cannot be recovered from any backup", tli, which)
		return
	}
	for _, b := range f.r.Branches {
		if !f.r.ProductionSaid && b.further {
			f.add(Warning, "timeline %d reaches %s, further than timeline %d, the newest, and no server has reported which one is production's", b.Timeline, b.EndLSN, tli)
		}
	}
	for i, w := range on {
		last := i == len(on)-1
		switch {
		case w.unread && last:
			f.add(Critical, "%s, with which timeline %d ends, cannot be read: its newest data cannot be recovered", w.Last, w.Timeline)
		case w.Gap != nil && last:
			f.add(Critical, "timeline %d can be recovered only up to %s: %s", w.Timeline, w.ToLSN, w.Gap.text())
		case w.Gap != nil:
			f.add(Warning, "between %s and the next backup nothing of timeline %d can be recovered: %s", w.ToLSN, w.Timeline, w.Gap.text())
		case !w.Reached:
			f.add(Warning, "timeline %d has begun at %s, and none of its WAL is in the archive", w.Timeline, newest.BeginLSN)
		}
	}
}

// windowsOf returns the windows of a timeline.
func (r *Report) windowsOf(tli uint32) []Window {
	var on []Window
	for _, w := range r.Windows {
		if w.Timeline == tli {
			on = append(on, w)
		}
	}
	return on
}

func (g *Gap) text() string {
	if g.Damage != "" {
		return g.Damage
	}
	what := g.First + " is missing"
	if g.First != g.Last {
		what = g.First + " to " + g.Last + " are missing"
	}
	if g.Unproven {
		what += ", unless an archive has it that cannot be reached"
	}
	return what
}

func (f *findings) server(l Limits) {
	s := f.r.Server
	switch {
	case f.r.foreign:
		f.add(Critical, "the given server does not archive here: %s", f.r.ServerError)
	case f.r.ServerError != "":
		f.add(Warning, "the server was not asked: %s", f.r.ServerError)
	}
	if s == nil {
		return
	}
	if s.succeeded != "" {
		f.add(Critical, "%s: two servers may be in use", s.succeeded)
	}
	f.replay(l)
	f.received(l)
	f.slots(l)
	if s.ArchiverProblem != "" && (!f.r.streams() || strings.HasPrefix(s.ArchiverProblem, "archive_command is empty")) {
		f.add(Critical, "%s", s.ArchiverProblem)
	}
	if s.ArchiveMode == "off" && !s.Standby && !f.r.streams() {
		f.add(Critical, "archive_mode is off")
		return
	}
	if s.Failing {
		f.add(Critical, "archiving fails: %s at %s", s.LastFailed, s.LastFailedTime.Format(time.RFC3339))
	}
	if s.Lag != nil && s.Lag.Seconds > l.Lag.Seconds() {
		f.add(Critical, "the archive is %d segments behind, for %s", s.Lag.Segments, round(time.Duration(s.Lag.Seconds*float64(time.Second))))
	}
	if s.Lag != nil && s.Lag.Seconds <= l.Lag.Seconds() && s.Lag.Segments*f.r.SegmentSize > f.lagSize(l) {
		f.add(Warning, "the archive is %d segments behind: it lacks all WAL from %s on, %s in all", s.Lag.Segments, s.Lag.First, progress.Bytes(s.Lag.Bytes))
	}
	if s.Ready != nil && *s.Ready > l.Ready {
		f.add(Warning, "%d files wait to be archived, more than %d", *s.Ready, l.Ready)
	}
}

func (f *findings) rest() {
	for _, s := range f.r.Standbys {
		if s.Held != nil && *s.Held > heldByStandby {
			f.add(Warning, "standby %s (%s on %s) holds %d segments that no backup needs, and last reported at %s", s.ID, s.DataDirectory, s.Host, *s.Held, s.Noted.Format(time.RFC3339))
		}
	}
	for _, d := range f.r.Damaged {
		ends := func(w Window) bool { return w.Gap != nil && w.Gap.First == d.Segment }
		if d.Found && !slices.ContainsFunc(f.r.windowsOf(f.r.Production), ends) { // otherwise windows has reported it
			f.add(Warning, "verify --deep has found %s damaged: %s", d.Segment, d.Reason)
		}
	}
	for _, fault := range f.r.Faults {
		f.add(Warning, "%s: %s", fault.Object, fault.Error)
	}
	for _, problem := range f.r.Config {
		f.add(Warning, "configuration: %s", problem)
	}
}

// heldByStandby is how many segments that no backup needs a standby may hold.
const heldByStandby = 32

// round formats a duration with the precision that people need.
func round(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d/time.Minute%60)
	}
	return d.Round(time.Second).String()
}

// Check returns the answer of a monitoring plugin: one line with performance data, and the state that is its exit
// code.
func (r *Report) Check(l Limits) (string, State) {
	found := r.Findings(l)
	if len(found) == 0 {
		return Line(OK, r.wellText(), r.figures(l)), OK
	}
	var texts []string
	for _, f := range found {
		texts = append(texts, f.Text)
	}
	return Line(found[0].State, strings.Join(texts, "; "), r.figures(l)), found[0].State
}

// Line formats the line of a monitoring plugin. It replaces bars in text, because a bar begins the performance data.
func Line(s State, text, figures string) string {
	text = strings.Map(func(c rune) rune {
		switch {
		case c == '|':
			return '/'
		case c < ' ':
			return ' '
		}
		return c
	}, text)
	if figures != "" {
		figures = " | " + figures
	}
	return s.String() + ": " + text + figures
}

// wellText returns the text for a report without findings, which therefore has a backup.
func (r *Report) wellText() string {
	text := count(len(r.Backups), "backup")
	if age, ok := r.age(); ok {
		text += ", the newest " + round(age) + " old"
	}
	if on := r.windowsOf(r.Production); len(on) > 0 {
		text += fmt.Sprintf("; timeline %d can be recovered up to %s", r.Production, on[len(on)-1].ToLSN)
	}
	for _, b := range r.Branches {
		if b.Copy {
			text += fmt.Sprintf("; timeline %d is a copy's", b.Timeline)
		}
	}
	if where := r.where(); where != "" {
		text += "; archives: " + where
	}
	return text
}

func (r *Report) figures(l Limits) string {
	usable := 0
	for _, b := range r.Backups {
		if b.Restorable {
			usable++
		}
	}
	list := []string{fmt.Sprintf("backups=%d", len(r.Backups)), fmt.Sprintf("restorable=%d", usable)}
	if age, ok := r.age(); ok {
		list = append(list, fmt.Sprintf("backup_age=%.0fs;%.0f", age.Seconds(), l.BackupAge.Seconds()))
	}
	list = append(list, fmt.Sprintf("stored=%dB", r.StoredBytes), fmt.Sprintf("faults=%d", len(r.Faults)))
	if s := r.Server; s != nil {
		if s.Lag != nil {
			list = append(list, fmt.Sprintf("lag=%.0fs;;%.0f", s.Lag.Seconds, l.Lag.Seconds()), fmt.Sprintf("lag_bytes=%dB", s.Lag.Bytes))
		}
		if s.Ready != nil {
			list = append(list, fmt.Sprintf("ready=%d;%d", *s.Ready, l.Ready))
		}
		list = append(list, s.Replay.figures(l)...)
		list = append(list, fmt.Sprintf("failed=%dc", s.Failed))
	}
	for _, s := range r.Streams {
		if s.Running {
			list = append(list, fmt.Sprintf("stream_%s_behind=%dB", s.Slot, s.Behind))
		}
	}
	for _, s := range r.Shipping {
		list = append(list, s.figures(l)...)
	}
	return strings.Join(list, " ")
}
