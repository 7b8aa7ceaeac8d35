package restore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"walkeep/common/cli"
	"walkeep/common/pgdata"
)

// A serverConfig is what the server of a data directory is set to by files.
type serverConfig struct {
	file string // its postgresql.conf; empty if none was found
	// foreign says that the file says nothing of this data directory: it is that of another cluster, or of none.
	foreign  bool
	settings map[string]string // of that file and what it includes; by their names in lower case
	err      error             // of reading it
}

// confRoot is where Debian's tools keep the configuration of clusters, in VERSION/CLUSTER (PgCommon.pm of postgresql-common).
func confRoot() string {
	if root := os.Getenv("PG_CLUSTER_CONF_ROOT"); root != "" {
		return root
	}
	return "/etc/postgresql"
}

// configOf finds the configuration of a data directory: in it, or where Debian's tools have it. There it is that of the
// cluster with this data directory, or else the only one of this version.
func configOf(dir string, major int) serverConfig {
	if file := filepath.Join(dir, "postgresql.conf"); isFile(file) {
		c := readConfig(file)
		c.foreign = !c.leadsTo(dir)
		return c
	}
	files, _ := filepath.Glob(filepath.Join(confRoot(), strconv.Itoa(major), "*", "postgresql.conf"))
	for _, file := range files {
		if c := readConfig(file); c.settings["data_directory"] != "" && c.leadsTo(dir) {
			return c
		}
	}
	if len(files) != 1 {
		return serverConfig{}
	}
	c := readConfig(files[0])
	c.foreign = true
	return c
}

func isFile(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.Mode().IsRegular()
}

func readConfig(file string) serverConfig {
	c := pgdata.Conf{Settings: make(map[string]string)}
	err := c.Read(file)
	return serverConfig{file: file, settings: c.Settings, err: err}
}

// leadsTo reports whether a server with this configuration uses a data directory.
func (c serverConfig) leadsTo(dir string) bool {
	other := c.settings["data_directory"]
	if other == "" || filepath.Clean(other) == dir {
		return true
	}
	real, err := filepath.EvalSymlinks(other)
	return err == nil && real == dir
}

// arguments are the settings with which a server uses this configuration and this data directory, and writes to no place
// of the cluster that the configuration may be of.
func (c serverConfig) arguments(dir string) []string {
	var all []string
	set := func(name, value string) { all = append(all, "-c", name+"="+value) }
	at := filepath.Dir(c.file)
	if c.file != "" && at != dir {
		set("config_file", c.file)
		set("data_directory", dir)
		for _, s := range []setting{{"hba_file", "pg_hba.conf"}, {"ident_file", "pg_ident.conf"}} {
			if file := filepath.Join(at, s.value); c.settings[s.name] == "" && isFile(file) {
				set(s.name, file)
			}
		}
	} else if c.foreign {
		set("data_directory", dir)
	}
	if c.foreign {
		for _, s := range c.elsewhere(dir) {
			set(s.name, s.value)
		}
	}
	return all
}

// elsewhere are the settings by which a server writes outside of its data directory, with values with which it does not.
func (c serverConfig) elsewhere(dir string) []setting {
	var all []setting
	for _, s := range []setting{{"external_pid_file", ""}, {"log_directory", "log"}, {"stats_temp_directory", "pg_stat_tmp"}} {
		if at := c.settings[s.name]; filepath.IsAbs(at) && !within(dir, at) {
			all = append(all, s)
		}
	}
	return all
}

// ErrNoConfiguration says that a server cannot be started, because its configuration was not found.
var ErrNoConfiguration = errors.New("the backup has no postgresql.conf, and none was found for it")

// checkStartable refuses to restore what could not be started afterwards, where that is wanted.
func (r *restorer) checkStartable() error {
	if !r.Starts || r.item("postgresql.conf") != nil || configOf(r.Dir, r.m.Major).file != "" {
		return nil
	}
	return fmt.Errorf("%s: %w in %s", r.Dir, ErrNoConfiguration, filepath.Join(confRoot(), strconv.Itoa(r.m.Major)))
}

// StartLine is the command that starts the server of a restored directory, for a shell. bindir may be empty.
func StartLine(bindir string, o Options) string {
	words := []string{filepath.Join(bindir, "pg_ctl")}
	log := filepath.Join(o.Dir, LogName)
	odd := IsOdd(o.Dir)
	if odd {
		log = LogName
	} else {
		words = append(words, "-D", o.Dir)
	}
	words = append(words, "-l", log)
	if arguments := configOf(o.Dir, o.Plan.Backup.Major).arguments(o.Dir); len(arguments) > 0 {
		words = append(words, "-o", cli.Line(arguments...))
	}
	line := cli.Line(append(words, "start")...)
	if odd {
		line = cli.Line("cd", o.Dir) + " && PGDATA=$PWD " + line
	}
	return line
}
