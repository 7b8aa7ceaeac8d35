package host

import (
	"time"

	"golang.org/x/sys/unix"
)

// Uptime is how long this system has run, sleep included; 0 if that is not known. No change of the clock changes it.
func Uptime() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
