package page

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"walkeep/common/wal"
	"walkeep/supervisor/progress"
	"walkeep/supervisor/report"
)

// A drawing shows timelines over time. Its places are in percent of its width, so that texts keep their size on every screen, and
// in pixels of its height.
type drawing struct {
	ID, Title, Desc string
	Height, Axis    int
	Ticks           []tick
	Labels          []label
	Shapes          []shape
}

// A label is the name of a lane.
type label struct {
	Y           int
	Text, Class string
}

// A shape is a rectangle, a line or a mark.
type shape struct {
	Kind         string // rect, line, cross, damage or dot
	X, X2, W     string
	Y, Y2, H     int
	Class, Title string
}

const (
	lanesDrawn = 12
	laneHeight = 84
	// Within a lane:
	backupsTop, backupsHigh = 24, 26
	bandTop, bandHigh       = 54, 12
	walTop, walHigh         = 69, 4
)

// zoomFrom is the span from which on the newest part, of zoomed length, is drawn by itself too.
const zoomFrom, zoomed = 21 * 24 * time.Hour, 7 * 24 * time.Hour

// A painter draws one drawing.
type painter struct {
	r       *report.Report
	clocks  *clocks
	scale   scale
	removed map[string]bool // ids of backups that are marked for removal
	drawing
}

// drawings draws the report, for a long time the newest part first; nil if it has nothing of which a time is known.
func drawings(r *report.Report, c *clocks, removed map[string]bool) (all []drawing) {
	from := r.Time
	for _, b := range r.Backups {
		if !b.Began.IsZero() && b.Began.Before(from) {
			from = b.Began
		}
	}
	for _, w := range r.Windows {
		if !w.FromTime.IsZero() && w.FromTime.Before(from) {
			from = w.FromTime
		}
	}
	to := r.Time
	for _, b := range r.Backups {
		if b.Ended.After(to) && b.Ended.Sub(to) < 24*time.Hour { // a clock may have been wrong
			to = b.Ended
		}
	}
	if len(r.Backups)+len(r.Windows) == 0 {
		return nil
	}
	if to.Sub(from) < time.Hour {
		from = to.Add(-time.Hour)
	}
	draw := func(id, what string, s scale) {
		p := painter{r: r, clocks: c, scale: s, removed: removed, drawing: drawing{ID: id, Title: what}}
		p.paint()
		all = append(all, p.drawing)
	}
	if to.Sub(from) > zoomFrom {
		draw("week", "The last seven days", scale{to.Add(-zoomed), to})
	}
	draw("all", "All that is kept", scale{from, to})
	return all
}

func (p *painter) paint() {
	lines := slices.Clone(p.r.Timelines)
	slices.SortFunc(lines, func(a, b report.Timeline) int { return cmp.Compare(a.Timeline, b.Timeline) })
	if n := len(lines) - lanesDrawn; n > 0 {
		production := slices.IndexFunc(lines[:n], func(t report.Timeline) bool { return t.Timeline == p.r.Production })
		if production >= 0 {
			lines = append([]report.Timeline{lines[production]}, lines[n+1:]...)
		} else {
			lines = lines[n:]
		}
	}
	lanes := make(map[uint32]int) // their tops
	for i, t := range lines {
		lanes[t.Timeline] = i * laneHeight
	}
	p.Height = len(lines) * laneHeight
	for _, t := range lines {
		p.fork(t, lanes)
	}
	for _, t := range lines {
		p.lane(t, lanes[t.Timeline])
	}
	p.drills()
	p.Axis = p.Height + 4
	p.Height = p.Axis + 22
	p.Ticks = p.scale.ticks()
	p.Desc = fmt.Sprintf("%s drawn from %s to %s. The tables below have the same.", count(len(lines), "timeline"), clock(p.scale.from), clock(p.scale.to))
}

// begin returns when a timeline left its parent; false for the first one.
func (p *painter) begin(t report.Timeline) (moment, bool) {
	if t.Parent == 0 {
		return moment{}, false
	}
	return p.clocks.when(t.Timeline, t.BeginLSN), true
}

// fork draws the line from a timeline's parent.
func (p *painter) fork(t report.Timeline, lanes map[uint32]int) {
	at, ok := p.begin(t)
	from, drawn := lanes[t.Parent]
	if !ok || !drawn || !at.known || !p.scale.has(at.time) {
		return
	}
	x := percent(p.scale.at(at.time))
	to := lanes[t.Timeline]
	p.Shapes = append(p.Shapes, shape{Kind: "line", X: x, X2: x, Y: from + bandTop, Y2: to + bandTop + bandHigh, Class: "fork",
		Title: fmt.Sprintf("Timeline %d left timeline %d at %s, %s", t.Timeline, t.Parent, t.BeginLSN, at)})
}

