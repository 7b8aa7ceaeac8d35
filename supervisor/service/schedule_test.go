package service_test

import (
	"testing"
	"time"
	_ "time/tzdata"

	"walkeep/supervisor/service"
)

// runs returns the times of a schedule within some years of a zone.
func runs(t *testing.T, zone, schedule string, years int) []time.Time {
	t.Helper()
	place, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	s, err := service.ParseSchedule(schedule)
	if err != nil {
		t.Fatal(err)
	}
	var all []time.Time
	end := time.Date(2026+years, 1, 1, 0, 0, 0, 0, place)
	for at := s.Next(time.Date(2025, 12, 31, 23, 59, 59, 0, place)); at.Before(end); at = s.Next(at) {
		if len(all) > 0 && !at.After(all[len(all)-1]) {
			t.Fatalf("%s in %s: %s comes after %s", schedule, zone, at, all[len(all)-1])
		}
		all = append(all, at)
	}
	return all
}

// A daily task is done once on each day, at its time if the clock shows it, also on days on which the clock changes.
func TestDailyOverSummerTime(t *testing.T) {
	for _, zone := range []string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Atlantic/Azores", "Asia/Kolkata", "UTC"} {
		for _, c := range []struct {
			schedule     string
			hour, minute int
		}{
			{"0 2 * * *", 2, 0}, {"30 2 * * *", 2, 30}, {"15 1 * * *", 1, 15}, {"0 3 * * *", 3, 0}, {"45 1 * * *", 1, 45}, {"@daily", 0, 0}, {"30 0 * * *", 0, 30},
			{"30 23 * * *", 23, 30}, {"TZ=" + zone + " 5 2 * * *", 2, 5},
		} {
			all := runs(t, zone, c.schedule, 4)
			days := make(map[string]time.Time)
			for _, at := range all {
				day := at.Format(time.DateOnly)
				if other, twice := days[day]; twice {
					t.Errorf("%s in %s: due at %s and at %s", c.schedule, zone, other, at)
				}
				days[day] = at
			}
			want := 0
			for day := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC); day.Year() < 2030; day = day.AddDate(0, 0, 1) {
				want++
				at, there := days[day.Format(time.DateOnly)]
				if !there {
					t.Errorf("%s in %s: not due on %s", c.schedule, zone, day.Format(time.DateOnly))
					continue
				}
				shown := time.Date(day.Year(), day.Month(), day.Day(), c.hour, c.minute, 0, 0, at.Location())
				if exists := shown.Hour() == c.hour && shown.Minute() == c.minute; exists {
					if at.Hour() != c.hour || at.Minute() != c.minute {
						t.Errorf("%s in %s: due at %s", c.schedule, zone, at)
					}
					if earlier := at.Add(-time.Hour); earlier.Hour() == c.hour && earlier.Minute() == c.minute {
						t.Errorf("%s in %s: due at %s, and not in the first of the two hours", c.schedule, zone, at)
					}
				} else if begin, _ := at.ZoneBounds(); !begin.Equal(at) {
					t.Errorf("%s in %s: that time is left out, and it is due at %s", c.schedule, zone, at)
				}
			}
			if len(all) != want {
				t.Errorf("%s in %s: %d times, want %d", c.schedule, zone, len(all), want)
			}
		}
	}
}

// An hourly task is done in every hour that passes.
func TestHourlyOverSummerTime(t *testing.T) {
	for _, zone := range []string{"Europe/Berlin", "America/New_York", "UTC"} {
		for schedule, want := range map[string]time.Duration{"0 * * * *": time.Hour, "@hourly": time.Hour, "30 * * * *": time.Hour, "*/15 * * * *": 15 * time.Minute} {
			all := runs(t, zone, schedule, 1)
			for i := 1; i < len(all); i++ {
				if got := all[i].Sub(all[i-1]); got != want {
					t.Errorf("%s in %s: %s comes %s after %s", schedule, zone, all[i], got, all[i-1])
				}
			}
		}
	}
	// A change of the clock by half an hour skips no hour.
	for _, schedule := range []string{"0 * * * *", "45 * * * *"} {
		all := runs(t, "Australia/Lord_Howe", schedule, 4)
		for i := 1; i < len(all); i++ {
			if got := all[i].Sub(all[i-1]); got < 30*time.Minute || got > 90*time.Minute {
				t.Errorf("%s: %s comes %s after %s", schedule, all[i], got, all[i-1])
			}
		}
	}
}
