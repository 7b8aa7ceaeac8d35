package service

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/kardianos/service"

	"walkeep/common/cli"
)

// An Installation describes supervisor as a service of the operating system.
type Installation struct {
	Name     string
	Program  string   // absolute path
	Config   string   // absolute path of the configuration file
	User     string   // the account that it runs as
	Writable []string // directories that it writes to
	// SharedTmp reports whether the server's socket is in the system's directory for temporary files.
	SharedTmp bool
}

// Errors of a service, to be found with errors.Is. All are final.
var (
	ErrNotInstalled = service.ErrNotInstalled
	ErrNoManager    = cli.NewError("this host has no service manager that walkeep can write a service for",
		"let your own service manager call: {--config FILE run}")
)

// A State is the state of an installed service.
type State string

// The states.
const (
	Running      State = "running"
	Stopped      State = "stopped"
	Failed       State = "failed"
	NotInstalled State = "not installed"
)

// control returns the service of kardianos/service.
func (s Installation) control() (service.Service, error) {
	if runtime.GOOS == "linux" && service.Platform() != "linux-systemd" {
		return nil, ErrNoManager
	}
	c := &service.Config{
		Name: s.Name, DisplayName: s.Name, Description: "WAL archive, base backups and recovery for PostgreSQL",
		Executable: s.Program, Arguments: []string{"--config", s.Config, "run"}, UserName: s.User,
		Option: service.KeyValue{},
	}
	switch runtime.GOOS {
	case "linux":
		text := s.Unit()
		if strings.Contains(text, "{{") { // it would be parsed as a template
			return nil, errors.New("a path has two braces in it")
		}
		c.Option["SystemdScript"] = text
	case "windows":
		c.Arguments = []string{"--config", s.Config, "service", "run"}
		c.Option["OnFailure"] = "restart"
		c.Option["OnFailureDelayDuration"] = "10s"
		c.Option["DelayedAutoStart"] = true
	}
	control, err := service.New(nothing{}, c)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoManager, err)
	}
	return control, nil
}

// nothing implements the program that kardianos/service requires. It is never run.
type nothing struct{}

func (nothing) Start(service.Service) error { return nil }
func (nothing) Stop(service.Service) error  { return nil }

// Control performs an action: install, uninstall, start, stop or restart.
func (s Installation) Control(action string) error {
	c, err := s.control()
	if err != nil {
		return err
	}
	do := map[string]func() error{
		"install": c.Install, "uninstall": c.Uninstall, "start": c.Start, "stop": c.Stop, "restart": c.Restart,
	}[action]
	if do == nil {
		return fmt.Errorf("there is no %s of a service", action)
	}
	if action != "install" {
		status, err := c.Status()
		if errors.Is(err, ErrNotInstalled) {
			return fmt.Errorf("%s the service %s: %w", action, s.Name, err)
		}
		if action == "uninstall" && err == nil && status == service.StatusRunning {
			if err := c.Stop(); err != nil { // otherwise it would keep running after its removal
				return fmt.Errorf("stop the service %s: %w", s.Name, err)
			}
		}
	}
	err = do()
	if err == nil && action == "install" {
		if err = s.complete(); err != nil {
			err = errors.Join(err, c.Uninstall())
		}
	}
	if err != nil {
		return fmt.Errorf("%s the service %s: %w", action, s.Name, err)
	}
	return nil
}

// State returns the service's state.
func (s Installation) State() (State, error) {
	c, err := s.control()
	if err != nil {
		return "", err
	}
	switch status, err := c.Status(); {
	case errors.Is(err, service.ErrNotInstalled):
		return NotInstalled, nil
	case err != nil && strings.Contains(err.Error(), "failed state"): // the library reports it in no other way
		return Failed, nil
	case err != nil:
		return "", fmt.Errorf("ask for the state of the service %s: %w", s.Name, err)
	case status == service.StatusRunning:
		return Running, nil
	}
	return Stopped, nil
}

// Temporary reports whether a program is in a directory for temporary files.
func Temporary(program string) bool {
	dirs := []string{os.TempDir(), "/home", "/root", "/tmp", "/var/tmp"}
	if home, err := os.UserHomeDir(); err == nil && home != "/" {
		dirs = append(dirs, home)
	}
	for _, dir := range dirs {
		if strings.HasPrefix(program, dir+string(os.PathSeparator)) {
			return true
		}
	}
	return false
}
