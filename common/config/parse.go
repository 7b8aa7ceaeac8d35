package config

import (
	"errors"
	"fmt"
	"io"

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

// ErrHelp says that what was asked for is done: the help was written.
var ErrHelp = errors.New("help was asked for")

// Parse reads the arguments, the environment and the file into a validated configuration. With --version only that
// is looked at.
func (cmd Command) Parse(args []string, help io.Writer) (Config, error) {
	c, _, err := cmd.ParseCommand(args, help)
	return c, err
}

// ParseCommand is Parse for a program with commands. It also gives the name of the one that was called, with an error as
// well where it is known then. With an error of the file or the environment the configuration is what the arguments say.
func (cmd Command) ParseCommand(args []string, help io.Writer) (Config, string, error) {
	// The first reading finds the file's name and checks the arguments, the second lets them beat the file.
	first := Default()
	name, err := cmd.parse(&first, args, help)
	if err == ErrHelp || err == nil && first.Version {
		return first, name, err
	}
	if err != nil {
		return first, name, &ArgumentError{err}
	}
	if !configured(first.File) {
		// A server starts archive-cmd for every segment, most often with all that it needs in the arguments.
		return first, name, cmd.check(&first, name, &loader{})
	}
	c := Default()
	sub := cmd.command(name)
	l := &loader{own: cmd.own(&c, sub), tolerant: cmd.Tolerant || sub.Tolerant, missing: sub.NoFile}
	if err := l.readFile(&c, first.File); err != nil {
		cmd.warn(l)
		return first, name, err
	}
	if err := l.readEnvironment(&c); err != nil {
		cmd.warn(l)
		return first, name, err
	}
	if _, err := cmd.parse(&c, args, help); err != nil {
		return first, name, err
	}
	err = cmd.check(&c, name, l)
	cmd.warn(l)
	return c, name, err
}

func (cmd Command) warn(l *loader) {
	if cmd.Warn == nil {
		return
	}
	for _, problem := range l.problems {
		cmd.Warn(problem)
	}
}

// ParseInto reads arguments into a configuration that is there already, in place of the environment and the file.
func (cmd Command) ParseInto(c *Config, args []string) (string, error) {
	name, err := cmd.parse(c, args, io.Discard)
	if err != nil {
		return name, err
	}
	return name, cmd.check(c, name, &loader{})
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
	err := l.check(c)
	if sub.NoSpool && errors.Is(err, ErrNoSpool) {
		return nil
	}
	return err
}

func (cmd Command) parse(c *Config, args []string, help io.Writer) (string, error) {
	p, err := cmd.parser(c)
	if err != nil {
		return "", err
	}
	rest, err := p.ParseArgs(args)
	name := ""
	if p.Active != nil {
		name = p.Active.Name
	}
	var e *flags.Error
	switch {
	case errors.As(err, &e) && e.Type == flags.ErrHelp:
		fmt.Fprintln(help, e.Message)
		return name, ErrHelp
	case c.Version:
		return name, nil
	case errors.As(err, &e) && e.Type == flags.ErrCommandRequired:
		return name, errors.New("no command is given")
	case err != nil:
		return name, err
	case len(rest) > 0:
		return name, fmt.Errorf("too many arguments: %q", rest)
	}
	return name, nil
}

func (cmd Command) parser(c *Config) (*flags.Parser, error) {
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
