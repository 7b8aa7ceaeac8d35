package host

import (
	"os"
	"strings"
)

func machine() string { return content("/etc/machine-id") }

func boot() string { return content("/proc/sys/kernel/random/boot_id") }

func pids() string {
	ns, _ := os.Readlink("/proc/self/ns/pid")
	return ns
}

func content(file string) string {
	b, _ := os.ReadFile(file)
	return strings.TrimSpace(string(b))
}

// initial is the table of processes outside of all containers (PROC_PID_INIT_INO in the kernel's proc_ns.h).
const initial = "pid:[4026531836]"

// sharesTable reports whether a process's number means the same here. The number of a namespace is given to another one
// only when the first is gone with all of its processes.
func (o Origin) sharesTable(here Origin) bool {
	return o.Boot != "" && o.PIDs != "" && o.Boot == here.Boot && o.PIDs == here.PIDs
}

// endedWith reports whether the process ended because its machine, which is this one, was started again. A container says
// nothing about its machine: its image may have brought the name.
func (o Origin) endedWith(here Origin) bool {
	return o.sameMachine(here) && o.Boot != "" && o.Boot != here.Boot && o.PIDs == initial && here.PIDs == initial
}
