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
	Args  any                   // a struct with positional arguments, as go-flags has them
}

// ErrHelp says that what was asked for is done: the help was written.
var ErrHelp = errors.New("help was asked for")

// Parse reads the arguments, the environment and the file into a validated configuration. With --version only that
// is looked at.
func (cmd Command) Parse(args []string, help io.Writer) (Config, error) {
	// The first reading finds the file's name and checks the arguments, the second lets them beat the file.
	first := Default()
	if err := cmd.parse(&first, args, help); err != nil || first.Version {
		return first, err
	}
	c := Default()
	if err := c.Load(first.File); err != nil {
		return c, err
	}
	if err := cmd.parse(&c, args, help); err != nil {
		return c, err
	}
	return c, c.Validate()
}

func (cmd Command) parse(c *Config, args []string, help io.Writer) error {
	p := flags.NewNamedParser(cmd.Name, flags.HelpFlag|flags.PassDoubleDash)
	p.LongDescription = cmd.About
	if _, err := p.AddGroup("Options", "", &c.Common); err != nil {
		return err
	}
	for _, part := range cmd.Parts(c) {
		if _, err := p.AddGroup("Options of "+cmd.Name, "", part); err != nil {
			return err
		}
	}
	if _, err := p.AddGroup("Arguments", "", cmd.Args); err != nil {
		return err
	}
	rest, err := p.ParseArgs(args)
	var e *flags.Error
	switch {
	case errors.As(err, &e) && e.Type == flags.ErrHelp:
		fmt.Fprintln(help, e.Message)
		return ErrHelp
	case c.Version:
		return nil
	case err != nil:
		return err
	case len(rest) > 0:
		return fmt.Errorf("too many arguments: %q", rest)
	}
	return nil
}
