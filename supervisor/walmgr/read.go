package walmgr

import (
	"bytes"
	"fmt"
	"strings"
)

// maxSize is far more than a configuration file has.
const maxSize = 1 << 20

// A parameter is one of a file.
type parameter struct {
	name    string
	raw     string // not expanded; the lines of one that goes on are divided by \n
	line    int    // of the file, from 1 on
	dropped []int  // lines that gave it before, and do not count
}

// A section is the parameters below one header, and below others of the same name.
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

// set adds a parameter, or gives it another value.
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

// defaults is the section that holds for all others.
const defaults = "DEFAULT"

// parse reads a file as ConfigParser does. Errors name the line, but not what it holds, which may be a password.
func parse(content []byte) ([]*section, error) {
	if len(content) > maxSize {
		return nil, fmt.Errorf("it has more than %d bytes", maxSize)
	}
	if bytes.IndexByte(content, 0) >= 0 {
		return nil, fmt.Errorf("it is no text")
	}
	content = bytes.TrimPrefix(content, []byte("\uFEFF"))
	var all []*section
	var in *section
	var last *parameter // that an indented line goes on with
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
			return nil, fmt.Errorf("line %d: an indented line goes on with a parameter, but none is before it in [%s]", number, visible(in.name))
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

// pair divides a line into name and value.
func pair(line string) (name, value string, ok bool) {
	sign := strings.IndexAny(line, ":=")
	if sign < 1 {
		return "", "", false
	}
	name, value = strings.ToLower(trim(line[:sign])), line[sign+1:]
	value = strings.TrimLeft(value, space)
	// Only the first semicolon counts, as there.
	if i := strings.IndexByte(value, ';'); i > 0 && isSpace(value[i-1]) {
		value = value[:i]
	}
	if value = trim(value); value == `""` {
		value = ""
	}
	return name, value, true
}

// space is what a string of bytes counts as such in Python, and what libpq does.
const space = " \t\n\r\v\f"

func isSpace(c byte) bool { return strings.IndexByte(space, c) >= 0 }

func trim(text string) string { return strings.Trim(text, space) }

// isRemark tells whether a line is a comment as DOS wrote them.
func isRemark(line string) bool {
	return (line[0] == 'r' || line[0] == 'R') && strings.EqualFold(strings.Fields(line)[0], "rem")
}
