package restore

import (
	"fmt"
	"strconv"
	"strings"

	"walkeep/common/pgdata"
	"walkeep/supervisor/pgconf"
)

// leftovers are the settings of a standby that would change a recovery to a point in time, with values that have no
// effect. The settings that are written for the recovery itself are not among them.
var leftovers = []pgconf.Setting{
	pgconf.Set("recovery_min_apply_delay", "0"), pgconf.Set("recovery_end_command", ""), pgconf.Set("archive_cleanup_command", ""), pgconf.Set("promote_trigger_file", ""),
	pgconf.Set("primary_conninfo", ""), pgconf.Set("primary_slot_name", ""),
}

// adapted returns settings that make the backup's configuration fit a recovery here: those of replay are as high as
// it needs, those of a standby have no effect, and a copy beside a running server does not write to that server's
// directories. set has the server's settings without them. It gives a notice of each change.
func (r *restorer) adapted(c pgconf.Config, set map[string]string) []pgconf.Setting {
	var all []pgconf.Setting
	needed, err := pgdata.ParseLimits(r.control)
	if err != nil {
		r.Notice("", fmt.Sprintf("the settings that recovery needs cannot be determined: %v", err))
	}
	needed = needed.Max(r.Changes.Limits)
	for _, l := range pgdata.TooLow(needed, r.m.Major, set) {
		all = append(all, pgconf.Set(l.Name, strconv.Itoa(l.Needed)))
		was := set[l.Name]
		if was == "" {
			was = strconv.Itoa(l.Default)
		}
		r.Notice("", fmt.Sprintf("%s is raised from %s to %d in %s: the server that wrote the WAL had that value, and replay needs it", l.Name, was, l.Needed, pgconf.AutoConf))
	}
	if r.Recovery.Standby == nil {
		all = append(all, r.neutralised(set)...)
	}
	if r.beside != "" {
		for _, s := range (pgconf.Config{Settings: set}).Elsewhere(r.Dir) {
			all = append(all, s)
			r.Notice("", fmt.Sprintf("%s is %s in this copy: its value leads to the server in %s, or out of its directory", s.Name, pgconf.Quote(s.Value), r.beside))
		}
	}
	return all
}

// neutralised returns the settings that cancel a standby's configuration for a recovery to a point in time.
func (r *restorer) neutralised(set map[string]string) []pgconf.Setting {
	var all []pgconf.Setting
	var names []string
	for _, s := range leftovers {
		if set[s.Name] == "" || set[s.Name] == s.Value {
			continue
		}
		names = append(names, s.Name)
		if r.m.Major >= 12 { // up to 11 they are in recovery.conf, which restore writes
			all = append(all, s)
		}
	}
	if r.Recovery.Until == nil && target(r.Plan.Target).Name != "" && r.Recovery.Action == "pause" && pgconf.IsOff(set["hot_standby"]) {
		names = append(names, "hot_standby")
		all = append(all, pgconf.Set("hot_standby", "on")) // or the server would shut down at the target, not pause
	}
	if len(names) > 0 {
		r.Notice("", fmt.Sprintf("these settings of the backup have no effect in the restored server: %s", strings.Join(names, ", ")))
	}
	if set["synchronous_standby_names"] != "" {
		r.Notice("clear it in the restored server, unless such a standby will follow it",
			"synchronous_standby_names is set: commits in the restored server wait for a standby")
	}
	return all
}
