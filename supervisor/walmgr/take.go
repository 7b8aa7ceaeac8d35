package walmgr

import (
	"math"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// expandUser is Python's os.path.expanduser.
func (im *importer) expandUser(file string) string {
	if !strings.HasPrefix(file, "~") {
		return file
	}
	user, rest, slash := strings.Cut(file[1:], "/")
	home := im.o.Home(user)
	if home == "" {
		return file
	}
	if home = strings.TrimRight(home, "/"); slash || home == "" {
		return home + "/" + rest
	}
	return home
}

// splitHost splits host:path as rsync does. There is no host if a slash is before the colon.
func splitHost(place string) (host, dir string) {
	sign := strings.IndexByte(place, ':')
	if end := strings.Index(place, "]:"); end > 0 && strings.HasPrefix(place[strings.IndexByte(place, '@')+1:], "[") {
		sign = end + 1 // after an IPv6 address
	}
	if sign < 1 || strings.Contains(place[:sign], "/") {
		return "", place
	}
	return place[:sign], place[sign+1:]
}

// absolute returns the cleaned path of a directory below the root.
func (im *importer) absolute(dir string) (string, bool) {
	if dir = im.expandUser(trim(dir)); !strings.HasPrefix(dir, "/") || strings.ContainsFunc(dir, isControl) {
		return "", false
	}
	dir = path.Clean(dir)
	return dir, strings.Trim(dir, "/") != ""
}

// besides is appended to the name of walmgr's directory to name the spool. The spool is not inside that directory,
// because walmgr's cleanup deletes it with all its contents.
const besides = "-walkeep"

// takeSpool puts the spool beside walmgr's own directory.
func (im *importer) takeSpool() {
	data, to, complete := im.get("walmgr_data"), im.get("slave"), im.get("completed_wals")
	host, found := "", ""
	var from *item
	for _, it := range []*item{data, to, complete} {
		if it == nil {
			continue
		}
		h, dir := splitHost(it.value)
		if it == to && h == "" && !strings.ContainsAny(dir, "/~") { // SkyTools 3: a host alone
			h, dir = dir, ""
		}
		if host == "" {
			host = h
		}
		if it == complete {
			dir = path.Dir(strings.TrimRight(dir, "/"))
		}
		if dir, ok := im.absolute(dir); ok && found == "" {
			found, from = dir, it
		}
	}
	if found == "" {
		im.warn("the file has no absolute path for walmgr's WAL, so the result has no spool: add one")
		for _, it := range []*item{data, to, complete} {
			if it != nil {
				im.why[it] = "it has no absolute path; set the archive's directory with spool = DIR"
			}
		}
		return
	}
	note := "The archive: one directory for WAL and backups, beside walmgr's and not in it, because walmgr's cleanup deletes everything there. It must exist: `supervisor setup` makes it."
	if im.Primary && host != "" {
		note += " walmgr copied to " + host + " by ssh and rsync; archive-cmd writes to a directory. For the archive to survive this host, that directory must be on another one's disk: mount it, and keep the spool in a directory below the mount point. Or let `supervisor run` on " + host + " stream into a spool there."
	}
	if strings.HasPrefix(from.value, "~") {
		note += " (~ is the home directory of who ran this command.)"
	}
	if from == to {
		im.set("spool", found+besides, note, to, complete)
	} else {
		im.set("spool", found+besides, note, from, to, complete)
	}
}

// takeServer sets the keys for the server on this host.
func (im *importer) takeServer() {
	if it := im.get("master_db"); it != nil {
		if im.Primary {
			im.set("conninfo", it.value, "How to reach the primary. The role needs REPLICATION and membership in pg_monitor, and only `setup` needs more."+password, it)
		} else {
			im.why[it] = "it is about the primary, and this file is for the standby's host"
		}
	}
	data, bin := "slave_data", "slave_bin"
	if im.Primary {
		data, bin = "master_data", "master_bin"
	}
	im.takeDir("pgdata", data, "The data directory of the server on this host.")
	im.takeDir("bindir", bin, "PostgreSQL's programs.")
}

func (im *importer) takeDir(name, parameter, note string) {
	it := im.get(parameter)
	if it == nil {
		return
	}
	dir, ok := im.absolute(it.value)
	if !ok {
		im.refuse(it, "%s must be an absolute path", name)
		return
	}
	if old := oldMajor.FindString(dir); old != "" {
		note += " This one is of PostgreSQL " + old + ", and walkeep works with 10 and later: put that of today's server here."
		im.warn("%s = %s is of PostgreSQL %s: change it to that of today's server", name, visible(dir), old)
	}
	im.set(name, dir, note, it)
}

// oldMajor matches a version before 10 in a path.
var oldMajor = regexp.MustCompile(`\b[789]\.[0-9]\b`)

const password = " Put a password into the password file (~/.pgpass) of the user who runs walkeep; it is not copied here."

// takeStream converts syncdaemon's parameters. It ran on the primary if they are there.
func (im *importer) takeStream() {
	delay, xlog, pid := im.own("loop_delay"), im.own("use_xlog_functions"), im.own("pidfile")
	if !im.Primary || delay == nil && xlog == nil && pid == nil {
		return
	}
	im.set("stream", "true", "As syncdaemon did: `supervisor run` streams the segment that is being written.", pid, xlog)
	im.set("slot", "walkeep", "New: the server keeps WAL until it has been streamed. `setup` makes the slot; drop it if you remove walkeep.")
	im.set("synchronous", "false", "Commits do not wait. With true, and walkeep in synchronous_standby_names, no confirmed commit is lost with the primary.")
	if delay == nil {
		return
	}
	seconds, err := strconv.ParseFloat(trim(delay.value), 64)
	if err != nil || math.IsNaN(seconds) || seconds <= 0 {
		im.refuse(delay, "flush-interval is a time above 0, in seconds here")
		return
	}
	note := "The time of commits that can be lost with the primary. Streaming costs little: the default is 50ms."
	interval := time.Minute
	if seconds > interval.Seconds() {
		note += " It is at most one minute."
	} else {
		interval = max(time.Millisecond, time.Duration(seconds*float64(time.Second)).Round(time.Millisecond))
	}
	im.set("flush-interval", interval.String(), note, delay)
}

// takeStandby sets the keys for streaming replication.
func (im *importer) takeStandby() {
	if it := im.get("primary_conninfo"); it != nil {
		im.set("primary-conninfo", it.value, "How the standby reaches its primary: `restore --standby` writes it into the server's settings, and `promote` connects there to check that the primary is down."+password, it)
	}
}

var (
	runsBackup = regexp.MustCompile(`\bwalmgr[^\s;&|]*\s[^;&|]*\bbackup\b|\bpg_basebackup\b`)
	runsPurge  = regexp.MustCompile(`\bwalmgr[^\s;&|]*\s[^;&|]*\bxpurgewals\b`)
)

// takeRetention sets how many backups are kept, and when they are taken.
func (im *importer) takeRetention() {
	if it := im.get("keep_backups"); it != nil {
		switch n, err := strconv.ParseInt(trim(it.value), 10, 32); {
		case err != nil || n < 0:
			im.refuse(it, "keep-backups is a number of backups")
		case n == 0:
			im.set("keep-backups", "1", "walmgr's 0 kept one backup, and deleted WAL as it was replayed; walkeep's 0 would keep all. Consider 2: a single backup is little. `supervisor cleanup`, or cleanup-schedule, applies it.", it)
		default:
			im.set("keep-backups", strconv.FormatInt(n, 10), "`supervisor cleanup`, or cleanup-schedule, applies it, after a backup and never before one, so that there is never one fewer.", it)
		}
	}
	command := im.get("periodic_command")
	if command == nil {
		return
	}
	backs, purges := runsBackup.MatchString(command.value), runsPurge.MatchString(command.value)
	if !backs && !purges {
		return
	}
	interval := im.get("command_interval")
	schedule, after := "", ""
	if interval != nil {
		seconds, err := strconv.ParseInt(trim(interval.value), 10, 64)
		if err == nil {
			schedule, after = cron(seconds)
		}
	}
	if schedule == "" {
		im.refuse(command, "a cron expression cannot have its interval; set backup-schedule and cleanup-schedule as you want them, and call the command's other tasks from cron")
		return
	}
	if backs {
		im.set("backup-schedule", schedule, "walmgr looked at its interval when a segment was archived; `supervisor run` looks at the clock. Call the command's other tasks from cron.", command, interval)
	}
	im.set("cleanup-schedule", after, "walmgr deleted expired files along with each backup.", command, interval)
}

// cron returns the expression for an interval in seconds, and one for half an hour later if the interval is at least an
// hour. Both are empty if cron cannot express the interval.
func cron(seconds int64) (at, later string) {
	const minute, hour, day, week = 60, 3600, 86400, 604800
	switch {
	case seconds == week:
		return "0 2 * * 0", "30 2 * * 0"
	case seconds == day:
		return "0 2 * * *", "30 2 * * *"
	case seconds == hour:
		return "0 * * * *", "30 * * * *"
	case seconds > hour && seconds%hour == 0 && day%seconds == 0:
		every := " */" + strconv.FormatInt(seconds/hour, 10) + " * * *"
		return "0" + every, "30" + every
	case seconds == minute:
		return "* * * * *", "* * * * *"
	case seconds > minute && seconds < hour && seconds%minute == 0 && hour%seconds == 0:
		every := "*/" + strconv.FormatInt(seconds/minute, 10) + " * * * *"
		return every, every
	}
	return "", ""
}
