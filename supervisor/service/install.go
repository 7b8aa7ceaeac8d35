package service

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/kardianos/service"
)

// Name is the service's name for the operating system.
const Name = "walkeep"

// A Setup is how supervisor is a service of the operating system.
type Setup struct {
	Name     string
	Program  string   // absolute path
	Config   string   // absolute path of the configuration file
	User     string   // who it runs as; not on Windows
	Writable []string // directories that it writes to
	// SharedTmp says that the server's socket is in the system's directory for temporary files.
	SharedTmp bool
}

// Errors of a service, to be found with errors.Is.
var (
	ErrNotInstalled = service.ErrNotInstalled
	ErrNoManager    = errors.New("this host has no service manager that walkeep can write a service for")
)

// A State is what a service does.
type State string

// The states.
const (
	Running      State = "running"
	Stopped      State = "stopped"
	Failed       State = "failed"
	NotInstalled State = "not installed"
)

// control is the service as kardianos/service sees it.
func (s Setup) control() (service.Service, error) {
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
		if strings.Contains(text, "{{") { // would be taken for a template
			return nil, errors.New("a path has two braces in it")
		}
		c.Option["SystemdScript"] = text
	case "windows":
		c.Arguments = []string{"--config", s.Config, "service", "run"}
		c.UserName = "" // LocalSystem; sc.exe config changes that
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

// nothing is what kardianos/service would run, were it asked to.
type nothing struct{}

func (nothing) Start(service.Service) error { return nil }
func (nothing) Stop(service.Service) error  { return nil }

// Control does what is asked for: install, uninstall, start, stop or restart.
func (s Setup) Control(action string) error {
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
			if err := c.Stop(); err != nil { // or it would go on without being installed
				return fmt.Errorf("stop the service %s: %w", s.Name, err)
			}
		}
	}
	if err := do(); err != nil {
		return fmt.Errorf("%s the service %s: %w", action, s.Name, err)
	}
	return nil
}

// State asks what the service does.
func (s Setup) State() (State, error) {
	c, err := s.control()
	if err != nil {
		return "", err
	}
	switch status, err := c.Status(); {
	case errors.Is(err, service.ErrNotInstalled):
		return NotInstalled, nil
	case err != nil && strings.Contains(err.Error(), "failed state"): // it has no other way to say so
		return Failed, nil
	case err != nil:
		return "", fmt.Errorf("ask for the state of the service %s: %w", s.Name, err)
	case status == service.StatusRunning:
		return Running, nil
	}
	return Stopped, nil
}

// Temporary tells whether a program is where such things do not stay.
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
