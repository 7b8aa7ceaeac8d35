package host

import (
	"time"

	"golang.org/x/sys/windows"
)

// Uptime is how long this system has run, sleep included; 0 if that is not known. No change of the clock changes it.
func Uptime() time.Duration { return windows.DurationSinceBoot() }
