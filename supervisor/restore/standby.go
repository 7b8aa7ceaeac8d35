package restore

import (
	"strconv"

	"walkeep/supervisor/pgconf"
)

// A Standby replays all WAL that is archived, until it is promoted.
type Standby struct {
	Pinned  bool   // it follows the plan's timeline; else the newest at any time
	Primary string // primary_conninfo; empty: it reads the archive alone
	Slot    string // primary_slot_name, if any
	Note    string // archive_cleanup_command, which records its restartpoint; empty: none
}

// standbySettings returns the settings of a standby. Targets of the user's own have no effect.
func (r *restorer) standbySettings(elsewhere map[string]bool) []pgconf.Setting {
	s := r.Recovery.Standby
	all := []pgconf.Setting{pgconf.Set("restore_command", r.Recovery.Command)}
	for _, name := range targetNames {
		if elsewhere[name] {
			all = append(all, pgconf.Set(name, ""))
		}
	}
	timeline := "latest"
	if s.Pinned {
		timeline = strconv.FormatUint(uint64(r.Plan.Timeline), 10)
	}
	all = append(all, pgconf.Set("recovery_target_timeline", timeline))
	if s.Primary != "" {
		all = append(all, pgconf.Set("primary_conninfo", s.Primary))
	}
	if s.Slot != "" {
		all = append(all, pgconf.Set("primary_slot_name", s.Slot))
	}
	if s.Note != "" {
		all = append(all, pgconf.Set("archive_cleanup_command", s.Note))
	}
	return all
}

// signals are the files that determine how a server of 12 or newer recovers. Restore removes old ones.
var signals = map[bool]string{false: "recovery.signal", true: "standby.signal"}