// bar adds a rectangle from one time to another, unless it is outside of the drawing. It is at least as wide as least, in percent.
func (p *painter) bar(from, to time.Time, y, h int, least float64, class, title string) {
	if to.Before(p.scale.from) || from.After(p.scale.to) || to.Before(from) {
		return
	}
	x, end := p.scale.at(from), p.scale.at(to)
	if w := end - x; w < least {
		x = math.Max(0, x-(least-w)/2)
		end = x + least
	}
	p.Shapes = append(p.Shapes, shape{Kind: "rect", X: percent(x), W: percent(end - x), Y: y, H: h, Class: class, Title: title})
}

func (p *painter) lane(t report.Timeline, top int) {
	text, class := fmt.Sprintf("Timeline %d", t.Timeline), "name"
	if t.Timeline == p.r.Production && p.r.ProductionSaid {
		text += ", the production server's"
	}
	for _, b := range p.r.Branches {
		if b.Timeline == t.Timeline && b.Copy {
			text += ", a copy's"
		}
	}
	p.Labels = append(p.Labels, label{top + 15, text, class})
	p.Shapes = append(p.Shapes, shape{Kind: "rect", X: percent(margin), W: percent(100 - 2*margin), Y: top + bandTop, H: bandHigh, Class: "empty"})
	begun, forked := p.begin(t)
	for _, w := range p.r.Windows {
		if w.Timeline != t.Timeline {
			continue
		}
		to := windowEnd(w, p.clocks)
		if !to.known {
			continue
		}
		title := fmt.Sprintf("Can be recovered: from %s to %s (%s to %s)", clock(w.FromTime), to, w.FromLSN, w.ToLSN)
		if whole(p.r, w) {
			title += ", which is all that the server has written"
			to.time = p.r.Time
		}
		own := w.FromTime
		if forked && begun.known && own.Before(begun.time) {
			own = begun.time
			p.bar(w.FromTime, earlier(begun.time, to.time), top+bandTop+bandHigh/2-2, 4, 0, "inherited", title+"; this part is on the timelines before")
		}
		if w.Reached {
			p.bar(own, to.time, top+bandTop, bandHigh, 0.4, "window", title)
		}
	}
	p.wal(t, top)
	p.backups(t.Timeline, top)
	for _, d := range newest(p.r.Damaged, 200) {
		n, err := wal.ParseName(d.Segment)
		if err != nil || uint32(n.Timeline) != t.Timeline {
			continue
		}
		if at := p.clocks.when(t.Timeline, d.LSN); at.known && p.scale.has(at.time) {
			p.mark("damage", at.time, top+bandTop+bandHigh/2, "damage", fmt.Sprintf("%s is damaged at %s, %s", d.Segment, d.LSN, at))
		}
	}
}

// mark adds a mark at a time.
func (p *painter) mark(kind string, at time.Time, y int, class, title string) {
	p.Shapes = append(p.Shapes, shape{Kind: kind, X: percent(p.scale.at(at)), Y: y, Class: class, Title: title})
}

// A stretch is a part of a timeline, or several that are too close to each other to be seen apart.
type stretch struct {
	from, to time.Time
	n        int
	title    string // of the first
}

// stretches joins those of which less than near, in percent, is between the end of one and the begin of the next.
func (p *painter) stretches(near float64, each func(add func(from, to moment, title func() string))) (all []stretch) {
	each(func(from, to moment, title func() string) {
		if !from.known || !to.known || to.time.Before(p.scale.from) || from.time.After(p.scale.to) {
			return
		}
		if n := len(all); n > 0 && p.scale.at(from.time)-p.scale.at(all[n-1].to) < near {
			all[n-1].n++
			if to.time.After(all[n-1].to) {
				all[n-1].to = to.time
			}
			return
		}
		all = append(all, stretch{from.time, to.time, 1, title()})
	})
	return all
}

// wal draws the segments of a timeline, and the gaps between them.
func (p *painter) wal(t report.Timeline, top int) {
	for _, s := range p.stretches(0.1, func(add func(from, to moment, title func() string)) {
		for _, one := range t.Ranges {
			from, to := p.clocks.when(t.Timeline, one.BeginLSN), p.clocks.when(t.Timeline, one.EndLSN)
			if !from.known && to.known {
				from = moment{time: p.scale.from, known: true}
			}
			add(from, to, func() string {
				return fmt.Sprintf("%s: %s to %s", count(int(one.Segments), "segment"), one.First, one.Last)
			})
		}
	}) {
		p.bar(s.from, s.to, top+walTop, walHigh, 0.3, "wal", s.title)
	}
	for _, s := range p.stretches(2.2, func(add func(from, to moment, title func() string)) {
		for i := range t.Gaps {
			g := &t.Gaps[i]
			from := p.clocks.when(t.Timeline, g.BeginLSN)
			add(from, p.clocks.when(t.Timeline, g.EndLSN), func() string { return fmt.Sprintf("Gap, %s: %s", from, g.Text()) })
		}
	}) {
		class := "gap"
		if s.n > 1 { // what is between them is there
			class, s.title = "gap several", fmt.Sprintf("%d gaps, beginning with: %s", s.n, s.title)
		}
		p.bar(s.from, s.to, top+bandTop-2, walTop+walHigh-bandTop+4, 0.8, class, s.title)
		p.mark("cross", s.from.Add(s.to.Sub(s.from)/2), top+bandTop-9, "gapmark", "")
	}
}

