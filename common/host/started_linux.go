package host

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// Started is when a process was started, in clock ticks since the system's start; 0 if that cannot be determined.
func Started(pid int) uint64 {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The second field is the program's name in parentheses, which may hold anything; the 22nd is the start (proc(5)).
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const at = 22 - 3
	if len(fields) <= at {
		return 0
	}
	ticks, _ := strconv.ParseUint(string(fields[at]), 10, 64)
	return ticks
}
