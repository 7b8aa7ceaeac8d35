package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"walkeep/common/archive"
	"walkeep/common/cli"
	"walkeep/common/config"
	"walkeep/common/conninfo"
	"walkeep/common/storage"
	"walkeep/common/storage/local"
	"walkeep/common/wal"
	"walkeep/supervisor/spool"
)

// Exit codes. The command check has those of a monitoring plugin.
const (
	exitFailed = 1
	exitUsage  = 2
)

const about = `Takes base backups, restores them to any point in time, tells what can be
recovered, and removes what nobody needs. Options are accepted before and
after the command.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration; check has those
of a monitoring plugin.`

// A command is one of the things that supervisor does.
type command struct {
	config.Subcommand
	run func(ctx context.Context, e *env) error
}

// An env is what a command works with.
type env struct {
	config.Config
	out  io.Writer // what was asked for; messages go to msg
	msg  *cli.Messages
	args []string // of the call
}

func commands() []command {
	return []command{
		setupCommand(),
		backupCommand(),
		listCommand(),
		statusCommand(),
		checkCommand(),
		cleanupCommand(),
		verifyCommand(),
		restoreCommand(),
		syncCommand(),
		promoteCommand(),
		rejoinCommand(),
		pauseCommand(),
		continueCommand(),
		drillCommand(),
		runCommand(),
		serviceCommand(),
		importWalmgrCommand(),
	}
}

func main() {
	cli.Program{Name: "supervisor", Panic: exitFailed, Run: run}.Main()
}

// program is the supervisor with its commands.
func program(all []command) config.Command {
	p := config.Command{
		Name:  cli.Called(),
		About: about,
		Parts: func(c *config.Config) []any { return []any{&c.Server} },
	}
	for _, c := range all {
		p.Commands = append(p.Commands, c.Subcommand)
	}
	return p
}

func run(args []string, msg *cli.Messages) error {
	all := commands()
	p := program(all)
	var problems []string
	p.Warn = func(problem string) { problems = append(problems, problem) }
	c, name, err := p.ParseCommand(args, os.Stdout)
	switch {
	case errors.Is(err, config.ErrHelp):
		return nil
	case err != nil:
		return cli.Fail(usageCode(name, args), err, cli.Call("--help")+" lists the commands, "+cli.Call("COMMAND", "--help")+" explains one")
	case c.Version:
		return cli.PrintVersion(os.Stdout, "supervisor")
	}
	msg.Verbose, msg.Quiet, msg.Rewrite = c.Verbose, c.Quiet, wal.ShortLSNs
	if name != "check" && name != "status" { // which report them
		msg.Problems(problems)
	}
	if conninfo.HasPassword(c.Conninfo) && strings.Contains(strings.Join(args, "\x00"), c.Conninfo) {
		msg.Warn("put it into the password file (~/.pgpass) or a service file", "every user of this host can see the password in --conninfo")
	}
	ctx, stop := cli.Context()
	defer stop()
	for _, command := range all {
		if command.Name == name {
			return explain(ctx, command.run(ctx, &env{c, os.Stdout, msg, args}))
		}
	}
	return cli.Fail(exitUsage, errors.New("no command is given"), cli.Call("--help")+" lists the commands")
}

// explain adds what to do next to errors that any command can end with.
func explain(ctx context.Context, err error) error {
	var f *cli.Failure
	switch {
	case err == nil || errors.As(err, &f):
		return err
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return cli.Fail(exitFailed, errors.New("interrupted"), "")
	case errors.Is(err, archive.ErrUnbound):
		return cli.Fail(exitFailed, err, "check --spool, and that its file system is mounted; archive-cmd makes the archive when the server archives its first segment")
	case errors.Is(err, archive.ErrNoWAL):
		return cli.Fail(exitFailed, err, "mount the file system of wal/, or bring the directory back")
	case errors.Is(err, storage.ErrUnavailable):
		return cli.Fail(exitFailed, err, "check --spool, mount its file system, and run this as the user who owns it")
	}
	return err
}

// open opens the archive.
func (e *env) open() (*archive.Archive, error) {
	b, err := local.Open(e.Spool)
	if err != nil {
		return nil, err
	}
	return archive.New(b), nil
}

// openSpool opens the spool for those who store files in it.
func (e *env) openSpool() (*spool.Spool, error) {
	s, err := spool.Open(e.Spool)
	if err != nil {
		return nil, err
	}
	s.Store, err = e.storer(s)
	return s, err
}

// storer is what archives files into the spool: the archive-cmd beside this program.
func (e *env) storer(s *spool.Spool) (func(context.Context, string) error, error) {
	program, err := sibling("archive-cmd")
	if err != nil {
		return nil, err
	}
	args := []string{"--spool", e.Spool, "--lookahead", "0", "--codec", e.Codec}
	if e.Level != 0 {
		args = append(args, "--level", strconv.Itoa(e.Level))
	}
	if e.File != "" {
		args = append(args, "--config", e.File)
	}
	return s.Command(program, args...), nil
}

// jobs is the number of cores to use.
func (e *env) jobs() int {
	if e.Jobs > 0 {
		return e.Jobs
	}
	return runtime.GOMAXPROCS(0)
}

// sibling is the absolute path of the program that is installed beside this one.
func sibling(name string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	if self, err = filepath.EvalSymlinks(self); err != nil { // walkeep on the PATH is a link to supervisor
		return "", err
	}
	program := filepath.Join(filepath.Dir(self), name+filepath.Ext(self))
	if _, err := os.Stat(program); err != nil {
		return "", fmt.Errorf("%s is not beside this program: %w", name, err)
	}
	return program, nil
}
