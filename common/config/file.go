package config

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Line is a line of a configuration file, which is read as this value.
func Line(key, value string) string {
	odd := func(r rune) bool { return r == utf8.RuneError || !strconv.IsPrint(r) }
	if value != strings.TrimSpace(value) || strings.HasPrefix(value, `"`) || strings.ContainsFunc(value, odd) {
		value = strconv.Quote(value)
	}
	return key + " = " + value
}

// ReadFile returns the values of a file alone, and which keys its section [walkeep] has.
func ReadFile(path string) (c Config, keys map[string]bool, err error) {
	c = Default()
	content, err := readContent(path)
	if err == nil {
		l := loader{own: c.parts()}
		err = l.parse(&c, path, content)
	}
	if err != nil {
		return c, nil, fmt.Errorf("read configuration: %w", err)
	}
	keys = make(map[string]bool)
	rest, _, err := cutRepositories(content)
	if err != nil {
		return c, nil, err
	}
	for line := range strings.Lines(string(rest)) {
		if key, _, ok := cutPair(line); ok {
			keys[key] = true
		}
	}
	return c, keys, nil
}
