// Package host says what this process runs in, so that another one can find out later whether it still runs: the machine,
// the run of its kernel, and the table of processes that its number belongs to.
//
// Neither a host's name nor a process's number is enough: machines can have the same name, and containers of one machine
// can share it while each numbers its own processes.
package host

import (
	"os"
	"sync"
)

// An Origin is the environment of a process. Fields that are not known are empty.
type Origin struct {
	Host    string `json:"host"`
	Machine string `json:"machine,omitempty"` // names the installed system, whatever its host name
	Boot    string `json:"boot"`              // names the run of the kernel
	// PIDs names the kernel's table that the process's number belongs to; empty on systems that have only one.
	PIDs string `json:"pid_namespace,omitempty"`
}

// Boot names the run of the kernel; empty where it is not known.
var Boot = sync.OnceValue(boot)

// Here is the origin of this process.
var Here = sync.OnceValue(func() Origin {
	o := Origin{Machine: machine(), Boot: Boot(), PIDs: pids()}
	o.Host, _ = os.Hostname()
	return o
})

// A Verdict is the result of looking for a process.
type Verdict int

// Verdicts.
const (
	Unknown Verdict = iota // it cannot be seen from here
	Runs
	Gone
)

// Look judges a process by its number and its start, 0 where that is not known, where it is sure that this process would
// see it.
func (o Origin) Look(pid int, began uint64) Verdict {
	here := Here()
	switch {
	case o.sharesTable(here):
		if !Running(pid) {
			return Gone
		}
		// Numbers of processes are used again. The start of another user's may be hidden (ProtectProc of systemd).
		if now := Started(pid); began != 0 && now != 0 && now != began {
			return Gone
		}
		return Runs
	case o.endedWith(here):
		return Gone
	}
	return Unknown
}

// sameMachine reports whether both are known to be of one machine. A copied image can bring a machine's name with it, so
// that the host's must be the same, too.
func (o Origin) sameMachine(here Origin) bool {
	return o.Machine != "" && o.Machine == here.Machine && o.Host == here.Host
}
