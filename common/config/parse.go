package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/jessevdk/go-flags"
)

// A Command is how one program is called: which parts of the configuration are its options, and what else it takes.
type Command struct {
	Name  string
	About string                // for --help
	Parts func(c *Config) []any // the structs of c whose fields are options of this program
	Args  any                   // a struct with positional arguments, as go-flags has them; nil for a program with commands
	// Commands are those of a program that does several things. Its own options are accepted before and after them.
	Commands []Subcommand
	// Tolerant is a program that a server calls, which must not go down, nor lose its archiving, for what is wrong somewhere
	// else: lines that no program understands, or a file that cannot be read where it is not needed, are no errors for it.
	Tolerant bool
	// Warn takes what is wrong in the file and the environment and is no error for this command; it may be nil.
	Warn func(problem string)
}

// A Subcommand is one of the things that a program does.
type Subcommand struct {
	Name    string
	Aliases []string
	Short   string                // one line, for the list of commands
	About   string                // for its own --help
	Parts   func(c *Config) []any // the structs of c whose fields are its options; may be nil
	Options any                   // a struct with options and arguments of its own, as go-flags has them; may be nil
	NoSpool bool                  // it can do without a spool
	NoFile  bool                  // it may make the configuration file, so one that is named can be missing
	// Tolerant is a command that reports by itself what is wrong with the configuration, and does its work all the same.
	Tolerant bool
}

// An ArgumentError is a wrong call, which will not come right by itself.
type ArgumentError struct{ err error }

func (e *ArgumentError) Error() string { return e.err.Error() }
func (e *ArgumentError) Unwrap() error { return e.err }

// ErrHelp reports that Parse has written the help that the arguments ask for.
var ErrHelp = errors.New("help was asked for")

// Parse reads the arguments, the environment and the file into a validated configuration. With --version only that
// is looked at.
func (cmd Command) Parse(args []string, help io.Writer) (Config, error) {
	c, _, err := cmd.ParseCommand(args, help)
	return c, err
}

// Called describes the arguments of a call, beside their values.
type Called struct {
	Name  string // of the command; empty if there is none
	given map[string]bool
}

// Given reports whether an option, by its long name, stands on the command line. The file and the environment do not count.
func (c Called) Given(option string) bool { return c.given[option] }

// ParseCommand is Parse for a program with commands. It also returns what the arguments are, as far as they could be read, with an
// error, too. With an error of the file or the environment the configuration is what the arguments say.
func (cmd Command) ParseCommand(args []string, help io.Writer) (Config, Called, error) {
	// The first reading finds the file's name and checks the arguments, the second lets them beat the file.
	first := Default()
	called, err := cmd.parse(&first, args, help)
	if err == ErrHelp || err == nil && first.Version {
		return first, called, err
	}
	if err != nil {
		return first, called, &ArgumentError{err}
	}
	if !configured(first.File) {
		// A server starts archive-cmd for every segment, most often with all that it needs in the arguments.
		return first, called, cmd.check(&first, called.Name, &loader{})
	}
	c := Default()
	sub := cmd.command(called.Name)
	l := &loader{own: cmd.own(&c, sub), tolerant: cmd.Tolerant || sub.Tolerant, missing: sub.NoFile}
	if err := l.readFile(&c, first.File); err != nil {
		cmd.warn(l)
		return first, called, err
	}
	if err := l.readEnvironment(&c); err != nil {
		cmd.warn(l)
		return first, called, err
	}
	if _, err := cmd.parse(&c, args, help); err != nil {
		return first, called, err
	}
	err = cmd.check(&c, called.Name, l)
	cmd.warn(l)
	return c, called, err
}

func (cmd Command) warn(l *loader) {
	if cmd.Warn == nil {
		return
	}
	for _, problem := range l.problems {
		cmd.Warn(problem)
	}
}

// command finds one of the things that the program does; an empty one if it does one thing.
func (cmd Command) command(name string) Subcommand {
	for _, sub := range cmd.Commands {
		if sub.Name == name {
			return sub
		}
	}
	return Subcommand{}
}

// own are the parts of c that are used, by the program and by the command that was called.
func (cmd Command) own(c *Config, sub Subcommand) []any {
	own := []any{&c.Common}
	for _, parts := range []func(*Config) []any{cmd.Parts, sub.Parts} {
		if parts != nil {
			own = append(own, parts(c)...)
		}
	}
	return own
}

func (cmd Command) check(c *Config, name string, l *loader) error {
	sub := cmd.command(name)
	l.own = cmd.own(c, sub)
	if err := l.readRepository(c); err != nil {
		return err
	}
	c.Unread = cmp.Or(l.unreadable, l.unclear)
	err := l.check(c)
	if sub.NoSpool && errors.Is(err, ErrNoSpool) {
		return nil
	}
	return err
}

func (cmd Command) parse(c *Config, args []string, help io.Writer) (Called, error) {
	p, err := cmd.parser(c)
	if err != nil {
		return Called{}, err
	}
	rest, err := p.ParseArgs(args)
	called := Called{given: make(map[string]bool)}
	called.note(p.Groups())
	if p.Active != nil {
		called.Name = p.Active.Name
		called.note(p.Active.Groups())
	}
	var e *flags.Error
	switch {
	case errors.As(err, &e) && e.Type == flags.ErrHelp:
		fmt.Fprintln(help, e.Message)
		return called, ErrHelp
	case c.Version:
		return called, nil
	case errors.As(err, &e) && e.Type == flags.ErrCommandRequired:
		return called, errors.New("no command is given")
	case err != nil:
		return called, err
	case len(rest) > 0:
		return called, fmt.Errorf("too many arguments: %q", rest)
	}
	return called, nil
}

// note notes the options that stand on the command line.
func (c Called) note(groups []*flags.Group) {
	for _, g := range groups {
		for _, option := range g.Options() {
			c.given[option.LongName] = option.IsSet() && !option.IsSetDefault()
		}
		c.note(g.Groups())
	}
}

func (cmd Command) parser(c *Config) (*flags.Parser, error) {
	if cmd.Commands == nil {
		// With this variable go-flags would print completions and exit 0, which PostgreSQL takes for an archived file.
		os.Unsetenv("GO_FLAGS_COMPLETION")
	}
	p := flags.NewNamedParser(cmd.Name, flags.HelpFlag|flags.PassDoubleDash)
	p.LongDescription = cmd.About
	if _, err := p.AddGroup("Options", "", &c.Common); err != nil {
		return nil, err
	}
	if err := addParts(p.Command, cmd.Name, cmd.Parts, c); err != nil {
		return nil, err
	}
	if cmd.Args != nil {
		if _, err := p.AddGroup("Arguments", "", cmd.Args); err != nil {
			return nil, err
		}
	}
	for _, sub := range cmd.Commands {
		options := sub.Options
		if options == nil {
			options = &struct{}{}
		}
		s, err := p.AddCommand(sub.Name, sub.Short, sub.About, options)
		if err != nil {
			return nil, err
		}
		s.Aliases = sub.Aliases
		if err := addParts(s, sub.Name, sub.Parts, c); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func addParts(to *flags.Command, name string, parts func(c *Config) []any, c *Config) error {
	if parts == nil {
		return nil
	}
	for _, part := range parts(c) {
		if _, err := to.AddGroup("Options of "+name, "", part); err != nil {
			return err
		}
	}
	return nil
}
