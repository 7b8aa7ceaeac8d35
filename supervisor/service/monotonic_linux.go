package service

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// monotonic is the time since the system's start in microseconds. systemd compares it to tell two reloads apart.
func monotonic() string {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return ""
	}
	return fmt.Sprintf("\nMONOTONIC_USEC=%d", t.Nano()/1000)
}
