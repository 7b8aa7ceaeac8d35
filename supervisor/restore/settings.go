package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"walkeep/common/durable"
	"walkeep/common/pgdata"
)

const (
	autoConf  = "postgresql.auto.conf"
	blockHead = "# walkeep restore: how to recover. The next restore replaces these lines, up to the end mark."
	blockTail = "# walkeep restore: end"
	disabled  = "# walkeep restore: of an earlier recovery: "
)

// oursNames are settings that postgresql.auto.conf must not have from an earlier recovery: of the targets only one may have
// a value, and what a standby connects to is nothing that a recovering server should follow.
var oursNames = slices.Concat(targetNames, []string{"restore_command", "recovery_target_timeline", "recovery_target_inclusive",
	"recovery_target_action", "primary_conninfo", "primary_slot_name", "recovery_end_command", "archive_cleanup_command"})

// configure writes the recovery settings. The user's own files stay as they are.
func (r *restorer) configure() error {
	if r.m.Major < 12 {
		var b strings.Builder
		fmt.Fprintf(&b, "# Written by walkeep restore for backup %s.\n", r.m.ID)
		if r.Recovery.Standby != nil {
			fmt.Fprintln(&b, setting{"standby_mode", "on"})
		}
		for _, s := range r.settings(nil) {
			fmt.Fprintln(&b, s)
		}
		return r.writeFile("recovery.conf", []byte(b.String()))
	}
	auto, err := fs.ReadFile(r.places[0].root.FS(), autoConf)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	elsewhere := make(map[string]bool)
	c := pgdata.Conf{}
	if err := c.Read(filepath.Join(r.Dir, "postgresql.conf")); !exists(filepath.Join(r.Dir, "postgresql.conf")) {
		r.Notice("put it into the data directory, or name it when the server is started (-c config_file=...)",
			"the backup has no postgresql.conf: the server's configuration lies elsewhere")
	} else if err != nil {
		r.Notice("see that it sets no recovery_target of its own", fmt.Sprintf("the server's configuration was not read: %v", err))
	}
	for name, value := range c.Settings {
		elsewhere[name] = value != ""
	}
	if dir := c.Settings["data_directory"]; dir != "" && filepath.Clean(dir) != r.Dir {
		r.Notice("remove data_directory from postgresql.conf before the server is started",
			fmt.Sprintf("postgresql.conf says data_directory = '%s': a server started with it would use that directory", dir))
	}
	settings := r.settings(elsewhere)
	if r.hasInPlace() {
		// It may have been set for a session alone, and without it recovery does not come past such a tablespace.
		settings = append([]setting{{"allow_in_place_tablespaces", "on"}}, settings...)
	}
	if err := r.writeFile(autoConf, withBlock(auto, settings)); err != nil {
		return err
	}
	return r.writeFile(signals[r.Recovery.Standby != nil], nil)
}

// hasInPlace reports whether a tablespace lies in the data directory instead of where a link leads.
func (r *restorer) hasInPlace() bool {
	return slices.ContainsFunc(r.dirs, func(it *item) bool { return it.place == r.places[0] && path.Dir(it.Path) == "pg_tblspc" })
}

// withBlock replaces the block of an earlier restore, and disables what could contradict it.
func withBlock(auto []byte, settings []setting) []byte {
	var b strings.Builder
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
			b.WriteString(disabled)
		}
		b.WriteString(text + "\n")
	}
	b.WriteString(blockHead + "\n")
	for _, s := range settings {
		b.WriteString(s.String() + "\n")
	}
	b.WriteString(blockTail + "\n")
	return []byte(b.String())
}

// writeFile writes a small file of the data directory. It replaces at once what is there, which with Keep may be the only
// copy.
func (r *restorer) writeFile(name string, content []byte) error {
	mode := fs.FileMode(0o600)
	if r.groupAccess() {
		mode = 0o640
	}
	return durable.WriteFileMode(filepath.Join(r.Dir, name), content, mode)
}
