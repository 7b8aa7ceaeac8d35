package pgserver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// A Setting is one of the server's, as it is and as it will be.
type Setting struct {
	Name    string
	Running string // what the server works with
	// Next is the value that takes effect after the server has read its files again, and after a restart if the setting
	// needs one.
	Next string
	// Auto is the value in postgresql.auto.conf, which ALTER SYSTEM writes; nil if it has none.
	Auto *string
	// Fixed reports that the server's command line sets it, so that files cannot change it.
	Fixed   bool
	Restart bool // it is read at the server's start alone
}

// Pending reports whether a restart is needed for the setting.
func (s Setting) Pending() bool { return s.Restart && s.Running != s.Next }

// autoConf is the file that ALTER SYSTEM writes, as the end of its path.
const autoConf = "postgresql.auto.conf"

// Settings asks for settings by their names; those that this version does not have are left out. It needs the right to
// execute pg_show_all_file_settings, which superusers have.
func (c *Conn) Settings(ctx context.Context, names ...string) (map[string]Setting, error) {
	found := make(map[string]Setting)
	rows, err := c.Query(ctx, `SELECT name, setting, coalesce(boot_val, ''), source IN ('command line', 'environment variable'), context = 'postmaster'
		FROM pg_settings WHERE name = ANY($1)`, names)
	if err != nil {
		return nil, fmt.Errorf("ask for settings: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var s Setting
		var initial string
		if err := rows.Scan(&s.Name, &s.Running, &initial, &s.Fixed, &s.Restart); err != nil {
			return nil, fmt.Errorf("ask for settings: %w", err)
		}
		s.Next = s.Running
		if !s.Fixed {
			s.Next = initial
		}
		found[s.Name] = s
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("ask for settings: %w", err)
	}
	// The last value in the files takes effect.
	rows, err = c.Query(ctx, `SELECT lower(name), coalesce(setting, ''), coalesce(sourcefile, '') FROM pg_file_settings WHERE lower(name) = ANY($1) ORDER BY seqno`, names)
	if err != nil {
		return nil, fmt.Errorf("ask for the settings in the server's files: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var name, value, file string
		if err := rows.Scan(&name, &value, &file); err != nil {
			return nil, fmt.Errorf("ask for the settings in the server's files: %w", err)
		}
		s, ok := found[name]
		if !ok {
			continue
		}
		if strings.HasSuffix(file, "/"+autoConf) {
			s.Auto = &value
		}
		if !s.Fixed {
			s.Next = normal(name, value)
		}
		found[name] = s
	}
	return found, rows.Err()
}

// normal returns a value as the server shows it. PostgreSQL accepts several words for some values.
func normal(name, value string) string {
	word := strings.ToLower(strings.TrimSpace(value))
	switch name {
	case "archive_mode":
		switch word {
		case "true", "yes", "1", "on":
			return "on"
		case "false", "no", "0", "off":
			return "off"
		}
		return word
	case "wal_level":
		if word == "archive" || word == "hot_standby" {
			return "replica"
		}
		return word
	case "max_wal_senders", "max_replication_slots", "max_connections", "superuser_reserved_connections", "reserved_connections":
		return strings.TrimSpace(value)
	}
	return value
}

// AlterSystem sets a setting in postgresql.auto.conf. The server acts on it when it is reloaded, or restarted.
func (c *Conn) AlterSystem(ctx context.Context, name, value string) error {
	if _, err := c.Exec(ctx, "ALTER SYSTEM SET "+name+" = "+Literal(value)); err != nil {
		return fmt.Errorf("set %s: %w", name, err)
	}
	return nil
}

// ResetSystem removes a setting from postgresql.auto.conf.
func (c *Conn) ResetSystem(ctx context.Context, name string) error {
	if _, err := c.Exec(ctx, "ALTER SYSTEM RESET "+name); err != nil {
		return fmt.Errorf("reset %s: %w", name, err)
	}
	return nil
}

// Literal quotes a text for SQL, for either value of standard_conforming_strings.
func Literal(text string) string {
	quoted := "'" + strings.ReplaceAll(text, "'", "''") + "'"
	if strings.Contains(text, `\`) {
		quoted = "E" + strings.ReplaceAll(quoted, `\`, `\\`)
	}
	return quoted
}

// Identifier quotes a name for SQL.
func Identifier(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// ErrNotReloaded reports that the server has not read its configuration files again although it was told to.
var ErrNotReloaded = errors.New("the server has not read its configuration files again")

// reloadPatience is how long a server may take to reload.
const reloadPatience = 10 * time.Second

// Reload makes the server read its configuration files again, and waits until this session has seen it. A file that the
// server cannot read, because of an error that somebody made elsewhere in it, is [ErrNotReloaded].
func (c *Conn) Reload(ctx context.Context) error {
	var before, now time.Time
	if err := c.QueryRow(ctx, `SELECT pg_conf_load_time()`).Scan(&before); err != nil {
		return fmt.Errorf("reload the server: %w", err)
	}
	if _, err := c.Exec(ctx, `SELECT pg_reload_conf()`); err != nil {
		return fmt.Errorf("reload the server: %w", err)
	}
	for end := time.Now().Add(reloadPatience); time.Now().Before(end); {
		if err := c.QueryRow(ctx, `SELECT pg_conf_load_time()`).Scan(&now); err != nil {
			return fmt.Errorf("reload the server: %w", err)
		}
		if now.After(before) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return ErrNotReloaded
}

// ShutdownAdvice returns the recommended value of wal_sender_shutdown_timeout for a server with a stream; empty if the
// setting is right, or the server does not have it (before 19, when a shutdown always waits until the stream has all
// WAL).
func (c *Conn) ShutdownAdvice(ctx context.Context) (string, error) {
	var timeout string
	if err := c.QueryRow(ctx, `SELECT coalesce(current_setting('wal_sender_shutdown_timeout', true), '')`).Scan(&timeout); err != nil {
		return "", fmt.Errorf("ask for wal_sender_shutdown_timeout: %w", err)
	}
	const want = "wal_sender_shutdown_timeout = '1min', say, lets the server "
	switch timeout {
	case "-1":
		return want + "shut down although a stream does not continue; what the stream lacks then is archived, or streamed after the next start", nil
	case "0":
		return want + "wait for the stream when it shuts down; with 0 it does not, and what the stream lacks then is streamed after the next start only", nil
	}
	return "", nil
}
