package restore

import (
	"fmt"
	"strconv"
	"strings"

	"walkeep/common/pgdata"
	"walkeep/supervisor/pgconf"
)

// leftovers are settings of a standby that would change a recovery to a point in time, with their values that do not. The
// ones that are written for the recovery itself are not among them.
var leftovers = []pgconf.Setting{
	pgconf.Set("recovery_min_apply_delay", "0"), pgconf.Set("recovery_end_command", ""), pgconf.Set("archive_cleanup_command", ""), pgconf.Set("promote_trigger_file", ""),
	pgconf.Set("primary_conninfo", ""), pgconf.Set("primary_slot_name", ""),
}

// adapted are settings with which the backup's configuration serves a recovery here: those of replay are not lower than it
// needs, those of a standby are not in force, and a copy beside a server writes to none of that one's places. set is what
// the server is set to without them. It says what it changes.
func (r *restorer) adapted(c pgconf.Config, set map[string]string) []pgconf.Setting {
	var all []pgconf.Setting
	needed, err := pgdata.ParseLimits(r.control)
	if err != nil {
		r.Notice("", fmt.Sprintf("what the server must be set to for its recovery is not known: %v", err))
	}
	needed = needed.Max(r.Changes.Limits)
	for _, l := range pgdata.TooLow(needed, r.m.Major, set) {
		all = append(all, pgconf.Set(l.Name, strconv.Itoa(l.Needed)))
		was := set[l.Name]
		if was == "" {
			was = strconv.Itoa(l.Default)
		}
		r.Notice("", fmt.Sprintf("%s is raised from %s to %d in %s: the server that wrote the WAL had that, and replay needs it", l.Name, was, l.Needed, pgconf.AutoConf))
	}
	if r.Recovery.Standby == nil {
		all = append(all, r.neutralised(set)...)
	}
	if r.beside != "" {
		for _, s := range (pgconf.Config{Settings: set}).Elsewhere(r.Dir) {
			all = append(all, s)
			r.Notice("", fmt.Sprintf("%s is %s in this copy: it was a place of the server in %s, or beside it", s.Name, pgconf.Quote(s.Value), r.beside))
		}
	}
	return all
}

// neutralised are the settings that keep what a standby does out of a recovery to a point in time.
func (r *restorer) neutralised(set map[string]string) []pgconf.Setting {
	var all []pgconf.Setting
	var names []string
	for _, s := range leftovers {
		if set[s.Name] == "" || set[s.Name] == s.Value {
			continue
		}
		names = append(names, s.Name)
		if r.m.Major >= 12 { // up to 11 recovery.conf has them, which is written
			all = append(all, s)
		}
	}
	if r.Recovery.Until == nil && target(r.Plan.Target).Name != "" && r.Recovery.Action == "pause" && pgconf.IsOff(set["hot_standby"]) {
		names = append(names, "hot_standby")
		all = append(all, pgconf.Set("hot_standby", "on")) // or nobody could look, and the server would shut down instead
	}
	if len(names) > 0 {
		r.Notice("", fmt.Sprintf("of the backup's settings these are not in force in the restored server: %s", strings.Join(names, ", ")))
	}
	if set["synchronous_standby_names"] != "" {
		r.Notice("clear it in the restored server, unless such a standby will follow it",
			"synchronous_standby_names is set: commits in the restored server wait for a standby")
	}
	return all
}
