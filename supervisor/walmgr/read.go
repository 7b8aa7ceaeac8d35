package walmgr

import (
	"bytes"
	"fmt"
	"strings"
)

// maxSize is a limit in bytes, far above the size of a configuration file.
const maxSize = 1 << 20

// A parameter is a name of a file and its value.
type parameter struct {
	name    string
	raw     string // not expanded; continuation lines are separated by \n
	line    int    // the line number, from 1
	dropped []int  // earlier lines with the same name, whose values are ignored
}

// A section is the parameters below all headers of one name.
type section struct {
	name       string
	parameters []*parameter
}

func (s *section) find(name string) *parameter {
	if s == nil {
		return nil
	}
	for _, p := range s.parameters {
		if p.name == name {
			return p
		}
	}
	return nil
}

// set adds a parameter, or replaces its value.
func (s *section) set(name, raw string, line int) *parameter {
	p := s.find(name)
	if p == nil {
		p = &parameter{name: name}
		s.parameters = append(s.parameters, p)
	} else {
		p.dropped = append(p.dropped, p.line)
	}
	p.raw, p.line = raw, line
	return p
}

// defaults is the section whose parameters apply to all others.
const defaults = "DEFAULT"

// parse reads a file as ConfigParser does. Errors name the line, but do not quote it, because it may contain a
// password.
func parse(content []byte) ([]*section, error) {
	if len(content) > maxSize {
		return nil, fmt.Errorf("it has more than %d bytes", maxSize)
	}
	if bytes.IndexByte(content, 0) >= 0 {
		return nil, fmt.Errorf("it is not text")
	}
	content = bytes.TrimPrefix(content, []byte("\uFEFF"))
	var all []*section
	var in *section
	var last *parameter // the parameter that an indented line continues
	for i, line := range strings.Split(string(content), "\n") {
		number, text := i+1, trim(line)
		switch {
		case text == "" || line[0] == '#' || line[0] == ';' || isRemark(line):
		case isSpace(line[0]) && last != nil:
			last.raw += "\n" + text
		case line[0] == '[' && strings.IndexByte(line, ']') > 1:
			name := line[1:strings.IndexByte(line, ']')]
			if in = find(all, name); in == nil {
				in = &section{name: name}
				all = append(all, in)
			}
			last = nil
		case in == nil:
			return nil, fmt.Errorf("line %d: there is no section before it", number)
		case isSpace(line[0]):
			return nil, fmt.Errorf("line %d: an indented line continues a parameter, but there is none before it in [%s]", number, visible(in.name))
		default:
			name, value, ok := pair(line)
			if !ok {
				return nil, fmt.Errorf("line %d is neither a parameter nor a section nor a comment", number)
			}
			last = in.set(name, value, number)
		}
	}
	return all, nil
}

func find(all []*section, name string) *section {
	for _, s := range all {
		if s.name == name {
			return s
		}
	}
	return nil
}

// pair splits a line into name and value.
func pair(line string) (name, value string, ok bool) {
	sign := strings.IndexAny(line, ":=")
	if sign < 1 {
		return "", "", false
	}
	name, value = strings.ToLower(trim(line[:sign])), line[sign+1:]
	value = strings.TrimLeft(value, space)
	// ConfigParser, too, looks only at the first semicolon.
	if i := strings.IndexByte(value, ';'); i > 0 && isSpace(value[i-1]) {
		value = value[:i]
	}
	if value = trim(value); value == `""` {
		value = ""
	}
	return name, value, true
}

// space lists the bytes that are whitespace for Python's byte strings and for libpq.
const space = " \t\n\r\v\f"

func isSpace(c byte) bool { return strings.IndexByte(space, c) >= 0 }

func trim(text string) string { return strings.Trim(text, space) }

// isRemark reports whether a line is a REM comment.
func isRemark(line string) bool {
	return (line[0] == 'r' || line[0] == 'R') && strings.EqualFold(strings.Fields(line)[0], "rem")
}
