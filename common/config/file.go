package config

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/jessevdk/go-flags"
)

// Line is a line of a configuration file, which is read as this value.
func Line(key, value string) string {
	odd := func(r rune) bool { return r == utf8.RuneError || !strconv.IsPrint(r) }
	if value != strings.TrimSpace(value) || strings.HasPrefix(value, `"`) || strings.ContainsFunc(value, odd) {
		value = strconv.Quote(value)
	}
	return key + " = " + value
}

// ReadFile gives what a file alone says: its values, and which keys it has.
func ReadFile(path string) (c Config, keys map[string]bool, err error) {
	c = Default()
	all := flags.NewParser(nil, flags.None)
	if _, err := all.AddGroup(section, "", &c); err != nil {
		return c, nil, err
	}
	content, err := os.ReadFile(path)
	if err == nil {
		err = parseFile(all, content)
	}
	if err != nil {
		return c, nil, fmt.Errorf("read configuration: %w", describe(path, content, err))
	}
	keys = make(map[string]bool)
	for line := range strings.Lines(string(content)) {
		if key, _, ok := strings.Cut(strings.TrimPrefix(line, "\uFEFF"), "="); ok && !strings.ContainsAny(key, "[;#") {
			keys[strings.TrimSpace(key)] = true
		}
	}
	return c, keys, nil
}
