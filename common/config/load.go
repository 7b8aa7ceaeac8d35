package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"
	"syscall"

	"github.com/jessevdk/go-flags"
)

// A loader reads the file and the environment for a command.
type loader struct {
	own      []any  // the parts of the configuration whose keys the command uses
	tolerant bool   // a line that no program understands, or a file that cannot be read, is a problem and no error
	missing  bool   // a file that is named can be missing
	infix    string // of environment variables: behind WALKEEP_, before the key

	problems   []string // what is wrong and does not concern the command
	unreadable error    // why the file could not be read
	unclear    error    // a line that may have begun the section of a repository, or belonged to one
}

// optionsOf finds the options of some parts by their keys.
func optionsOf(parts ...any) (*flags.Parser, error) {
	p := flags.NewParser(nil, flags.None)
	for _, part := range parts {
		if _, err := p.AddGroup(section, "", part); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// readFile fills c from the configuration file.
func (l *loader) readFile(c *Config, file string) error {
	path, wanted := Find(file)
	content, err := readContent(path)
	if errors.Is(err, fs.ErrNotExist) && (l.missing || !wanted) {
		return nil
	}
	if err == nil {
		err = l.parse(c, path, content)
	} else if l.tolerant {
		l.unreadable = fmt.Errorf("read configuration: %w", err)
		l.problems = append(l.problems, "the configuration file counts as empty: "+err.Error())
		return nil
	}
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	return nil
}

// readContent reads a file. Windows reports in no clear words that it is a directory.
func readContent(path string) ([]byte, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		if info, bad := os.Stat(path); bad == nil && info.IsDir() {
			err = &fs.PathError{Op: "read", Path: path, Err: syscall.EISDIR}
		}
	}
	return content, err
}

// parse fills c from the content of the configuration file.
func (l *loader) parse(c *Config, path string, content []byte) error {
	rest, blocks, err := cutRepositories(content)
	if err == nil {
		err = l.parseSection(c, path, rest)
	}
	if err == nil {
		err = l.readRepositories(c, path, content, blocks)
	}
	return describe(path, content, err)
}

// parseSection fills target, a struct of options, from the lines of one section, line by line where it has to.
func (l *loader) parseSection(target any, path string, content []byte) error {
	lines, wrong, err := understood(content, target)
	if err != nil {
		return err
	}
	for _, e := range wrong {
		if !l.tolerant {
			return e
		}
		l.problem(path, content, e)
		if l.unclear == nil && mayBeRepository(lineOf(content, e)) {
			l.unclear = describe(path, content, e)
		}
	}
	own, err := optionsOf(l.own...)
	if err != nil {
		return err
	}
	seen := make(map[string]int) // line
	for i, line := range lines {
		key, _, pair := cutPair(line)
		if !pair {
			continue
		}
		number, foreign := i+1, own.FindOptionByLongName(key) == nil
		e := tryLine(line, number, target)
		if e == nil && seen[key] != 0 {
			e = &flags.IniError{LineNumber: uint(number), Message: fmt.Sprintf("%s is given again, after line %d", key, seen[key])}
			foreign = foreign && l.tolerant
		}
		seen[key] = number
		if e != nil && foreign {
			l.problem(path, content, e)
			lines[i] = ""
		} else if e != nil {
			return e
		}
	}
	all, err := optionsOf(target)
	if err != nil {
		return err
	}
	return flags.NewIniParser(all).Parse(strings.NewReader(strings.Join(lines, "\n")))
}

func (l *loader) problem(path string, content []byte, err error) {
	l.problems = append(l.problems, describe(path, content, err).Error())
}

// empty returns a new struct of the type that target points to.
func empty(target any) any { return reflect.New(reflect.TypeOf(target).Elem()).Interface() }

// tryLine returns what is wrong with a line that has a key of target; nil if nothing is.
func tryLine(line string, number int, target any) error {
	all, err := optionsOf(empty(target))
	if err != nil {
		return err
	}
	err = flags.NewIniParser(all).Parse(strings.NewReader(line))
	var e *flags.IniError
	if errors.As(err, &e) {
		e.LineNumber = uint(number)
	}
	return err
}

// understood returns the lines of a section, empty where they are none that a program understands, and what is wrong with
// those. The keys are those of target.
func understood(content []byte, target any) (lines []string, wrong []*flags.IniError, err error) {
	known, err := optionsOf(empty(target))
	if err != nil {
		return nil, nil, err
	}
	lines = strings.Split(string(content), "\n")
	foreign := false // in a section of which nothing is known
	for i, line := range lines {
		line = strings.TrimSpace(line)
		key, _, pair := cutPair(line)
		problem := ""
		switch {
		case line == "" || line[0] == ';' || line[0] == '#':
			continue
		case line[0] == '[':
			name, whole := strings.CutSuffix(line[1:], "]")
			if foreign = !whole || strings.TrimSpace(name) != section; !foreign {
				continue
			}
			if problem = fmt.Sprintf("unknown section %s: there are [%s] and [repository NAME]", line, section); !whole {
				problem, foreign = "malformed section header", false
			}
		case foreign: // what belongs to it was said with it
		case !pair:
			problem = fmt.Sprintf("malformed key=value (%s)", line)
		case known.FindOptionByLongName(key) == nil || known.FindOptionByLongName(key).Field().Tag.Get("no-ini") != "":
			problem = fmt.Sprintf("unknown option: %s", key)
		default:
			continue
		}
		lines[i] = ""
		if problem != "" {
			wrong = append(wrong, &flags.IniError{LineNumber: uint(i + 1), Message: problem})
		}
	}
	return lines, wrong, nil
}

// lineOf returns the line that an error is about.
func lineOf(content []byte, e *flags.IniError) string {
	return strings.TrimSpace(strings.Split(string(content), "\n")[e.LineNumber-1])
}

// mayBeRepository reports whether a line that is none of the section [walkeep] may have been meant for a repository: as the
// beginning of its section, or as the key without which it is none.
func mayBeRepository(line string) bool {
	key, _, _ := cutPair(line)
	return strings.HasPrefix(line, "[") || key == "url"
}

// cutPair splits a line that gives a key its value.
func cutPair(line string) (key, value string, ok bool) {
	line = strings.TrimSpace(line)
	if line == "" || strings.ContainsRune("[;#", rune(line[0])) {
		return "", "", false
	}
	key, value, ok = strings.Cut(line, "=")
	return strings.TrimSpace(key), strings.TrimSpace(value), ok
}

// describe makes go-flags' error name the file, the line and the line's key in the usual way.
func describe(path string, content []byte, err error) error {
	var e *flags.IniError
	if !errors.As(err, &e) {
		return err
	}
	message := e.Message
	if lines := strings.Split(string(content), "\n"); 0 < e.LineNumber && int(e.LineNumber) <= len(lines) {
		if key, _, ok := strings.Cut(lines[e.LineNumber-1], "="); ok && !strings.Contains(message, strings.TrimSpace(key)) {
			message = strings.TrimSpace(key) + ": " + message
		}
	}
	return fmt.Errorf("%s, line %d: %s", path, e.LineNumber, message)
}

// readEnvironment fills target, a struct of options, from the environment. Of a repository it knows each variable.
func (l *loader) readEnvironment(target any) error {
	if !inEnvironment(prefix + l.infix) {
		return nil
	}
	own, err := optionsOf(l.own...)
	if err != nil {
		return err
	}
	all, err := optionsOf(target)
	if err != nil {
		return err
	}
	for _, o := range all.Groups()[0].Options() {
		name := variable(l.infix, o.LongName)
		value := os.Getenv(name)
		if value == "" || o.Field().Tag.Get("no-ini") != "" {
			continue
		}
		before := o.Value()
		err := o.Set(&value)
		if err == nil {
			continue
		}
		err = fmt.Errorf("environment variable %s: %w", name, err)
		if own.FindOptionByLongName(o.LongName) != nil {
			return err
		}
		l.problems = append(l.problems, err.Error())
		reflect.ValueOf(target).Elem().FieldByName(o.Field().Name).Set(reflect.ValueOf(before))
	}
	if l.infix == "" {
		return nil
	}
	for _, v := range os.Environ() {
		name, value, _ := strings.Cut(v, "=")
		key, ours := strings.CutPrefix(name, prefix+l.infix)
		if !ours || value == "" || all.FindOptionByLongName(strings.ToLower(strings.ReplaceAll(key, "_", "-"))) != nil {
			continue
		}
		err := fmt.Errorf("unknown environment variable: %s", name)
		if !l.tolerant {
			return err
		}
		l.problems = append(l.problems, err.Error())
	}
	return nil
}

// variable is the name of the environment variable of a key.
func variable(infix, key string) string {
	return prefix + infix + strings.ToUpper(strings.ReplaceAll(key, "-", "_"))
}

// check checks the parts that the command uses. All that are wrong get the defaults.
func (l *loader) check(c *Config) error {
	fallback := Default()
	for i, part := range c.parts() {
		p, ok := part.(checked)
		if !ok {
			continue
		}
		err := p.check()
		if part == any(&c.Repos) && l.tolerant {
			l.problems = append(l.problems, c.noteWrong()...)
			err = c.checkChoice()
		}
		if err == nil {
			continue
		}
		if part != any(&c.Repos) { // repositories that are wrong are repositories all the same
			reflect.ValueOf(part).Elem().Set(reflect.ValueOf(fallback.parts()[i]).Elem())
		}
		if slices.Contains(l.own, part) {
			return err
		}
		l.problems = append(l.problems, err.Error())
	}
	switch {
	case c.Spool != "":
		return nil
	case slices.Contains(l.own, any(&c.Repos)) && len(c.List) > 0: // it is asked for where it is needed all the same
		return nil
	case l.unreadable != nil:
		return l.unreadable
	}
	return ErrNoSpool
}

// Problems gives all that is wrong in the file and the environment, whichever command it concerns.
func Problems(file string) []string {
	l := loader{tolerant: true}
	c := Default()
	for _, err := range []error{l.readFile(&c, file), l.readEnvironment(&c), l.readRepository(&c)} {
		if err != nil {
			l.problems = append(l.problems, err.Error())
		}
	}
	l.check(&c) // nothing is used, so that all is a problem; where the spool is does not matter
	return l.problems
}
