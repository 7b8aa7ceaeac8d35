package main

import (
	"os"

	"walkeep/common/cli"
	"walkeep/common/config"
)

const about = `Delivers the WAL file NAME from the spool to PATH. Made for
postgresql.conf, or up to PostgreSQL 11 for recovery.conf:

  restore_command = '/usr/lib/walkeep/restore-cmd --spool /srv/wal %f %p %r'

Exit codes:
0    delivered and verified
1    proven absent
126  cannot tell, or damaged, another cluster's, a gap, wrong usage or
configuration; PostgreSQL then stops instead of opening a database that
lacks data

A standby goes on: for it, restore-cmd tries again for a while and then
exits 1 with the reason, whatever is wrong.`

type options struct {
	config.Config
	name, path, redo string
	problems         []string // of the configuration, none of which concerns this program
}

func parse(args []string) (options, error) {
	var positional struct {
		Args struct {
			Name string `positional-arg-name:"NAME" description:"the file's name, as %f gives it" required:"yes"`
			Path string `positional-arg-name:"PATH" description:"where to put it, as %p gives it" required:"yes"`
			Redo string `positional-arg-name:"REDO" description:"the oldest segment that this server needs, as %r gives it; a standby's is noted in the spool"`
		} `positional-args:"yes"`
	}
	var problems []string
	c, err := config.Command{
		Name:     "restore-cmd",
		About:    about,
		Parts:    func(c *config.Config) []any { return []any{&c.Restore} },
		Args:     &positional,
		Tolerant: true,
		Warn:     func(problem string) { problems = append(problems, problem) },
	}.Parse(args, os.Stdout)
	return options{c, positional.Args.Name, positional.Args.Path, positional.Args.Redo, problems}, err
}

func printVersion() error { return cli.PrintVersion(os.Stdout, "restore-cmd") }
