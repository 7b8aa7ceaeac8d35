//go:build !linux

package host

func boot() string { return "" }

func pids() string { return "" }

// sharesTable reports whether a process's number means the same here.
func (o Origin) sharesTable(here Origin) bool {
	return o.sameMachine(here) && o.Boot == "" && o.PIDs == ""
}

func (o Origin) endedWith(Origin) bool { return false }
