package page

import (
	"slices"
	"strconv"
	"time"

	"walkeep/common/wal"
	"walkeep/supervisor/report"
)

// An anchor is a position of a timeline whose time is known.
type anchor struct {
	at   wal.LSN
	time time.Time
}

// clocks have the times of positions: those of backups, of the last transactions of windows and of what the server reports, and
// in proportion between these.
type clocks struct {
	lines map[uint32]report.Timeline
	along map[uint32][]anchor // of a timeline and of those that it comes from, ascending
}

func newClocks(r *report.Report) *clocks {
	c := &clocks{make(map[uint32]report.Timeline), make(map[uint32][]anchor)}
	own := make(map[uint32][]anchor)
	add := func(tli uint32, lsn string, at time.Time) {
		if l, err := wal.ParseLSN(lsn); err == nil && !at.IsZero() {
			own[tli] = append(own[tli], anchor{l, at})
		}
	}
	for _, b := range r.Backups {
		add(b.Timeline, b.StartLSN, b.Began)
		add(b.Timeline, b.StopLSN, b.Ended)
	}
	for _, w := range r.Windows {
		if w.ToTime != nil && w.Reached {
			add(w.Timeline, w.ToLSN, *w.ToTime)
		}
	}
	if s := r.Server; s != nil && !s.Standby {
		add(s.Timeline, s.LSN, r.Time)
	}
	for _, t := range r.Timelines {
		c.lines[t.Timeline] = t
	}
	for _, t := range r.Timelines {
		c.along[t.Timeline] = c.path(own, t.Timeline)
	}
	return c
}

// path returns the anchors along the way to a timeline.
func (c *clocks) path(own map[uint32][]anchor, tli uint32) []anchor {
	var all []anchor
	end := ^wal.LSN(0)
	for range len(c.lines) + 1 { // histories may be damaged, so that they form a circle
		t, ok := c.lines[tli]
		begin, err := wal.ParseLSN(t.BeginLSN)
		if !ok || err != nil {
			begin = 0
		}
		for _, a := range own[tli] {
			if a.at >= begin && a.at <= end {
				all = append(all, a)
			}
		}
		if !ok || t.Parent == 0 {
			break
		}
		tli, end = t.Parent, begin
	}
	slices.SortFunc(all, func(a, b anchor) int {
		if a.at != b.at {
			if a.at < b.at {
				return -1
			}
			return 1
		}
		return a.time.Compare(b.time)
	})
	var ascending []anchor // a clock may have been wrong
	for _, a := range all {
		if n := len(ascending); n == 0 || !a.time.Before(ascending[n-1].time) {
			ascending = append(ascending, a)
		}
	}
	return ascending
}

// A moment is the time of a position.
type moment struct {
	time  time.Time
	exact bool
	after bool // it is later, by an unknown time
	known bool
}

// when returns the time of a position along the way to a timeline.
func (c *clocks) when(tli uint32, lsn string) moment {
	at, err := wal.ParseLSN(lsn)
	all := c.along[tli]
	if err != nil || len(all) == 0 {
		return moment{}
	}
	i, found := slices.BinarySearchFunc(all, at, func(a anchor, at wal.LSN) int {
		switch {
		case a.at < at:
			return -1
		case a.at > at:
			return 1
		}
		return 0
	})
	switch {
	case found:
		return moment{time: all[i].time, exact: true, known: true}
	case i == 0:
		return moment{time: all[0].time} // earlier, and nobody knows when
	case i == len(all):
		return moment{time: all[i-1].time, after: true, known: true}
	}
	a, b := all[i-1], all[i]
	part := float64(at-a.at) / float64(b.at-a.at)
	return moment{time: a.time.Add(time.Duration(part * float64(b.time.Sub(a.time)))), known: true}
}

func (m moment) String() string {
	switch {
	case !m.known:
		return "at an unknown time"
	case m.exact:
		return clock(m.time)
	case m.after:
		return "after " + clock(m.time)
	}
	return "about " + clock(m.time)
}

// A scale places times on an axis.
type scale struct{ from, to time.Time }

// margin is the part of the axis, in percent, that is free on each side.
const margin = 1.5

// at returns the place of a time, in percent.
func (s scale) at(t time.Time) float64 {
	part := float64(t.Sub(s.from)) / float64(s.to.Sub(s.from))
	return margin + min(1, max(0, part))*(100-2*margin)
}

func (s scale) has(t time.Time) bool { return !t.Before(s.from) && !t.After(s.to) }

// percent formats a place or width.
func percent(p float64) string { return strconv.FormatFloat(p, 'f', 2, 64) + "%" }

// A tick is a date on the axis.
type tick struct {
	X, Anchor, Label string
	Minor            bool // narrow screens do not show its label
}

// steps between ticks; months and years are made of days of the calendar.
var steps = []struct {
	every  time.Duration
	months int
	form   string
}{
	{5 * time.Minute, 0, "15:04"}, {15 * time.Minute, 0, "15:04"}, {30 * time.Minute, 0, "15:04"}, {time.Hour, 0, "15:04"}, {3 * time.Hour, 0, "2 Jan 15:04"},
	{6 * time.Hour, 0, "2 Jan 15:04"}, {12 * time.Hour, 0, "2 Jan 15:04"}, {24 * time.Hour, 0, "2 Jan"}, {2 * 24 * time.Hour, 0, "2 Jan"},
	{7 * 24 * time.Hour, 0, "2 Jan"}, {14 * 24 * time.Hour, 0, "2 Jan"}, {0, 1, "Jan 2006"}, {0, 3, "Jan 2006"}, {0, 6, "Jan 2006"}, {0, 12, "2006"},
	{0, 60, "2006"}, {0, 240, "2006"},
}

// ticks returns the dates of the axis, at most nine, and its end, which is now.
func (s scale) ticks() (all []tick) {
	const most = 9
	for _, step := range steps {
		length := step.every
		if step.months > 0 {
			length = time.Duration(step.months) * 30 * 24 * time.Hour
		}
		if s.to.Sub(s.from) > most*length {
			continue
		}
		at := s.from.UTC().Truncate(step.every)
		if step.months > 0 {
			month := (int(s.from.Month()) - 1) / min(12, step.months) * min(12, step.months)
			at = time.Date(s.from.Year(), time.Month(1+month), 1, 0, 0, 0, 0, time.UTC)
		}
		for ; !at.After(s.to); at = at.AddDate(0, step.months, 0).Add(step.every) {
			if !s.has(at) {
				continue
			}
			x := s.at(at)
			if x > 90 { // beside the label of the end
				break
			}
			anchor := "middle"
			if x < 6 {
				anchor = "start"
			}
			all = append(all, tick{percent(x), anchor, at.Format(step.form), len(all)%3 != 0 || x > 75})
		}
		break
	}
	return append(all, tick{percent(100 - margin), "end", "now", false})
}
