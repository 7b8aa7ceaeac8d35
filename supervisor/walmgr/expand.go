package walmgr

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// maxDepth is Python's limit of references within references. The other two limit the length of an expanded value and
// the number of references: each reference can double the length, or the work if the value is empty.
const (
	maxDepth      = 10
	maxExpanded   = 64 << 10
	maxReferences = 10_000
)

// names maps the names that a reference can use to their values.
type names map[string]string

// namesOf returns the names for a section, as skytools.Config builds them.
func namesOf(all []*section, s *section, o Options) names {
	n := make(names)
	literal := func(name, value string) { n[name] = strings.ReplaceAll(value, "%", "%%") }
	base := path.Base(o.File)
	job := strings.TrimSuffix(base, path.Ext(base))
	if job == "" { // Python has no ending in .ini
		job = base
	}
	literal("__name__", s.name)
	literal("job_name", job)
	literal("service_name", s.name)
	literal("host_name", o.Host)
	literal("config_dir", dirname(o.File))
	literal("config_file", o.File)
	for _, from := range []*section{find(all, defaults), s} {
		if from == nil {
			continue
		}
		for _, p := range from.parameters {
			n[p.name] = p.raw
		}
	}
	return n
}

// dirname is Python's: it returns an empty string for a name without a slash.
func dirname(file string) string {
	i := strings.LastIndexByte(file, '/')
	if i < 0 {
		return ""
	}
	if dir := strings.TrimRight(file[:i], "/"); dir != "" {
		return dir
	}
	return "/"
}

// expand replaces the references in a value.
func (n names) expand(raw string) (string, error) {
	e := expansion{names: n}
	if err := e.write(raw, 1); err != nil {
		return "", err
	}
	return e.String(), nil
}

// An expansion is the state of expanding one value.
type expansion struct {
	names
	strings.Builder
	references int
}

func (e *expansion) write(rest string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("its references go more than %d deep", maxDepth)
	}
	for rest != "" {
		if e.Len() > maxExpanded || e.references > maxReferences {
			return errors.New("its expansion is too large")
		}
		i := strings.IndexByte(rest, '%')
		if i < 0 {
			e.WriteString(rest)
			return nil
		}
		e.WriteString(rest[:i])
		rest = rest[i:]
		switch name, after, ok := reference(rest); {
		case strings.HasPrefix(rest, "%%"):
			e.WriteByte('%')
			rest = rest[2:]
		case !ok:
			return errors.New("it has a % that begins neither %% nor %(name)s")
		default:
			value, known := e.names[name]
			if !known {
				return fmt.Errorf("it refers to %q, which the file does not have", name)
			}
			e.references++
			if err := e.write(value, depth+1); err != nil {
				return err
			}
			rest = after
		}
	}
	return nil
}

// reference splits text that begins with %(name)s into the name and the rest.
func reference(text string) (name, after string, ok bool) {
	inner, ok := strings.CutPrefix(text, "%(")
	if !ok {
		return "", "", false
	}
	name, after, ok = strings.Cut(inner, ")")
	if !ok || name == "" || !strings.HasPrefix(after, "s") {
		return "", "", false
	}
	return strings.ToLower(name), after[1:], true
}
