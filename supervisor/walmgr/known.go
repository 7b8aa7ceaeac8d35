package walmgr

// A side is the half of a walmgr pair whose file has a parameter.
type side int

const (
	both side = iota
	master
	slave
)

// known lists the parameters of walmgr and those that SkyTools gives every program. note describes what replaces a
// parameter that does not become a key of walkeep's. A test compares docs/from-walmgr.md with this list.
var known = []struct {
	name string
	side side
	note string
}{
	{"job_name", both, "Nothing to do: messages carry the program's name."},
	{"service_name", both, "Nothing to do: it was a name for SkyTools' log."},
	{"host_name", both, "Nothing to do: it was there for other parameters to refer to."},
	{"config_dir", both, "Nothing to do: it was there for other parameters to refer to."},
	{"config_file", both, "Nothing to do: it was there for other parameters to refer to."},
	{"logfile", both, logs},
	{"use_skylog", both, logs},
	{"skylog_locations", both, logs},
	{"log_size", both, "Nothing to do: walkeep has no log file that must be rotated."},
	{"log_count", both, "Nothing to do: walkeep has no log file that must be rotated."},
	{"logfmt_file", both, logs},
	{"logfmt_file_verbose", both, logs},
	{"logdatefmt_file", both, logs},
	{"logdatefmt_file_verbose", both, logs},
	{"logfmt_console", both, logs},
	{"logfmt_console_verbose", both, logs},
	{"logdatefmt_console", both, logs},
	{"logdatefmt_console_verbose", both, logs},
	{"pidfile", both, "Nothing to do: `supervisor service install` makes a service of the operating system, which manages its processes."},
	{"loop_delay", both, "Nothing to do here: syncdaemon read it, on the primary."},
	{"exception_sleep", both, "Nothing to do: walkeep retries failed work, with growing delays."},
	{"connection_lifetime", both, "Nothing to do: connections are made when they are needed."},

	{"master_db", master, "The primary's own file has conninfo from it."},
	{"master_data", master, "The file on the primary's host has pgdata from it."},
	{"master_bin", master, "The file on the primary's host has bindir from it."},
	{"master_config", master, "`supervisor setup` asks the server where its settings are. Take the archive_command that walmgr wrote out of this file."},
	{"master_restart_cmd", master, "walkeep never restarts a primary. `supervisor setup` reports whether a restart is needed, and you run this command when it suits you."},
	{"slave", both, "See spool: it is a directory, and no host is logged in to."},
	{"slave_config", master, "No host runs a program of another one, so none needs to know the other's file. Each host has a walkeep.ini: import the standby's file there."},
	{"walmgr_data", both, "See spool."},
	{"completed_wals", both, "Segments are in the spool, below wal/. Leave this directory until the last backup in walmgr's full_backup is not needed any more."},
	{"partial_wals", both, "`supervisor sync`, or stream = true, keeps the segment that is being written in the spool, below partial/."},
	{"full_backup", both, "Backups are in the spool, below backups/, each under an id of its own: `supervisor list` shows them, and a restore moves none of them."},
	{"config_backup", both, "A base backup holds the configuration files that are in the data directory. Files elsewhere, such as in /etc/postgresql, belong in the host's own backup."},
	{"use_xlog_functions", master, "Nothing to do: stream = true receives records as the server writes them, by the replication protocol."},
	{"compression", master, "rsync's -z is not needed: stored objects are compressed (by default codec = zstd, level = 1)."},
	{"keep_symlinks", master, "Nothing to do: a base backup comes over the replication protocol, and pg_wal is a directory in a restored cluster. For another disk, move it and link to it before the server is started; `restore --tablespace-map OLD=NEW` moves tablespaces."},
	{"hot_standby", master, "Nothing to do: `supervisor setup` sets wal_level, and standbys accept queries by default since PostgreSQL 10."},
	{"command_interval", master, "Nothing runs at log switches: see periodic_command."},
	{"periodic_command", master, "walkeep runs no commands of yours: put it into cron or a systemd timer. walkeep's own tasks have schedules: backup-schedule, cleanup-schedule, verify-schedule, drill-schedule."},

	{"slave_data", slave, "The file on the standby's host has pgdata from it."},
	{"slave_bin", slave, "The file on the standby's host has bindir from it."},
	{"slave_stop_cmd", slave, "`supervisor restore` refuses a data directory that is in use: stop the server yourself, with this command."},
	{"slave_start_cmd", slave, "`supervisor restore --start` starts the server by its own programs, or start it yourself, with this command, after `restore --standby`."},
	{"slave_config_dir", slave, "restore puts back the configuration files that were in the data directory. Those elsewhere, as on Debian, stay as they are: see config_backup."},
	{"slave_pg_xlog", slave, "pg_wal is a directory in a restored cluster: move it there and link to it before the server is started."},
	{"backup_datadir", slave, "restore neither moves nor deletes an existing data directory. It needs an empty one, or with --delta writes only differing pages."},
	{"keep_backups", slave, "keep-backups is a number of backups."},
	{"archive_command", slave, "Nothing runs before a backup expires. To copy backups elsewhere, copy the spool, which is a complete archive in itself. (This is not the server's archive_command, which `supervisor setup` sets.)"},
	{"primary_conninfo", slave, "`supervisor restore --standby` writes the server's own primary_conninfo."},
}

const logs = "Nothing to do: messages go to standard error, so those of the service are in the journal, and those of archive-cmd and restore-cmd in the server's log."

// Parameters lists the names of all known parameters.
func Parameters() []string {
	var names []string
	for _, k := range known {
		names = append(names, k.name)
	}
	return names
}

// noteOf returns the note and the side of a parameter; ok reports whether it is known.
func noteOf(name string) (note string, of side, ok bool) {
	for _, k := range known {
		if k.name == name {
			return k.note, k.side, true
		}
	}
	return "", both, false
}
