package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A State is how bad it is, in the numbers of monitoring plugins.
type State int

// The states, ascending.
const (
	OK State = iota
	Warning
	Critical
	Unknown
)

func (s State) String() string { return [...]string{"OK", "WARNING", "CRITICAL", "UNKNOWN"}[s] }

// Limits are what is still well.
type Limits struct {
	BackupAge time.Duration // of the newest backup that can be restored
	Lag       time.Duration // since the last segment was archived while complete ones wait
	Ready     int64         // files that wait to be archived
	// StandbyLag is how long ago the last transaction ended that a standby has replayed, while there is more to replay.
	StandbyLag time.Duration
}

// A Finding is something that is not well.
type Finding struct {
	State State  `json:"state"`
	Text  string `json:"text"`
}

// Findings judge the report, the worst first. None means that all is well.
func (r *Report) Findings(l Limits) []Finding {
	f := findings{r: r}
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

// newest is the backup that ended last of those that can be restored.
func (r *Report) newest() *Backup {
	var found *Backup
	for i := range r.Backups {
		if b := &r.Backups[i]; b.Restorable && (found == nil || b.Ended.After(found.Ended)) {
			found = b
		}
	}
	return found
}

// age is how long ago a backup ended. The two clocks may differ.
func (r *Report) age(b *Backup) time.Duration { return max(0, r.Time.Sub(b.Ended)) }

func (f *findings) backups(l Limits) {
	newest := f.r.newest()
	switch {
	case len(f.r.Backups) == 0:
		f.add(Critical, "there is no backup")
	case newest == nil:
		f.add(Critical, "no backup can be restored")
	default:
		if age := f.r.age(newest); age > l.BackupAge {
			f.add(Warning, "the newest backup is %s old, more than %s", round(age), round(l.BackupAge))
		}
	}
	for _, b := range f.r.Backups {
		if !b.Restorable {
			f.add(Warning, "%s", b.Reason)
		}
	}
	for _, u := range f.r.Unfinished {
		if !u.Running {
			f.add(Warning, "backup %s is unfinished, and nobody is at work on it", u.ID)
		}
	}
}

// windows judges the newest timeline: whether the newest data can be recovered. What lies before the oldest backup is in
// no window, and of no account.
func (f *findings) windows() {
	if len(f.r.Timelines) == 0 || f.r.newest() == nil {
		return
	}
	newest := f.r.Timelines[len(f.r.Timelines)-1]
	var on []Window
	for _, w := range f.r.Windows {
		if w.Timeline == newest.Timeline {
			on = append(on, w)
		}
	}
	if newest.HistoryError != "" {
		f.add(Critical, "where timeline %d comes from is not known: %s", newest.Timeline, newest.HistoryError)
		return
	}
	if len(on) == 0 {
		f.add(Critical, "timeline %d, the newest, cannot be recovered from any backup", newest.Timeline)
		return
	}
	for i, w := range on {
		last := i == len(on)-1
		switch {
		case w.Gap != nil && last:
			f.add(Critical, "timeline %d can be recovered only up to %s: %s", w.Timeline, w.ToLSN, w.Gap.text())
		case w.Gap != nil:
			f.add(Warning, "between %s and the next backup nothing of timeline %d can be recovered: %s", w.ToLSN, w.Timeline, w.Gap.text())
		case !w.Reached:
			f.add(Warning, "timeline %d has begun at %s, and none of its WAL is in the archive", w.Timeline, newest.BeginLSN)
		}
	}
}

func (g *Gap) text() string {
	switch {
	case g.Damage != "":
		return g.Damage
	case g.First == g.Last:
		return g.First + " is missing"
	}
	return g.First + " to " + g.Last + " are missing"
}

func (f *findings) server(l Limits) {
	s := f.r.Server
	if f.r.ServerError != "" {
		f.add(Warning, "the server was not asked: %s", f.r.ServerError)
	}
	if s == nil {
		return
	}
	f.replay(l)
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
	if s.Ready != nil && *s.Ready > l.Ready {
		f.add(Warning, "%d files wait to be archived, more than %d", *s.Ready, l.Ready)
	}
}

func (f *findings) rest() {
	for _, fault := range f.r.Faults {
		f.add(Warning, "%s: %s", fault.Object, fault.Error)
	}
	for _, problem := range f.r.Config {
		f.add(Warning, "configuration: %s", problem)
	}
}

// round leaves what people want to know of a time.
func round(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d/time.Minute%60)
	}
	return d.Round(time.Second).String()
}

// Check is the answer of a monitoring plugin: one line with performance data, and the state that is its exit code.
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

// Line is what a monitoring plugin prints. A bar would begin the performance data.
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

// wellText is for a report without findings, so with a backup.
func (r *Report) wellText() string {
	newest := r.newest()
	text := fmt.Sprintf("%s, the newest %s old", count(len(r.Backups), "backup"), round(r.age(newest)))
	if n := len(r.Windows); n > 0 {
		w := r.Windows[n-1]
		text += fmt.Sprintf("; timeline %d can be recovered up to %s", w.Timeline, w.ToLSN)
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
	if b := r.newest(); b != nil {
		list = append(list, fmt.Sprintf("backup_age=%.0fs;%.0f", r.age(b).Seconds(), l.BackupAge.Seconds()))
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
	return strings.Join(list, " ")
}
