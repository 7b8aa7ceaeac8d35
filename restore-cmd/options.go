package main

import (
	"errors"
	"os"

	"walkeep/common/cli"
	"walkeep/common/config"
)

const about = `Delivers the WAL file NAME from the spool to PATH. Made for
postgresql.conf, or up to PostgreSQL 11 for recovery.conf:

  restore_command = '/usr/lib/walkeep/restore-cmd --spool /srv/wal %f %p %r'

With --note it delivers nothing: it notes in the spool which WAL a standby
still needs, so that the archive need not keep all WAL for a standby that
streams:

  archive_cleanup_command = '/usr/lib/walkeep/restore-cmd --spool /srv/wal --note %r'

Exit codes:
0    delivered and verified
1    proven absent
126  cannot be determined, damaged, another cluster's, a gap, wrong usage
or configuration; PostgreSQL then stops instead of opening a database
that lacks data

A standby must keep running: for a standby, restore-cmd retries for a
while (--retry-time) and then exits 1 with the reason, whatever is wrong.`

type options struct {
	config.Config
	name, path, redo string
	note             bool
	problems         []string // of the configuration's other sections
}

func parse(args []string) (options, error) {
	var positional struct {
		Note bool `long:"note" description:"deliver nothing: the argument is the oldest segment that this standby needs, as %r gives it to archive_cleanup_command"`
		Args struct {
			Name string `positional-arg-name:"NAME" description:"the file's name, as %f gives it" required:"yes"`
			Path string `positional-arg-name:"PATH" description:"where to put it, as %p gives it"`
			Redo string `positional-arg-name:"REDO" description:"the oldest segment that this server needs, as %r gives it; a standby's is noted in the spool"`
		} `positional-args:"yes"`
	}
	var problems []string
	c, err := config.Command{
		Name:     "restore-cmd",
		About:    about,
		Parts:    func(c *config.Config) []any { return []any{&c.Restore, &c.Decryption} },
		Args:     &positional,
		Tolerant: true,
		Warn:     func(problem string) { problems = append(problems, problem) },
	}.Parse(args, os.Stdout)
	a := positional.Args
	return options{c, a.Name, a.Path, a.Redo, positional.Note, problems}, err
}

// check refuses arguments that do not belong together.
func (o options) check() error {
	switch {
	case o.note && (o.path != "" || o.redo != ""):
		return errors.New("--note expects one argument: the oldest segment that is needed")
	case o.IdentityPassphraseFile != "" && o.IdentityFile == "":
		return errors.New("identity-passphrase-file is given without identity-file")
	case !o.note && o.path == "":
		return errors.New("the argument PATH is missing")
	}
	return nil
}

func printVersion() error { return cli.PrintVersion(os.Stdout, "restore-cmd") }