// buckets is how many backups are drawn beside each other; those of one bucket are drawn as the greatest one, with the worst state.
const buckets = 240

func (p *painter) backups(tli uint32, top int) {
	var most int64 = 1
	for _, b := range p.r.Backups {
		most = max(most, b.Bytes)
	}
	type bucket struct {
		b    report.Backup
		n    int
		rank int
	}
	all := make(map[int]*bucket)
	var order []int
	for _, b := range p.r.Backups {
		if b.Timeline != tli || !p.scale.has(b.Ended) {
			continue
		}
		k := int(p.scale.at(b.Ended) / 100 * buckets)
		rank := p.rank(b)
		one, ok := all[k]
		if !ok {
			one = &bucket{b: b, rank: rank}
			all[k] = one
			order = append(order, k)
		}
		one.n++
		if rank > one.rank || rank == one.rank && b.Bytes > one.b.Bytes {
			one.b, one.rank = b, rank
		}
	}
	for _, k := range order {
		one := all[k]
		b := one.b
		h := max(4, int(float64(backupsHigh)*float64(b.Bytes)/float64(most)))
		class := [...]string{"backup", "backup removed", "backup failed", "backup broken"}[one.rank]
		title := fmt.Sprintf("Backup %s, %s, took %s, %s", b.ID, progress.Bytes(b.Bytes), duration(b.Seconds), [...]string{"sound", "marked for removal", "its drill failed", "CANNOT BE RESTORED"}[one.rank])
		if one.n > 1 {
			title += fmt.Sprintf(" (and %d more beside it)", one.n-1)
		}
		x := p.scale.at(b.Ended)
		p.Shapes = append(p.Shapes, shape{Kind: "rect", X: percent(max(0, x-0.3)), W: "0.60%", Y: top + backupsTop + backupsHigh - h, H: h, Class: class, Title: title})
		if one.rank >= 2 {
			p.mark("cross", b.Ended, top+backupsTop+backupsHigh-h-5, class, "")
		}
	}
}

// rank orders the states of backups, the worst last.
func (p *painter) rank(b report.Backup) int {
	switch {
	case !b.Restorable:
		return 3
	case b.DrillError != "":
		return 2
	case p.removed[b.ID]:
		return 1
	}
	return 0
}

// drills draws a lane of drills, if there were any.
func (p *painter) drills() {
	top, named := p.Height, false
	for _, b := range newest(p.r.Backups, 200) {
		if b.Drilled == nil || !p.scale.has(*b.Drilled) {
			continue
		}
		if !named {
			p.Labels = append(p.Labels, label{top + 15, "Drills", "name"})
			p.Height += 44
			named = true
		}
		if b.DrillError != "" {
			p.mark("cross", *b.Drilled, top+30, "drill broken", fmt.Sprintf("Drill of backup %s, %s: FAILED", b.ID, clock(*b.Drilled)))
		} else {
			p.mark("dot", *b.Drilled, top+30, "drill", fmt.Sprintf("Drill of backup %s, %s: all is well", b.ID, clock(*b.Drilled)))
		}
	}
}

// windowEnd returns when a window ends: with its last transaction, or where it begins if there was none since then.
func windowEnd(w report.Window, c *clocks) moment {
	switch {
	case idle(w):
		return moment{time: w.FromTime, exact: true, known: true}
	case w.ToTime != nil:
		return moment{time: *w.ToTime, exact: true, known: true}
	}
	return c.when(w.Timeline, w.ToLSN)
}

// idle reports whether no transaction has ended since the window begins.
func idle(w report.Window) bool { return w.ToTime != nil && w.ToTime.Before(w.FromTime) }

// whole reports whether a window has all that the server had written when it was asked.
func whole(r *report.Report, w report.Window) bool {
	if s := r.Server; s != nil && !s.Standby && s.Timeline == w.Timeline && w.Gap == nil {
		end, err := wal.ParseLSN(w.ToLSN)
		at, bad := wal.ParseLSN(s.LSN)
		return err == nil && bad == nil && end >= at
	}
	return false
}

// newest returns the last n of a list.
func newest[T any](all []T, n int) []T { return all[max(0, len(all)-n):] }

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
