package pgtest

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
)

// recoverySettings are those of recovery.conf up to version 11, by their names since 12; standby_mode is separate.
var recoverySettings = []string{
	"archive_cleanup_command", "primary_conninfo", "primary_slot_name", "promote_trigger_file", "recovery_end_command",
	"recovery_min_apply_delay", "recovery_target", "recovery_target_action", "recovery_target_inclusive",
	"recovery_target_lsn", "recovery_target_name", "recovery_target_time", "recovery_target_timeline",
	"recovery_target_xid", "restore_command",
}

// Recover makes the next start an archive recovery, which opens the database when it is over. The settings have the names
// they have since version 12 (promote_trigger_file is translated); up to 11 the recovery settings among them go to
// recovery.conf and the others to postgresql.conf, since 12 all go to postgresql.auto.conf. Recovery settings of an
// earlier call are dropped, those in postgresql.conf stay.
//
// recovery_target_timeline is "latest" by default since 12, before that the timeline of the backup.
func (c *Cluster) Recover(settings map[string]string) error {
	return c.recover("recovery.signal", settings)
}

// Standby is Recover for a server that replays until it is promoted.
func (c *Cluster) Standby(settings map[string]string) error {
	return c.recover("standby.signal", settings)
}

func (c *Cluster) recover(signal string, settings map[string]string) error {
	for _, name := range []string{"recovery.conf", "recovery.signal", "standby.signal"} {
		if err := os.Remove(c.Path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("set up recovery: %w", err)
		}
	}
	var err error
	if c.Major <= 11 {
		err = c.writeRecoveryConf(signal == "standby.signal", settings)
	} else {
		err = c.writeAutoConf(settings)
		if err == nil {
			err = c.writeFile(signal, nil)
		}
	}
	if err != nil {
		return fmt.Errorf("set up recovery: %w", err)
	}
	return nil
}

func (c *Cluster) writeRecoveryConf(standby bool, settings map[string]string) error {
	recovery := make(map[string]string)
	rest := maps.Clone(settings)
	for _, name := range recoverySettings {
		value, ok := settings[name]
		if !ok {
			continue
		}
		delete(rest, name)
		if name == "promote_trigger_file" {
			name = "trigger_file"
		}
		recovery[name] = value
	}
	if standby {
		recovery["standby_mode"] = "on"
	}
	if err := c.Configure(rest); err != nil {
		return err
	}
	return c.writeFile("recovery.conf", []byte(settingLines(recovery)))
}

func (c *Cluster) writeAutoConf(settings map[string]string) error {
	text, err := os.ReadFile(c.Path("postgresql.auto.conf"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var keep strings.Builder
	for line := range strings.Lines(string(text)) {
		name, _, _ := strings.Cut(line, "=")
		name = strings.TrimSpace(name)
		if _, set := settings[name]; set || slices.Contains(recoverySettings, name) {
			continue
		}
		keep.WriteString(strings.TrimSuffix(line, "\n") + "\n")
	}
	return c.writeFile("postgresql.auto.conf", []byte(keep.String()+settingLines(settings)))
}

// writeFile writes a file of the data directory, for the servers' user.
func (c *Cluster) writeFile(name string, data []byte) error {
	if err := os.WriteFile(c.Path(name), data, 0o600); err != nil {
		return err
	}
	return giveToServer(c.Path(name))
}
