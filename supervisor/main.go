package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"

	"walkeep/common/cli"
	"walkeep/common/config"
	"walkeep/common/conninfo"
	"walkeep/common/wal"
	"walkeep/supervisor/repository"
)

// Exit codes. The command check has those of a monitoring plugin.
const (
	exitFailed = 1
	exitUsage  = 2
)

const about = `Takes base backups, restores them to any point in time, reports what can be
recovered, and removes what is not needed. Options are accepted before and
after the command.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration; check has those
of a monitoring plugin.`

// A command is a subcommand of supervisor.
type command struct {
	config.Subcommand
	run func(ctx context.Context, call *invocation) error
	// interrupted is the hint after an interruption, as for cli.NewError; it may be empty.
	interrupted string
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
		shipCommand(),
		fetchCommand(),
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
	debug.SetGCPercent(50) // the memory of the parts of an upload is mostly live: garbage as large as that would double it
	cli.Program{Name: "supervisor", Panic: exitFailed, Run: run}.Main()
}

// program returns the definition of the supervisor's command line.
func program(all []command) config.Command {
	p := config.Command{
		Name:  cli.Called(),
		About: about,
		Parts: func(c *config.Config) []any { return []any{&c.Server, &c.Repos} },
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
	c, called, err := p.ParseCommand(args, os.Stdout)
	switch {
	case errors.Is(err, config.ErrHelp):
		return nil
	case err != nil:
		return cli.Fail(usageCode(called.Name, args), err, cli.Call("--help")+" lists the commands, "+cli.Call("COMMAND", "--help")+" explains one")
	case c.Version:
		return cli.PrintVersion(os.Stdout, "supervisor")
	}
	msg.Verbose, msg.Quiet, msg.Rewrite = c.Verbose, c.Quiet, wal.ShortLSNs
	if called.Name != "check" && called.Name != "status" { // these report the problems themselves
		msg.Problems(problems)
	}
	if conninfo.HasPassword(c.Conninfo) && strings.Contains(strings.Join(args, "\x00"), c.Conninfo) {
		msg.Warn("put it into the password file (~/.pgpass) or a service file", "every user of this host can see the password in --conninfo")
	}
	slog.SetLogLoggerLevel(slog.LevelDebug) // net/http logs what servers do wrong
	slog.SetDefault(newLog(c, os.Stderr))
	ctx, stop := cli.Context()
	defer stop()
	var repositories repository.Set
	defer repositories.Close()
	for _, command := range all {
		if command.Name == called.Name {
			call := newInvocation(c, called, &repositories, args, os.Stdout, msg)
			return explain(ctx, call.remedied(command.run(ctx, call)), command.interrupted)
		}
	}
	return cli.Fail(exitUsage, errors.New("no command is given"), cli.Call("--help")+" lists the commands")
}
