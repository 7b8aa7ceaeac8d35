package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"walkeep/common/durable"
	"walkeep/common/pgdata"
	"walkeep/supervisor/pgconf"
)

const (
	blockHead = "# walkeep restore: how to recover. The next restore replaces these lines, up to the end mark."
	blockTail = "# walkeep restore: end"
	disabled  = "# walkeep restore: of an earlier recovery: "
)

// oursNames are settings that postgresql.auto.conf must not have from an earlier recovery: only one of the targets
// may have a value, and a recovering server must not follow a standby's primary.
var oursNames = slices.Concat(targetNames, []string{"restore_command", "recovery_target_timeline", "recovery_target_inclusive",
	"recovery_target_action", "primary_conninfo", "primary_slot_name", "recovery_end_command", "archive_cleanup_command"})

// configure writes the recovery settings. The user's own files stay as they are.
func (r *restorer) configure() error {
	auto, err := os.ReadFile(filepath.Join(r.Dir, pgconf.AutoConf))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	lines := withoutBlock(auto)
	var c pgconf.Config
	if r.Bare {
		lines = nil
	} else {
		c = r.configuration()
	}
	set := make(map[string]string)
	maps.Copy(set, c.Settings)
	maps.Copy(set, pgconf.Parse(lines))
	var settings []pgconf.Setting
	if !r.Bare {
		settings = r.adapted(c, set)
	}
	if r.hasInPlace() {
		// It may have been set for a session only, and without it recovery stops at such a tablespace.
		settings = append(settings, pgconf.Set("allow_in_place_tablespaces", "on"))
	}
	if r.m.Major < 12 {
		if err := r.writeFile(pgconf.AutoConf, withBlock(lines, settings)); err != nil {
			return err
		}
		var b strings.Builder
		fmt.Fprintf(&b, "# Written by walkeep restore for backup %s.\n", r.m.ID)
		if r.Recovery.Standby != nil {
			fmt.Fprintln(&b, pgconf.Set("standby_mode", "on"))
		}
		for _, s := range r.settings(nil) {
			fmt.Fprintln(&b, s)
		}
		return r.writeFile("recovery.conf", []byte(b.String()))
	}
	elsewhere := make(map[string]bool)
	for name, value := range c.Settings {
		elsewhere[name] = value != ""
	}
	for _, s := range settings {
		delete(elsewhere, s.Name)
	}
	if err := r.writeFile(pgconf.AutoConf, withBlock(lines, append(settings, r.settings(elsewhere)...))); err != nil {
		return err
	}
	return r.writeFile(signals[r.Recovery.Standby != nil], nil)
}

// checkStartable refuses to restore a directory that could not be started, if it is to be started.
func (r *restorer) checkStartable() error {
	if !r.Starts || r.entry("postgresql.conf") != nil || pgconf.Find(r.Dir, r.m.Major).File != "" {
		return nil
	}
	return fmt.Errorf("%s: %w in %s", r.Dir, pgconf.ErrNone, filepath.Join(pgconf.Root(), strconv.Itoa(r.m.Major)))
}

// configuration finds and reads the server's configuration.
func (r *restorer) configuration() pgconf.Config {
	c := pgconf.Find(r.Dir, r.m.Major)
	switch {
	case c.File == "":
		r.Notice("put it into the data directory before the server is started", "the backup has no postgresql.conf: the server's configuration was outside of its data directory")
	case c.Err != nil:
		r.Notice("make sure that it sets no recovery_target of its own", fmt.Sprintf("the server's configuration was not read: %v", c.Err))
	}
	if c.File != "" && filepath.Dir(c.File) != r.Dir {
		r.Notice("", "the backup has no postgresql.conf; this one is used: "+c.File)
	}
	if other := c.Settings["data_directory"]; other != "" && c.Foreign {
		r.Notice("start the server with the printed command, which sets data_directory="+r.Dir,
			fmt.Sprintf("%s sets data_directory = %s: a server started with it alone would use that directory", c.File, pgconf.Quote(other)))
	}
	return c
}

// hasInPlace reports whether a tablespace lies in the data directory instead of at a link's target.
func (r *restorer) hasInPlace() bool {
	return slices.ContainsFunc(r.dirs, func(it *entry) bool { return it.root == r.roots[0] && path.Dir(it.Path) == "pg_tblspc" })
}

// withoutBlock returns the lines of postgresql.auto.conf without the block of an earlier restore, and without
// settings that contradict a recovery.
func withoutBlock(auto []byte) []string {
	var lines []string
	inBlock := false
	for line := range strings.Lines(string(auto)) {
		text := strings.TrimRight(line, "\r\n")
		switch {
		case text == blockHead:
			inBlock = true
			continue
		case text == blockTail:
			inBlock = false
			continue
		case inBlock:
			continue
		}
		if name, _ := pgdata.Setting(text); slices.Contains(oursNames, strings.ToLower(name)) {
			text = disabled + text
		}
		lines = append(lines, text)
	}
	return lines
}

// withBlock adds the block of this restore.
func withBlock(lines []string, settings []pgconf.Setting) []byte {
	var b strings.Builder
	for _, line := range lines {
		b.WriteString(line + "\n")
	}
	b.WriteString(blockHead + "\n")
	for _, s := range settings {
		b.WriteString(s.String() + "\n")
	}
	b.WriteString(blockTail + "\n")
	return []byte(b.String())
}

// writeFile writes a small file of the data directory. It replaces an existing file atomically, because with Keep
// that may be the only copy.
func (r *restorer) writeFile(name string, content []byte) error {
	mode := fs.FileMode(0o600)
	if r.groupAccess() {
		mode = 0o640
	}
	return durable.WriteFileMode(filepath.Join(r.Dir, name), content, mode)
}
