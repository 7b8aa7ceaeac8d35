// Package pgdata reads what a PostgreSQL data directory says without its server: whose cluster it is, how it is being
// recovered, and which files wait to be archived.
package pgdata

import (
	"bufio"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"walkeep/common/durable"
	"walkeep/common/wal"
)

// Of returns the data directory that a file in pg_wal belongs to. PostgreSQL names such files relative to its working
// directory, which is the data directory, so that it is "." there.
func Of(walFile string) string { return filepath.Dir(filepath.Dir(walFile)) }

// Standby reports whether the data directory is that of a standby, for which recovery does not end: standby.signal, or
// up to PostgreSQL 11 standby_mode in recovery.conf.
func Standby(dir string) bool {
	if _, err := os.Stat(filepath.Join(dir, "standby.signal")); err == nil {
		return true
	}
	f, err := durable.Open(filepath.Join(dir, "recovery.conf"))
	if err != nil {
		return false
	}
	defer f.Close()
	standby := false // as in PostgreSQL, the last setting counts
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, value := Setting(lines.Text())
		if strings.EqualFold(name, "standby_mode") {
			standby = isTrue(value)
		}
	}
	return standby
}

// Setting splits a line of a PostgreSQL configuration file: name, an optional equals sign, a value that may be quoted.
func Setting(line string) (name, value string) {
	line = strings.TrimSpace(line)
	end := strings.IndexAny(line, " \t='")
	if end < 0 {
		return line, ""
	}
	name, value = line[:end], strings.TrimSpace(line[end:])
	value = strings.TrimSpace(strings.TrimPrefix(value, "="))
	if quoted, ok := strings.CutPrefix(value, "'"); ok {
		return name, unquote(quoted)
	}
	value, _, _ = strings.Cut(value, "#")
	return name, strings.TrimSpace(value)
}

// unquote reads a quoted value up to the quote that ends it (DeescapeQuotedString in src/backend/utils/misc/guc-file.l).
func unquote(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch next := i + 1; {
		case s[i] == '\'' && (next == len(s) || s[next] != '\''):
			return b.String()
		case (s[i] == '\'' || s[i] == '\\') && next < len(s):
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// isTrue reads a boolean as PostgreSQL does: true, yes, on, 1, and what begins one of them unambiguously.
func isTrue(value string) bool {
	value = strings.ToLower(value)
	return value == "1" || value == "on" ||
		value != "" && (strings.HasPrefix("true", value) || strings.HasPrefix("yes", value))
}

// Ready lists the files in walDir that wait to be archived, in PostgreSQL's order: history files first, then by name.
func Ready(walDir string) ([]wal.Name, error) {
	d, err := os.Open(filepath.Join(walDir, "archive_status"))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	files, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var ready []wal.Name
	for _, file := range files {
		if base, ok := strings.CutSuffix(file, ".ready"); ok {
			if name, err := wal.ParseName(base); err == nil {
				ready = append(ready, name)
			}
		}
	}
	slices.SortFunc(ready, archivingOrder)
	return ready, nil
}

func archivingOrder(a, b wal.Name) int {
	if ha, hb := a.Kind == wal.KindHistory, b.Kind == wal.KindHistory; ha != hb {
		if ha {
			return -1
		}
		return 1
	}
	return wal.Compare(a, b)
}
