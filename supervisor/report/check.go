package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"walkeep/common/cli"
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
	State State
	Text  string
	Since *time.Time // nil if the report does not say it
	// Help is what a person can do, in sentences without the last point, and Command what to type for it. Either may be empty.
	Help, Command string
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

// add adds a finding, which it returns. The result is valid until the next call.
func (f *findings) add(s State, format string, args ...any) *Finding {
	f.found = append(f.found, Finding{State: s, Text: fmt.Sprintf(format, args...)})
	return &f.found[len(f.found)-1]
}

// since says when a finding began, unless that is unknown.
func (f *Finding) since(t *time.Time) *Finding {
	if t != nil && !t.IsZero() {
		f.Since = t
	}
	return f
}

// help says what to do, and which call of this program does it.
func (f *Finding) help(text string, words ...string) *Finding {
	f.Help = text
	if len(words) > 0 {
		f.Command = cli.Call(words...)
	}
	return f
}

// helpLine is help with the command of another program.
func (f *Finding) helpLine(text, line string) *Finding {
	f.Help, f.Command = text, line
	return f
}

const (
	newBackup = "Take a new backup, from which recovery is possible again"
	restart   = "Start the service, or call this in the foreground"
)

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
		f.add(Critical, "there is no backup").help("Take the first one", "backup")
	case newest == nil:
		f.add(Critical, "no backup can be restored").help("Take a new backup now", "backup")
	default:
		if age, ok := f.r.age(); ok && age > l.BackupAge {
			f.add(Warning, "the newest backup is %s old, more than %s", Round(age), Round(l.BackupAge)).
				help("Take a new backup, and look why none was taken on schedule: the service's log names the error", "backup")
		}
	}
	for _, b := range f.r.Backups {
		if !b.Restorable {
			f.add(Warning, "%s", b.Reason).help("Find what is missing or damaged; a new backup does not need it", "verify")
		} else if b.DrillError != "" {
			f.add(Warning, "the last drill of backup %s failed: %s", b.ID, b.DrillError).since(b.Drilled).help("Repeat the drill after the error is corrected", "drill", b.ID)
		}
		if f.r.future(&b) {
			f.add(Warning, "backup %s ended at %s, which is in the future: the clock of its server or of this host was or is wrong", b.ID, b.Ended.Format(time.RFC3339)).
				help("Compare the clocks of both hosts; times of recovery are those of the server's clock")
		}
	}
	for _, u := range f.r.Unfinished {
		if !u.Running {
			f.add(Warning, "backup %s is unfinished, and no process works on it", u.ID).help("Remove what it has left", "cleanup")
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
		f.add(Critical, "there is nothing of timeline %d, %s, in the archive", tli, which).help("Let the server of that timeline archive here", "setup", "--dry-run")
		return
	}
	newest := f.r.Timelines[at]
	on := f.r.windowsOf(tli)
	if newest.HistoryError != "" {
		f.add(Critical, "the history of timeline %d cannot be read: %s", tli, newest.HistoryError).
			help("Copy the history file from the server's pg_wal, and look again", "verify")
		return
	}
	if len(on) == 0 {
		f.add(Critical, "timeline %d, %s, cannot be recovered from any backup", tli, which).help(newBackup, "backup")
		return
	}
	for _, b := range f.r.Branches {
		if !f.r.ProductionSaid && b.further {
			f.add(Warning, "timeline %d reaches %s, further than timeline %d, the newest, and no server has reported which one is production's", b.Timeline, b.EndLSN, tli).
				help("Ask the production server: name it with --conninfo", "status", "--conninfo", "host=HOST")
		}
	}
	for i, w := range on {
		last := i == len(on)-1
		switch {
		case w.unread && last:
			f.add(Critical, "%s, with which timeline %d ends, cannot be read: its newest data cannot be recovered", w.Last, w.Timeline).
				help("See which objects cannot be read", "verify", "--deep")
		case w.Gap != nil && last:
			f.add(Critical, "timeline %d can be recovered only up to %s: %s", w.Timeline, w.ToLSN, w.Gap.Text()).
				since(w.ToTime).help(newBackup+". If the server's pg_wal still has what is missing, archive that instead", "backup")
		case w.Gap != nil:
			f.add(Warning, "between %s and the next backup nothing of timeline %d can be recovered: %s", w.ToLSN, w.Timeline, w.Gap.Text()).
				since(w.ToTime).help("Later times can be recovered. Copy the missing segments from another archive, if there is one")
		case !w.Reached:
			f.add(Warning, "timeline %d has begun at %s, and none of its WAL is in the archive", w.Timeline, newest.BeginLSN).
				help("Let the server of that timeline archive here", "setup", "--dry-run")
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

// Text describes a gap in one clause.
func (g *Gap) Text() string {
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
		f.add(Critical, "the given server does not archive here: %s", f.r.ServerError).help("Correct conninfo or spool in the configuration: they belong to different clusters")
	case f.r.ServerError != "":
		f.add(Warning, "the server was not asked: %s", f.r.ServerError).help("See whether the server runs and takes connections", "status")
	}
	if s == nil {
		return
	}
	if s.succeeded != "" {
		f.add(Critical, "%s: two servers may be in use", s.succeeded).help("Stop the old primary at once, and make it a standby", "rejoin", "--pgdata", "DIR")
	}
	f.replay(l)
	f.received(l)
	f.slots(l)
	if s.ArchiverProblem != "" && (!f.r.streams() || strings.HasPrefix(s.ArchiverProblem, "archive_command is empty")) {
		f.add(Critical, "%s", s.ArchiverProblem).help("See what the server must be set to", "setup", "--dry-run")
	}
	if s.ArchiveMode == "off" && !s.Standby && !f.r.streams() {
		f.add(Critical, "archive_mode is off").help("See what the server must be set to", "setup", "--dry-run")
		return
	}
	if s.Failing {
		f.add(Critical, "archiving fails: %s at %s", s.LastFailed, s.LastFailedTime.Format(time.RFC3339)).since(s.LastArchivedTime).
			helpLine(archiverLog, whichLog)
	}
	if s.Lag != nil && s.Lag.Seconds > l.Lag.Seconds() {
		f.add(Critical, "the archive is %d segments behind, for %s", s.Lag.Segments, Round(fromSeconds(s.Lag.Seconds))).
			since(f.ago(s.Lag.Seconds)).helpLine(archiverLog, whichLog)
	}
	if s.Lag != nil && s.Lag.Seconds <= l.Lag.Seconds() && s.Lag.Segments*f.r.SegmentSize > f.lagSize(l) {
		f.add(Warning, "the archive is %d segments behind: it lacks all WAL from %s on, %s in all", s.Lag.Segments, s.Lag.First, progress.Bytes(s.Lag.Bytes)).helpLine(archiverLog, whichLog)
	}
	if s.Ready != nil && *s.Ready > l.Ready {
		f.add(Warning, "%d files wait to be archived, more than %d", *s.Ready, l.Ready).helpLine(archiverLog, whichLog)
	}
}

func (f *findings) rest() {
	for _, s := range f.r.Standbys {
		if s.Held != nil && *s.Held > heldByStandby {
			f.add(Warning, "standby %s (%s on %s) holds %d segments that no backup needs, and last reported at %s", s.ID, s.DataDirectory, s.Host, *s.Held, s.Noted.Format(time.RFC3339)).
				since(&s.Noted).help("If this standby is gone for good, forget it", "cleanup", "--forget-standby", s.ID)
		}
	}
	for _, d := range f.r.Damaged {
		ends := func(w Window) bool { return w.Gap != nil && w.Gap.First == d.Segment }
		if d.Found && !slices.ContainsFunc(f.r.windowsOf(f.r.Production), ends) { // otherwise windows has reported it
			f.add(Warning, "verify --deep has found %s damaged: %s", d.Segment, d.Reason).help("Take a new backup, which does not need the segment", "backup")
		}
	}
	for _, fault := range f.r.Faults {
		f.add(Warning, "%s: %s", fault.Object, fault.Error).help("See which objects are missing or damaged", "verify")
	}
	for _, problem := range f.r.Config {
		f.add(Warning, "configuration: %s", problem).help("Correct the configuration file")
	}
}

// archiverLog and whichLog say where the cause of a failure to archive is.
const (
	archiverLog = "The server's log has the message of archive_command. This prints which file that is, unless the system keeps the log. After the cause is gone the server archives by itself"
	whichLog    = `psql -Atc "SELECT pg_current_logfile()"`
)

// ago returns the time that many seconds before the report.
func (f *findings) ago(seconds float64) *time.Time {
	t := f.r.Time.Add(-fromSeconds(seconds))
	return &t
}

// heldByStandby is how many segments that no backup needs a standby may hold.
const heldByStandby = 32

// Round formats a duration with the precision that people need.
func Round(d time.Duration) string {
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
	text = strings.ReplaceAll(cli.OneLine(text), "|", "/")
	if figures != "" {
		figures = " | " + figures
	}
	return s.String() + ": " + text + figures
}

// wellText returns the text for a report without findings, which therefore has a backup.
func (r *Report) wellText() string {
	text := count(len(r.Backups), "backup")
	if age, ok := r.age(); ok {
		text += ", the newest " + Round(age) + " old"
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
