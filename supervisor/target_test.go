package main_test

import (
	"strings"
	"testing"
)

// A target time has the form of PostgreSQL or ISO 8601; without a zone it is in the host's zone.
func TestTargetTime(t *testing.T) {
	t.Parallel()
	r, _, _, _ := archived(t, restoreMajor)
	for _, c := range []struct{ given, want string }{
		{"2020-01-02 03:04:05", "2020-01-02 02:04:05 UTC"},
		{"2020-07-02 03:04:05", "2020-07-02 01:04:05 UTC"},
		{"2020-01-02 03:04", "2020-01-02 02:04:00 UTC"},
		{"2020-01-02", "2020-01-01 23:00:00 UTC"},
		{"2020-01-02T03:04:05Z", "2020-01-02 03:04:05 UTC"},
		{"2020-01-02T03:04:05.5z", "2020-01-02 03:04:05.5"},
		{"2020-01-02 03:04:05 UTC", "2020-01-02 03:04:05 UTC"},
		{"2020-01-02 03:04:05.123456-07", "2020-01-02 10:04:05.123456"},
		{"2020-01-02 03:04:05+05:30", "2020-01-01 21:34:05 UTC"},
		{"2020-01-02 03:04:05 -0300", "2020-01-02 06:04:05 UTC"},
	} {
		cmd := r.command("restore", "--target-dir", r.dir+"/restored", "--target-time", c.given)
		cmd.Env = append(cmd.Env, "TZ=Europe/Berlin")
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != 1 || !strings.Contains(string(out), c.want) {
			t.Errorf("%q: got exit code %d, want 1 with %q\n%s", c.given, got, c.want, out)
		}
	}
}

// A time that the host's clocks showed twice, or never, is refused with both readings; with an offset it is not.
func TestTargetTimeClockChange(t *testing.T) {
	t.Parallel()
	r, _, _, _ := archived(t, restoreMajor)
	for _, c := range []struct {
		zone, given string
		code        int
		want        []string
	}{
		{"Europe/Berlin", "2020-10-25 02:30:00", 2, []string{"is twice", "'2020-10-25 02:30:00+02:00' or '2020-10-25 02:30:00+01:00'"}},
		{"Europe/Berlin", "2020-10-25T02:00", 2, []string{"is twice", "'2020-10-25 02:00:00+02:00' or '2020-10-25 02:00:00+01:00'"}},
		{"Europe/Berlin", "2020-10-25 02:59:59.5", 2, []string{"'2020-10-25 02:59:59.5+02:00' or '2020-10-25 02:59:59.5+01:00'"}},
		{"Europe/Berlin", "2020-10-25 01:59:59", 1, []string{"2020-10-24 23:59:59 UTC"}},
		{"Europe/Berlin", "2020-10-25 03:00", 1, []string{"2020-10-25 02:00:00 UTC"}},
		{"Europe/Berlin", "2020-10-25 02:30:00+02", 1, []string{"2020-10-25 00:30:00 UTC"}},
		{"Europe/Berlin", "2020-10-25 02:30:00+01", 1, []string{"2020-10-25 01:30:00 UTC"}},
		{"Europe/Berlin", "2020-03-29 02:30:00", 2, []string{"is not on the clocks", "'2020-03-29 01:30:00+01:00' or '2020-03-29 03:30:00+02:00'"}},
		{"Europe/Berlin", "2020-03-29 01:59:59", 1, []string{"2020-03-29 00:59:59 UTC"}},
		{"Europe/Berlin", "2020-03-29 03:00", 1, []string{"2020-03-29 01:00:00 UTC"}},
		{"America/New_York", "2020-11-01 01:30", 2, []string{"'2020-11-01 01:30:00-04:00' or '2020-11-01 01:30:00-05:00'"}},
		{"America/Santiago", "2020-09-06", 2, []string{"'2020-09-05 23:00:00-04:00' or '2020-09-06 01:00:00-03:00'"}},
	} {
		cmd := r.command("restore", "--target-dir", r.dir+"/restored", "--target-time", c.given)
		cmd.Env = append(cmd.Env, "TZ="+c.zone)
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != c.code {
			t.Errorf("%s, %q: got exit code %d, want %d\n%s", c.zone, c.given, got, c.code, out)
		}
		for _, want := range c.want {
			if !strings.Contains(string(out), want) {
				t.Errorf("%s, %q: got %s\nwant %q in it", c.zone, c.given, out, want)
			}
		}
	}
}
