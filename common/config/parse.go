package config

import (
	"errors"
	"fmt"
	"io"
	"slices"

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
}

// ErrHelp says that what was asked for is done: the help was written.
var ErrHelp = errors.New("help was asked for")

// Parse reads the arguments, the environment and the file into a validated configuration. With --version only that
// is looked at.
func (cmd Command) Parse(args []string, help io.Writer) (Config, error) {
	c, _, err := cmd.ParseCommand(args, help)
	return c, err
}

// ParseCommand is Parse for a program with commands. It also gives the name of the one that was called, with an error as
// well where it is known then.
func (cmd Command) ParseCommand(args []string, help io.Writer) (Config, string, error) {
	// The first reading finds the file's name and checks the arguments, the second lets them beat the file.
	first := Default()
	name, err := cmd.parse(&first, args, help)
	if err != nil || first.Version {
		return first, name, err
	}
	if !configured(first.File) {
		// A server starts archive-cmd for every segment, most often with all that it needs in the arguments.
		return first, name, cmd.validate(&first, name)
	}
	c := Default()
	if err := c.load(first.File, cmd.makesFile(name)); err != nil {
		return c, name, err
	}
	if name, err = cmd.parse(&c, args, help); err != nil {
		return c, name, err
	}
	return c, name, cmd.validate(&c, name)
}

// ParseInto reads arguments into a configuration that is there already, in place of the environment and the file.
func (cmd Command) ParseInto(c *Config, args []string) (string, error) {
	name, err := cmd.parse(c, args, io.Discard)
	if err != nil {
		return name, err
	}
	return name, cmd.validate(c, name)
}

// makesFile tells whether a subcommand can do without the configuration file that is named.
func (cmd Command) makesFile(name string) bool {
	return slices.ContainsFunc(cmd.Commands, func(sub Subcommand) bool { return sub.Name == name && sub.NoFile })
}

func (cmd Command) validate(c *Config, name string) error {
	err := c.Validate()
	for _, sub := range cmd.Commands {
		if sub.Name == name && sub.NoSpool && errors.Is(err, ErrNoSpool) {
			return nil
		}
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
