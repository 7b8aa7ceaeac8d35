package main

import (
	"os"

	"walkeep/common/cli"
	"walkeep/common/config"
)

const about = `Archives the WAL file PATH into the spool. Made for postgresql.conf:

  archive_mode = on
  archive_command = '/usr/lib/walkeep/archive-cmd --spool /srv/wal %p'

Exit codes:
0  the file is durable and verified in the spool
1  not archived; PostgreSQL tries again
2  wrong usage or configuration
3  refused: another content is archived under this name, or the file is
of another cluster, or is no WAL file of its name`

type options struct {
	config.Config
	path     string
	problems []string // of the configuration, none of which concerns this program
}

func parse(args []string) (options, error) {
	var positional struct {
		Args struct {
			Path string `positional-arg-name:"PATH" description:"the file, as %p gives it"`
		} `positional-args:"yes" required:"yes"`
	}
	var problems []string
	c, err := config.Command{
		Name:     "archive-cmd",
		About:    about,
		Parts:    func(c *config.Config) []any { return []any{&c.Compression, &c.Archive, &c.Encryption} },
		Args:     &positional,
		Tolerant: true,
		Warn:     func(problem string) { problems = append(problems, problem) },
	}.Parse(args, os.Stdout)
	return options{c, positional.Args.Path, problems}, err
}

func printVersion() error { return cli.PrintVersion(os.Stdout, "archive-cmd") }
