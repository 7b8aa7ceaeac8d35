// Package pgconf reads and writes the files that configure a PostgreSQL server: it finds those that a data
// directory's server reads, and returns their settings. It quotes and parses the commands in archive_command and
// restore_command.
//
// Debian's tools keep a cluster's configuration outside of its data directory. A restored directory uses it, too, but
// then it can be that of another cluster, so that a server must be given each place that it may use.
//
// The functions read files and keep no state; they may be called concurrently.
package pgconf

import (
	"os"
	"path/filepath"
	"strconv"

	"walkeep/common/cli"
	"walkeep/common/pgdata"
)

// ErrNone reports that no configuration was found. A server cannot be started without one.
var ErrNone = cli.NewError("the backup has no postgresql.conf, and none was found for it",
	"create a cluster for the directory, whose configuration is then used (pg_createcluster), or restore without --start, put a postgresql.conf into the directory, and start the server by hand")

// A Config is the configuration of a data directory's server: its postgresql.conf and the files that this includes.
type Config struct {
	File string // postgresql.conf; empty if none was found
	// Foreign reports whether the file names another data directory or none, so that it belongs to another cluster,
	// or was found by its version.
	Foreign  bool
	Settings map[string]string // by their names in lower case
	Err      error             // why the file could not be read; nil if it could
}

// AutoConf is the file in the data directory that ALTER SYSTEM writes.
const AutoConf = "postgresql.auto.conf"

// Root returns the directory in which Debian's tools keep the configuration of clusters, in VERSION/CLUSTER
// (PgCommon.pm of postgresql-common).
func Root() string {
	if root := os.Getenv("PG_CLUSTER_CONF_ROOT"); root != "" {
		return root
	}
	return "/etc/postgresql"
}

// Find finds the configuration of a data directory: in it, or in Debian's place. There it is that of the cluster with
// this data directory, or else the only one of this version.
func Find(dir string, major int) Config {
	if file := filepath.Join(dir, "postgresql.conf"); isFile(file) {
		c := read(file)
		c.Foreign = !c.leadsTo(dir)
		return c
	}
	files, _ := filepath.Glob(filepath.Join(Root(), strconv.Itoa(major), "*", "postgresql.conf"))
	for _, file := range files {
		if c := read(file); c.Settings["data_directory"] != "" && c.leadsTo(dir) {
			return c
		}
	}
	if len(files) != 1 {
		return Config{}
	}
	c := read(files[0])
	c.Foreign = true
	return c
}

func isFile(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.Mode().IsRegular()
}

func read(file string) Config {
	c := pgdata.Conf{Settings: make(map[string]string)}
	err := c.Read(file)
	return Config{File: file, Settings: c.Settings, Err: err}
}

// leadsTo reports whether a server with this configuration uses a data directory.
func (c Config) leadsTo(dir string) bool {
	other := c.Settings["data_directory"]
	if other == "" || filepath.Clean(other) == dir {
		return true
	}
	real, err := filepath.EvalSymlinks(other)
	return err == nil && real == dir
}

// Arguments returns the command-line settings with which a server uses this configuration and this data directory,
// and writes to no place of the cluster that the configuration may belong to.
func (c Config) Arguments(dir string) []string {
	var all []string
	set := func(name, value string) { all = append(all, "-c", name+"="+value) }
	at := filepath.Dir(c.File)
	if c.File != "" && at != dir {
		set("config_file", c.File)
		set("data_directory", dir)
		for _, s := range []Setting{{"hba_file", "pg_hba.conf"}, {"ident_file", "pg_ident.conf"}} {
			if file := filepath.Join(at, s.Value); c.Settings[s.Name] == "" && isFile(file) {
				set(s.Name, file)
			}
		}
	} else if c.Foreign {
		set("data_directory", dir)
	}
	if c.Foreign {
		for _, s := range c.Elsewhere(dir) {
			set(s.Name, s.Value)
		}
	}
	return all
}

// Elsewhere returns the settings by which a server writes outside of its data directory, with values that prevent it.
func (c Config) Elsewhere(dir string) []Setting {
	var all []Setting
	for _, s := range []Setting{{"external_pid_file", ""}, {"log_directory", "log"}, {"stats_temp_directory", "pg_stat_tmp"}} {
		at := c.Settings[s.Name]
		if rel, err := filepath.Rel(dir, at); filepath.IsAbs(at) && (err != nil || !filepath.IsLocal(rel)) {
			all = append(all, s)
		}
	}
	return all
}
