package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"walkeep/common/pgdata"
	"walkeep/supervisor/pgconf"
)

// ownNames are the files of a data directory that are its host's configuration.
var ownNames = []string{"postgresql.conf", pgconf.AutoConf, "pg_hba.conf", "pg_ident.conf", "pg_hosts.conf", "conf.d", "server.crt", "server.key"}

// ownSettings are settings that name more of them.
var ownSettings = []string{"hba_file", "ident_file", "hosts_file", "ssl_cert_file", "ssl_key_file", "ssl_ca_file", "ssl_crl_file", "ssl_crl_dir", "ssl_dh_params_file", "log_directory"}

// dataNames are the names that servers of all versions use in a data directory.
var dataNames = []string{
	"base", "global", "pg_commit_ts", "pg_dynshmem", "pg_logical", "pg_multixact", "pg_notify", "pg_replslot", "pg_serial", "pg_snapshots",
	"pg_stat", "pg_stat_tmp", "pg_subtrans", "pg_tblspc", "pg_twophase", "pg_wal", "pg_xact", "PG_VERSION", "backup_label", "backup_manifest",
}

// findOwn finds the files to keep: with Keep the configuration of this host, which the backup has from another host,
// and the log, in which the reason for the restore may be found. After an interrupted restore, a file is kept only if
// it was to be kept at that restore's beginning: the restore may have written half of it. Without Keep, only the
// files of these that the backup lacks are kept: a server does not back up files behind a link, and does not start
// without them.
func (r *restorer) findOwn(left *note) {
	switch {
	case !r.Keep:
		r.host = r.listOwn()
	case left != nil:
		r.own = left.Own
	default:
		r.own = r.listOwn()
	}
}

// listOwn lists the files of the server's configuration.
func (r *restorer) listOwn() []string {
	var own []string
	add := func(file string) {
		if name := r.ownName(file); name != "" {
			own = append(own, name)
		}
	}
	for _, name := range ownNames {
		add(filepath.Join(r.Dir, name))
	}
	c := pgdata.Conf{Settings: map[string]string{"log_directory": "log"}}
	for _, name := range []string{"postgresql.conf", pgconf.AutoConf} {
		if err := c.Read(filepath.Join(r.Dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) && r.Keep {
			r.Notice("compare it with the backup's configuration", fmt.Sprintf("the server's configuration was not read to its end, and files that it includes may not have been kept: %v", err))
		}
	}
	for _, name := range ownSettings {
		if file := c.Settings[name]; file != "" {
			add(r.inData(file))
		}
	}
	for _, file := range slices.Concat(c.Files, r.tables(c)) {
		add(file)
	}
	slices.Sort(own)
	return slices.Compact(own)
}

// tables returns the authentication files, the files that they include since 16, and the certificates that
// pg_hosts.conf names since 19.
func (r *restorer) tables(c pgdata.Conf) []string {
	var all []string
	for setting, name := range map[string]string{"hba_file": "pg_hba.conf", "ident_file": "pg_ident.conf", "hosts_file": "pg_hosts.conf"} {
		t := pgdata.Conf{} // its lines are not settings, but its includes have the same form
		t.Read(r.inData(name))
		if file := c.Settings[setting]; file != "" {
			t.Read(r.inData(file))
		}
		all = append(all, t.Files...)
		if setting != "hosts_file" {
			continue
		}
		for _, file := range t.Files {
			content, _ := os.ReadFile(file)
			for line := range strings.Lines(string(content)) {
				line, _, _ = strings.Cut(line, "#")
				if words := strings.Fields(line); len(words) > 1 { // host, certificate, key, authority, commands
					for _, word := range words[1:min(4, len(words))] {
						all = append(all, r.inData(strings.Trim(word, `"`)))
					}
				}
			}
		}
	}
	return all
}

// inData returns the path of a file that is named relative to the data directory, or in full.
func (r *restorer) inData(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(r.Dir, name)
}

// ownName returns the name of a file in the data directory that is not the database's; empty for any other file.
func (r *restorer) ownName(file string) string {
	rel, err := filepath.Rel(r.Dir, file)
	if err != nil || !filepath.IsLocal(rel) || rel == "." {
		return ""
	}
	if _, err := os.Lstat(file); err != nil {
		return ""
	}
	rel = filepath.ToSlash(rel)
	if isData(rel) {
		return ""
	}
	return rel
}

// isData reports whether a path of the data directory is the database's own.
func isData(name string) bool {
	top, _, _ := strings.Cut(name, "/")
	return slices.Contains(dataNames, top)
}

// isOwn reports whether a path of the data directory is the host's own, or lies in a directory that is.
func (r *restorer) isOwn(name string) bool {
	for ; name != "." && name != "/"; name = path.Dir(name) {
		if slices.Contains(r.own, name) {
			return true
		}
	}
	return false
}

// leadsToOwn reports whether a directory contains something of the host's own.
func (r *restorer) leadsToOwn(dir string) bool {
	return slices.ContainsFunc(slices.Concat(r.own, r.host), func(name string) bool { return strings.HasPrefix(name, dir+"/") })
}
