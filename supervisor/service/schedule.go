package service

import (
	"fmt"
	"time"

	"github.com/robfig/cron/v3"
)

// ParseSchedule reads a cron expression. One that names no day of the calendar is refused.
func ParseSchedule(text string) (cron.Schedule, error) {
	s, err := cron.ParseStandard(text)
	if err != nil {
		return nil, fmt.Errorf("%q is not a schedule: %w", text, err)
	}
	if spec, ok := s.(*cron.SpecSchedule); ok {
		s = newLocal(*spec)
	}
	if s.Next(time.Now()).IsZero() {
		return nil, fmt.Errorf("%q is not a schedule: that time never comes", text)
	}
	return s, nil
}

// A local schedule is one by the clock on the wall, which is put forward and back. What is due at an hour of the day is done
// once on each day: at the end of the time that the clock leaves out, and in the first of two hours that it shows. What is
// due in every hour is done whenever the clock shows its minute.
type local struct {
	spec   cron.SpecSchedule // of a clock that is never changed
	zone   *time.Location
	hourly bool
}

// everyHour are the bits of the hours of a day.
const everyHour = 1<<24 - 1

func newLocal(spec cron.SpecSchedule) *local {
	l := &local{spec: spec, zone: spec.Location, hourly: spec.Hour&everyHour == everyHour}
	l.spec.Location = time.UTC
	return l
}

// widest is more than any clock is put forward or back.
const widest = 25 * time.Hour

// Next implements [cron.Schedule].
func (l *local) Next(after time.Time) time.Time {
	zone := l.zone
	if zone == time.Local { // as the library has it
		zone = after.Location()
	}
	// Only about the time at which the clock is changed what it shows later may come earlier.
	near := widest
	if offset(after.Add(-widest), zone) == offset(after.Add(widest), zone) {
		near = 0
	}
	var next time.Time
	for shown := l.spec.Next(wall(after.In(zone)).Add(-near)); !shown.IsZero(); shown = l.spec.Next(shown) {
		if !next.IsZero() && !shown.Before(wall(next).Add(near)) {
			break
		}
		for _, t := range l.times(shown, zone) {
			if t.After(after) && (next.IsZero() || t.Before(next)) {
				next = t
			}
		}
	}
	if next.IsZero() {
		return next
	}
	return next.In(after.Location())
}

// times are when what is due at a time of the clock on the wall is done.
func (l *local) times(shown time.Time, zone *time.Location) []time.Time {
	// No zone is further from UTC than this.
	before, behind := offset(shown.Add(-15*time.Hour), zone), offset(shown.Add(15*time.Hour), zone)
	first, second := shown.Add(-before).In(zone), shown.Add(-behind).In(zone)
	isFirst, isSecond := wall(first).Equal(shown), wall(second).Equal(shown)
	switch {
	case isFirst && isSecond && l.hourly && !first.Equal(second):
		return []time.Time{first, second}
	case isFirst:
		return []time.Time{first}
	case isSecond:
		return []time.Time{second}
	case l.hourly && behind-before >= time.Hour:
		return nil // the next hour has its own
	}
	begin, _ := first.ZoneBounds()
	return []time.Time{begin}
}

// wall is what the clock shows, as a time of a clock that is never changed.
func wall(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
}

// offset is how far the clock is ahead of UTC.
func offset(t time.Time, zone *time.Location) time.Duration {
	_, seconds := t.In(zone).Zone()
	return time.Duration(seconds) * time.Second
}
