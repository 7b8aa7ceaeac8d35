package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"walkeep/common/account"
	"walkeep/common/cli"
	"walkeep/common/config"
	"walkeep/supervisor/repository"
	"walkeep/supervisor/service"
)

const aboutService = `Makes run a service of the operating system, and controls it: install,
uninstall, start, stop, restart or status.

install writes a systemd unit, or registers the service with Windows, for the
given configuration file; the service has neither the environment nor other
options of this call. With --dry-run it only prints the unit. status prints the
state of the service, and exits 0 if it is running and 1 otherwise.`

type serviceOptions struct {
	User   string `long:"user" value-name:"NAME" description:"account of the service: the owner of the spool (default: postgres; on Windows NT SERVICE\\walkeep, or another one without a password)"`
	DryRun bool   `long:"dry-run" description:"print the systemd unit, and change nothing"`
	Args   struct {
		Action string `positional-arg-name:"ACTION" description:"install, uninstall, start, stop, restart or status"`
	} `positional-args:"yes" required:"yes"`
}

func serviceCommand() command {
	var o serviceOptions
	return command{
		Subcommand: config.Subcommand{
			Name: "service", Short: "make run a service of the operating system", About: aboutService, Options: &o, NoSpool: true,
		},
		run: func(ctx context.Context, call *invocation) error { return o.run(ctx, call) },
	}
}

func (o *serviceOptions) run(ctx context.Context, call *invocation) error {
	setup := service.Installation{Name: account.Service}
	action := o.Args.Action
	if o.DryRun && action != "install" {
		return cli.Fail(exitUsage, errors.New("--dry-run is for install"), "")
	}
	switch action {
	case "install":
		return o.install(call)
	case "uninstall", "start", "stop", "restart":
		return explainService(setup.Control(action))
	case "status":
		state, err := setup.State()
		if err != nil {
			return explainService(err)
		}
		fmt.Fprintln(call.out, state)
		if state != service.Running {
			return cli.Fail(exitFailed, fmt.Errorf("the service is not running: it is %s", state), "")
		}
		return nil
	case "run":
		if service.HasManager { // the service manager of Windows calls this
			return service.UnderManager(setup.Name, func(ctx context.Context, log io.Writer, reload chan os.Signal) error {
				c, called, err := program(commands()).ParseCommand(runArgs(call.File), io.Discard)
				if err != nil {
					return err
				}
				return explain(ctx, keepRunning(ctx, newInvocation(c, called, new(repository.Set), runArgs(call.File), io.Discard, call.msg), log, reload), "")
			})
		}
	}
	return cli.Fail(exitUsage, fmt.Errorf("there is no service %q: the actions are install, uninstall, start, stop, restart and status", action), "")
}

func runArgs(file string) []string { return []string{"--config", file, "run"} }

func (o *serviceOptions) install(call *invocation) error {
	file, _ := config.Find(call.File)
	file, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	if f, err := os.Open(file); err != nil {
		return cli.Fail(exitUsage, fmt.Errorf("the service needs a configuration file: %w", err), "name it with --config FILE")
	} else {
		f.Close()
	}
	// The configuration of the service, which has none of this call's options.
	c, _, err := program(commands()).ParseCommand(runArgs(file), io.Discard)
	if err != nil {
		return cli.Fail(exitUsage, err, "")
	}
	if _, err := (&runner{}).plan(c); err != nil {
		return err
	}
	self, err := os.Executable()
	if err == nil {
		self, err = filepath.EvalSymlinks(self)
	}
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	setup, problems, err := o.setup(c, self, file)
	if err != nil {
		return err
	}
	if o.DryRun {
		for _, p := range problems {
			call.msg.Warn("", "%s", p)
		}
		_, err := io.WriteString(call.out, setup.Unit())
		return err
	}
	if len(problems) > 0 {
		return cli.Fail(exitFailed, errors.New(strings.Join(problems, "; ")), "")
	}
	if service.Temporary(self) {
		call.msg.Warn("make install puts it in place", "%s is a temporary place for a service's program", self)
	}
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "WALKEEP_") && name != "WALKEEP_CONFIG" {
			call.msg.Warn("put it into "+file, "%s is set in this environment, but not in that of the service", name)
		}
	}
	if err := setup.Control("install"); err != nil {
		return explainService(err)
	}
	if setup.User == service.DefaultUser {
		for _, path := range append(setup.Writable, file) {
			if err := account.Admit(path); err != nil {
				call.msg.Warn("allow it with icacls", "the service's account may not use what it needs: %v", err)
			}
		}
	}
	_, err = fmt.Fprintf(call.out, "installed the service %s for %s; start it with: %s\n", setup.Name, file, cli.Call("service", "start"))
	return err
}

// setup describes the service, and what would keep it from starting.
func (o *serviceOptions) setup(c config.Config, self, file string) (service.Installation, []string, error) {
	if o.User == "" {
		o.User = service.DefaultUser
	}
	var problems []string
	var dirs []string
	if c.Spool != "" {
		dirs = append(dirs, c.Spool)
	}
	if c.DrillDir != "" {
		dirs = append(dirs, c.DrillDir)
	}
	for _, r := range c.List {
		if dir := repository.Directory(r); dir != "" {
			dirs = append(dirs, dir)
		}
	}
	s := service.Installation{Name: account.Service, Program: self, Config: file, User: o.User, SharedTmp: socketInTmp(c.Conninfo)}
	home := ""
	if u, err := user.Lookup(o.User); err == nil {
		home = u.HomeDir
	} else if runtime.GOOS != "windows" {
		problems = append(problems, fmt.Sprintf("there is no user %s: name one with --user", o.User))
	}
	for _, dir := range dirs {
		dir, err := filepath.Abs(dir)
		if err != nil {
			return s, nil, err
		}
		if info, err := os.Stat(dir); err != nil {
			problems = append(problems, err.Error())
		} else if !info.IsDir() {
			problems = append(problems, dir+" is not a directory")
		}
		s.Writable = append(s.Writable, dir)
		s.SharedTmp = s.SharedTmp || slices.ContainsFunc([]string{"/tmp/", "/var/tmp/"}, func(tmp string) bool { return strings.HasPrefix(dir+"/", tmp) })
	}
	if c.DrillSchedule != "" && c.DrillDir == "" {
		if info, err := os.Stat(home); err == nil && info.IsDir() {
			s.Writable = append(s.Writable, home)
		}
		if s.SharedTmp {
			s.Writable = append(s.Writable, os.TempDir())
		}
	}
	return s, problems, nil
}

// socketInTmp reports whether the server is likely to be reached through a socket in the system's temporary directory.
func socketInTmp(conninfo string) bool {
	if strings.Contains(conninfo, "host") {
		return strings.Contains(conninfo, "/tmp") || strings.Contains(conninfo, "%2Ftmp")
	}
	_, err := os.Stat("/var/run/postgresql")
	return err != nil
}

// serviceRemedies are for errors of the operating system's service manager.
var serviceRemedies = remedies{
	{service.ErrNotInstalled, "{--config FILE service install} installs it"},
	{os.ErrPermission, "only the system's administrator controls services"},
}

// explainService adds the hint for an error of the service manager. systemd's errors have no value to compare with.
func explainService(err error) error {
	if err != nil && strings.Contains(err.Error(), "already exists") {
		return cli.Hinted(err, cli.Call("service", "uninstall")+" removes it")
	}
	return serviceRemedies.explain(err)
}
