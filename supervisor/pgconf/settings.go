package pgconf

import (
	"maps"
	"path/filepath"
	"strings"

	"walkeep/common/pgdata"
)

// A Setting is a line of a configuration file.
type Setting struct{ Name, Value string }

// Set returns the setting of a name to a value.
func Set(name, value string) Setting { return Setting{name, value} }

func (s Setting) String() string { return s.Name + " = " + Quote(s.Value) }

// Quote quotes a value for PostgreSQL's configuration files.
func Quote(value string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(value) + "'"
}

// IsOff reports whether the value of a boolean setting means off. An empty one does not.
func IsOff(value string) bool {
	switch strings.ToLower(value) {
	case "off", "false", "no", "0", "of", "f", "fa", "fal", "fals", "n":
		return true
	}
	return false
}

// Effective returns the settings that the server of a data directory starts with: those of postgresql.auto.conf
// override those of c.
func (c Config) Effective(dir string) map[string]string {
	set := maps.Clone(c.Settings)
	auto := read(filepath.Join(dir, AutoConf)) // an unreadable file leaves the rest
	if set == nil {
		set = make(map[string]string)
	}
	maps.Copy(set, auto.Settings)
	return set
}

// Parse reads the settings of a file's lines.
func Parse(lines []string) map[string]string {
	set := make(map[string]string)
	for _, line := range lines {
		if text := strings.TrimSpace(line); text != "" && text[0] != '#' {
			name, value := pgdata.Setting(text)
			set[strings.ToLower(name)] = value
		}
	}
	return set
}
