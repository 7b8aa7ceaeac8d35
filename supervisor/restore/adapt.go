package restore

import (
	"fmt"
	"maps"
	"path/filepath"
	"strconv"
	"strings"

	"walkeep/common/pgdata"
)

// leftovers are settings of a standby that would change a recovery to a point in time, with their values that do not. The
// ones that are written for the recovery itself are not among them.
var leftovers = []setting{
	{"recovery_min_apply_delay", "0"}, {"recovery_end_command", ""}, {"archive_cleanup_command", ""}, {"promote_trigger_file", ""},
	{"primary_conninfo", ""}, {"primary_slot_name", ""},
}

// adapted are settings with which the backup's configuration serves a recovery here: those of replay are not lower than it
// needs, those of a standby are not in force, and a copy beside a server writes to none of that one's places. set is what
// the server is set to without them. It says what it changes.
func (r *restorer) adapted(c serverConfig, set map[string]string) []setting {
	var all []setting
	needed, err := pgdata.ParseLimits(r.control)
	if err != nil {
		r.Notice("", fmt.Sprintf("what the server must be set to for its recovery is not known: %v", err))
	}
	needed = needed.Max(r.Changes.Limits)
	for _, l := range pgdata.TooLow(needed, r.m.Major, set) {
		all = append(all, setting{l.Name, strconv.Itoa(l.Needed)})
		was := set[l.Name]
		if was == "" {
			was = strconv.Itoa(l.Default)
		}
		r.Notice("", fmt.Sprintf("%s is raised from %s to %d in %s: the server that wrote the WAL had that, and replay needs it", l.Name, was, l.Needed, autoConf))
	}
	if r.Recovery.Standby == nil {
		all = append(all, r.neutralised(set)...)
	}
	if r.beside != "" {
		for _, s := range (serverConfig{settings: set}).elsewhere(r.Dir) {
			all = append(all, s)
			r.Notice("", fmt.Sprintf("%s is %s in this copy: it was a place of the server in %s, or beside it", s.name, Quote(s.value), r.beside))
		}
	}
	return all
}

// neutralised are the settings that keep what a standby does out of a recovery to a point in time.
func (r *restorer) neutralised(set map[string]string) []setting {
	var all []setting
	var names []string
	for _, s := range leftovers {
		if set[s.name] == "" || set[s.name] == s.value {
			continue
		}
		names = append(names, s.name)
		if r.m.Major >= 12 { // up to 11 recovery.conf has them, which is written
			all = append(all, s)
		}
	}
	if r.Recovery.Until == nil && target(r.Plan.Target).name != "" && r.Recovery.Action == "pause" && isOff(set["hot_standby"]) {
		names = append(names, "hot_standby")
		all = append(all, setting{"hot_standby", "on"}) // or nobody could look, and the server would shut down instead
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

// isOff reads a boolean that is on by default.
func isOff(value string) bool {
	switch strings.ToLower(value) {
	case "off", "false", "no", "0", "of", "f", "fa", "fal", "fals", "n":
		return true
	}
	return false
}

// effective is what a server is set to by its files: postgresql.auto.conf counts more.
func effective(dir string, c serverConfig) map[string]string {
	set := maps.Clone(c.settings)
	auto := readConfig(filepath.Join(dir, autoConf)) // what cannot be read leaves the rest
	if set == nil {
		set = make(map[string]string)
	}
	maps.Copy(set, auto.settings)
	return set
}

// settingsOf reads the settings of lines that are no files.
func settingsOf(lines []string) map[string]string {
	set := make(map[string]string)
	for _, line := range lines {
		if text := strings.TrimSpace(line); text != "" && text[0] != '#' {
			name, value := pgdata.Setting(text)
			set[strings.ToLower(name)] = value
		}
	}
	return set
}
