package report

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"walkeep/common/archive"
	"walkeep/common/notes"
	"walkeep/common/wal"
	"walkeep/supervisor/progress"
)

// Shipping is how far a repository holds what the spool holds, by the last note of the process that ships.
type Shipping struct {
	Repository string     `json:"repository"`
	Running    bool       `json:"running"`   // a process ships, and has noted something lately
	Noted      *time.Time `json:"noted"`     // null if nothing was ever shipped
	Positions  []Position `json:"positions"` // up to which the repository holds the WAL without a gap
	Objects    int        `json:"waiting"`   // objects that wait to be shipped
	Bytes      int64      `json:"waiting_bytes"`
	Oldest     string     `json:"oldest_waiting"`
	Lag        float64    `json:"lag_seconds"` // how long the oldest of them has waited
	// Recoverable is a time up to which all that the spool had is in the repository, Unrecoverable how long ago that is.
	Recoverable   *time.Time `json:"recoverable_at"`
	Unrecoverable *float64   `json:"seconds_since_recoverable"`
	Answered      *time.Time `json:"answered"` // when the repository answered last
	Error         string     `json:"error"`    // what keeps the repository from taking more; empty if nothing does
	Failing       *time.Time `json:"failing_since"`
	Refused       bool       `json:"refused"` // it is another cluster's
	Stuck         []Fault    `json:"stuck"`   // objects that cannot be shipped
	Requests      int        `json:"requests"`
	Sent          int64      `json:"sent_bytes"`

	ended bool
}

// A Position is an LSN on a timeline.
type Position struct {
	Timeline uint32 `json:"timeline"`
	LSN      string `json:"lsn"`
}

// shipperSilence is the time after which a process that ships counts as gone. It writes its notes every half minute.
const shipperSilence = 2 * time.Minute

// WithShipping returns a copy of the report in which what was shipped is as the spool's notes say now. It reads nothing but the spool.
func (r *Report) WithShipping(ctx context.Context, places []Place) (*Report, error) {
	now := *r
	now.Time, now.Shipping = time.Now().UTC().Truncate(time.Millisecond), nil
	now.Faults = slices.Clone(r.Faults)
	err := now.takeShipping(ctx, places)
	return &now, err
}

// takeShipping describes what was shipped from the spool to the other places.
func (r *Report) takeShipping(ctx context.Context, places []Place) error {
	i := slices.IndexFunc(places, func(p Place) bool { return p.Spool && p.Err == nil })
	if i < 0 {
		return nil
	}
	if _, err := places[i].Archive.Identity(ctx); errors.Is(err, archive.ErrUnbound) {
		return nil // nothing was archived on this host, as on that of a standby
	}
	all, _, err := places[i].Archive.Notes().Shippings(ctx) // the inventory has the faults
	if err != nil {
		return err
	}
	for _, p := range places {
		if p.Spool {
			continue
		}
		s := notes.Shipping{Repository: p.Name}
		if i := slices.IndexFunc(all, func(n notes.Shipping) bool { return n.Repository == p.Name && n.URL == p.URL }); i >= 0 {
			s = all[i]
		}
		r.Shipping = append(r.Shipping, r.shipping(s))
	}
	return nil
}

func (r *Report) shipping(n notes.Shipping) Shipping {
	when := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		return &t
	}
	s := Shipping{
		Repository: n.Repository, Running: !n.Ended && r.Time.Sub(n.Updated) < shipperSilence, Noted: when(n.Updated), Positions: []Position{},
		Objects: n.Objects, Bytes: n.Bytes, Oldest: n.Oldest, Recoverable: when(n.Recoverable), Answered: when(n.Answered),
		Error: n.Error, Failing: when(n.Failing), Refused: n.Refused, Stuck: []Fault{}, Requests: n.Requests, Sent: n.Sent, ended: n.Ended,
	}
	for _, m := range n.Marks {
		s.Positions = append(s.Positions, Position{uint32(m.Timeline), m.LSN.String()})
	}
	for _, p := range n.Stuck {
		s.Stuck = append(s.Stuck, Fault{p.Object, p.Text})
	}
	switch {
	case n.Updated.IsZero():
		return s
	case n.Objects > 0 && !n.Since.IsZero():
		s.Lag = max(0, r.Time.Sub(n.Since).Seconds())
	case !s.Running && r.beyond(n):
		s.Lag = max(0, r.Time.Sub(n.Updated).Seconds())
	}
	if !n.Recoverable.IsZero() {
		ago := max(0, r.Time.Sub(n.Recoverable).Seconds())
		s.Unrecoverable = &ago
	}
	return s
}

