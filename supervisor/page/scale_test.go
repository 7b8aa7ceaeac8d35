package page

import (
	"testing"
	"time"

	"walkeep/supervisor/report"
)

var zero = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

func hour(n float64) time.Time { return zero.Add(time.Duration(n * float64(time.Hour))) }

// forked returns a report with a fork, whose old timeline went on behind it.
func forked() *report.Report {
	b := func(tli uint32, start, stop string, at float64) report.Backup {
		return report.Backup{Timeline: tli, StartLSN: start, StopLSN: stop, Began: hour(at), Ended: hour(at + 1)}
	}
	return &report.Report{
		Time:      hour(100),
		Backups:   []report.Backup{b(1, "0/1000", "0/1100", 0), b(1, "0/9000", "0/9100", 40), b(2, "0/5000", "0/5100", 20)},
		Timelines: []report.Timeline{{Timeline: 1, BeginLSN: "0/0"}, {Timeline: 2, Parent: 1, BeginLSN: "0/3000"}, {Timeline: 3, Parent: 3, BeginLSN: "0/1"}},
	}
}

func TestClocks(t *testing.T) {
	r := forked()
	r.Backups = append(r.Backups, report.Backup{Timeline: 2, StartLSN: "0/6000", StopLSN: "0/6100", Began: hour(-9), Ended: hour(-8)}) // by a wrong clock
	c := newClocks(r)
	for _, test := range []struct {
		tli  uint32
		lsn  string
		want string
	}{
		{1, "0/1100", "2026-03-01 01:00"},
		{1, "0/5100", "about 2026-03-01 20:39"}, // the backup on timeline 2 says nothing about timeline 1
		{2, "0/3080", "about 2026-03-01 10:30"}, // between one on timeline 1 and one on timeline 2
		{2, "0/5100", "2026-03-01 21:00"},
		{2, "0/7000", "after 2026-03-01 21:00"},
		{1, "0/500", "at an unknown time"},
		{3, "0/500", "at an unknown time"},
		{7, "0/500", "at an unknown time"},
		{1, "nonsense", "at an unknown time"},
	} {
		if got := c.when(test.tli, test.lsn).String(); got != test.want {
			t.Errorf("%s on timeline %d: got %s, want %s", test.lsn, test.tli, got, test.want)
		}
	}
}

// Whatever the span, the axis has some dates, ascending, and not too many.
func TestTicks(t *testing.T) {
	for span := time.Hour; span < 9*365*24*time.Hour; span += span / 7 {
		for _, end := range []time.Time{zero, hour(13.7), hour(500.1)} {
			s := scale{end.Add(-span), end}
			all := s.ticks()
			if len(all) < 3 || len(all) > 11 || all[len(all)-1].Label != "now" {
				t.Errorf("%s: got %+v", span, all)
			}
			for i := range all[1:] {
				if all[i].Label == all[i+1].Label {
					t.Errorf("%s: %q is there twice", span, all[i].Label)
				}
			}
		}
	}
}
