package main_test

import (
	"strings"
	"testing"
)

// Times are what PostgreSQL and ISO 8601 write; those without a zone are in the host's.
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