// beyond reports whether the archive has WAL of the production server's timeline behind the mark.
func (r *Report) beyond(n notes.Shipping) bool {
	for _, t := range r.Timelines {
		if k := len(t.Ranges); t.Timeline == r.Production && k > 0 {
			end, err := wal.ParseLSN(t.Ranges[k-1].EndLSN)
			return err == nil && end > n.Mark(wal.Timeline(t.Timeline))
		}
	}
	return false
}

// shipping judges what was shipped.
func (f *findings) shipping(l Limits) {
	for _, s := range f.r.Shipping {
		lag := time.Duration(s.Lag * float64(time.Second))
		why, help, words := "", "See what keeps it", []string{"ship", "--repo", s.Repository}
		if s.Error != "" {
			why, help = ": "+s.Error, "Correct the cause; shipping goes on by itself. See whether the repository answers"
			words = []string{"list", "--repo", s.Repository}
		} else if !s.Running {
			why, help, words = ": no process ships", restart, []string{"run"}
		}
		switch {
		case s.Refused:
			f.add(Critical, "nothing is shipped to repository %s: %s", s.Repository, s.Error).since(s.Failing).help("Correct url of this repository in the configuration")
		case s.Noted == nil:
			f.add(Warning, "nothing was ever shipped to repository %s: no process ships", s.Repository).help(restart, "run")
		case lag > l.ShipLag:
			f.add(Critical, "repository %s lacks what has been in the spool for %s%s", s.Repository, Round(lag), why).since(f.ago(s.Lag)).help(help, words...)
		case lag > l.ShipLag/2:
			f.add(Warning, "repository %s lacks what has been in the spool for %s%s", s.Repository, Round(lag), why).since(f.ago(s.Lag)).help(help, words...)
		case s.Running && s.Error != "":
			f.add(Warning, "shipping to repository %s fails: %s", s.Repository, s.Error).since(s.Failing).help(help, words...)
		}
		for i, one := range s.Stuck {
			if i == 3 {
				f.add(Critical, "%d more objects cannot be shipped to repository %s", len(s.Stuck)-i, s.Repository)
				break
			}
			f.add(Critical, "%s cannot be shipped to repository %s: %s", one.Object, s.Repository, one.Error).help("Compare both copies", "verify", "--repo", s.Repository)
		}
	}
}

// text describes the shipping in one line.
func (s Shipping) text() string {
	if s.Noted == nil {
		return "never"
	}
	text := "everything is there"
	if s.Objects > 0 {
		text = fmt.Sprintf("%s (%s) wait, the oldest for %s", count(s.Objects, "object"), progress.Bytes(s.Bytes), Round(time.Duration(s.Lag*float64(time.Second))))
	}
	if n := len(s.Positions); n > 0 {
		text += fmt.Sprintf("; shipped up to %s on timeline %d", s.Positions[n-1].LSN, s.Positions[n-1].Timeline)
	}
	if s.Recoverable != nil && s.Unrecoverable != nil && *s.Unrecoverable >= shipperSilence.Seconds() {
		text += "; recoverable up to what was there at " + s.Recoverable.Format(second)
	}
	if !s.Running {
		text += "; no process ships since " + s.Noted.Format(second)
	}
	if s.Error != "" {
		text += "; FAILS"
		if s.Failing != nil {
			text += " since " + s.Failing.Format(second)
		}
		text += ": " + s.Error
	}
	return text
}

// figures returns the performance data.
func (s Shipping) figures(l Limits) []string {
	list := []string{
		fmt.Sprintf("ship_%s_lag=%.0fs;%.0f;%.0f", s.Repository, s.Lag, (l.ShipLag / 2).Seconds(), l.ShipLag.Seconds()),
		fmt.Sprintf("ship_%s_waiting=%dB", s.Repository, s.Bytes),
	}
	if s.Unrecoverable != nil {
		list = append(list, fmt.Sprintf("ship_%s_unrecoverable=%.0fs", s.Repository, *s.Unrecoverable))
	}
	return list
}
