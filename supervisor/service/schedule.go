package service

import (
	"fmt"
	"time"

	"github.com/robfig/cron/v3"
)

// ParseSchedule reads a cron expression. It refuses one that matches no day of the calendar.
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

// A local schedule follows the wall clock, which summer time moves forward and back. A task that is due at an hour of
// the day is done once on each day: at the end of a skipped hour, and in the first of two equal hours. A task that is
// due in every hour is done whenever the clock shows its minute.
type local struct {
	spec   cron.SpecSchedule // for a clock that never changes
	zone   *time.Location
	hourly bool
}

// everyHour has the bits of all hours of a day.
const everyHour = 1<<24 - 1

func newLocal(spec cron.SpecSchedule) *local {
	l := &local{spec: spec, zone: spec.Location, hourly: spec.Hour&everyHour == everyHour}
	l.spec.Location = time.UTC
	return l
}

// widest is longer than any change of a clock.
const widest = 25 * time.Hour

// Next implements [cron.Schedule].
func (l *local) Next(after time.Time) time.Time {
	zone := l.zone
	if zone == time.Local { // as the library has it
		zone = after.Location()
	}
	// Only near a change of the clock can a later shown time come earlier.
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

// times returns when a task that is due at a shown time is done.
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

// wall returns what the clock shows, as a time of a clock that never changes.
func wall(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
}

// offset returns how far the clock is ahead of UTC.
func offset(t time.Time, zone *time.Location) time.Duration {
	_, seconds := t.In(zone).Zone()
	return time.Duration(seconds) * time.Second
}
