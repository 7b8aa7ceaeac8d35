package setup

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"walkeep/common/cli"
	"walkeep/common/pgdata"
	"walkeep/supervisor/launch"
	"walkeep/supervisor/pgconf"
	"walkeep/supervisor/pgserver"
)

const (
	// restartPatience is how long, in seconds, the server may take to stop and to start again.
	restartPatience = "3600"
	// connectPatience is how long a server that has started may refuse connections.
	connectPatience = time.Minute
)

// restartIfNeeded restarts the server if settings need it, or prints how to restart it.
func (s *setup) restartIfNeeded(ctx context.Context, command string) error {
	names := s.pending()
	if len(names) == 0 {
		return nil
	}
	if !s.Restart {
		s.say("restart needed, for %s: %s", strings.Join(names, ", "), s.restartBy(ctx, command))
		return nil
	}
	if err := s.sayOthers(ctx); err != nil {
		return err
	}
	if err := s.restart(ctx); err != nil {
		return err
	}
	for _, name := range order {
		if have := s.settings[name]; have.Pending() {
			return problem("see the server's log", "the server was restarted, and %s is still %s, not %s", name, have.Running, have.Next)
		}
	}
	s.say("done: restarted the server")
	return nil
}

// sayOthers warns of other settings that a restart changes.
func (s *setup) sayOthers(ctx context.Context) error {
	others, err := s.conn.Strings(ctx, `SELECT name FROM pg_settings WHERE pending_restart ORDER BY name`)
	if err != nil {
		return err
	}
	others = slices.DeleteFunc(others, func(name string) bool { return slices.Contains(order, name) })
	if len(others) > 0 {
		s.notice("", "the restart makes other settings take effect, too: %s", strings.Join(others, ", "))
	}
	return nil
}

// restartBy describes how to restart the server by hand.
func (s *setup) restartBy(ctx context.Context, command string) string {
	if unit := s.unit(); unit != "" {
		return cli.Line("systemctl", "restart", unit)
	}
	itself := "; or " + cli.Call(append(strings.Fields(command), "--restart")...)
	var file string
	if err := s.conn.QueryRow(ctx, "SELECT current_setting('config_file')").Scan(&file); err == nil {
		if _, err := exec.LookPath("pg_ctlcluster"); err == nil {
			if version, cluster := debianCluster(file); cluster != "" {
				return cli.Line("pg_ctlcluster", version, cluster, "restart") + itself
			}
		}
	}
	ctl := "pg_ctl"
	if bindir, err := launch.Bindir(ctx, s.Bindir, s.info.Major); err == nil { // the PATH may not have it
		ctl = launch.Program(bindir, ctl)
	}
	return cli.Line(ctl, "restart", "-D", s.data, "-m", "fast") + ", as " + s.user.Name + itself
}

// debianCluster returns the version and the name of a cluster whose configuration is where Debian keeps it.
func debianCluster(configFile string) (version, cluster string) {
	below, err := filepath.Rel(pgconf.Root(), configFile)
	parts := strings.Split(filepath.ToSlash(below), "/")
	if err != nil || len(parts) != 3 || parts[0] == ".." || parts[2] != "postgresql.conf" {
		return "", ""
	}
	return parts[0], parts[1]
}

// unit returns the systemd unit that the server runs in, if it is one of PostgreSQL's own (Linux).
func (s *setup) unit() string {
	p, err := pgdata.ReadPostmaster(s.data)
	if err != nil {
		return ""
	}
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", p.PID))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(groups)) {
		unit := filepath.Base(strings.TrimSpace(line))
		if strings.HasSuffix(unit, ".service") && (strings.Contains(unit, "postgres") || strings.Contains(unit, "pgsql")) {
			return unit
		}
	}
	return ""
}

// restart restarts the server as its user, with its present command line, and connects again.
func (s *setup) restart(ctx context.Context) error {
	bindir, err := launch.Bindir(ctx, s.Bindir, s.info.Major)
	if err != nil {
		return err
	}
	dir, ok, err := pgdata.StartDir(s.data)
	if err != nil {
		return err
	}
	if !ok {
		return problem("restart it as it was started", "restart the server: it was started with a relative -D, which does not lead to %s from any directory above that", s.data)
	}
	log, err := s.openLog()
	if err != nil {
		return err
	}
	defer log.Close()
	s.conn.Close(ctx)
	// An interrupt must not leave the server stopped.
	cmd := exec.Command(launch.Program(bindir, "pg_ctl"), "restart", "-D", s.data, "-m", "fast", "-w", "-t", restartPatience)
	cmd.Dir = dir
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PG") || strings.HasPrefix(v, "WALKEEP_") })
	cmd.Stdout, cmd.Stderr = log, log // not a pipe, which the server would keep open
	s.user.Use(cmd)
	apart(cmd)
	if err := cmd.Run(); err != nil {
		return problem("the reason is in "+log.Name()+"; if a setting is the reason, it is in postgresql.auto.conf",
			"restart the server: %v", err)
	}
	return s.reconnect(ctx)
}

// openLog opens the file for the server's standard error: the present one, if it is a file (Linux), or else one in
// the data directory.
func (s *setup) openLog() (*os.File, error) {
	if p, err := pgdata.ReadPostmaster(s.data); err == nil {
		if path, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/2", p.PID)); err == nil {
			if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
				if f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0); err == nil {
					return f, nil
				}
			}
		}
	}
	path := filepath.Join(s.data, launch.LogName)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	if err := s.user.GiveFile(f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// reconnect connects to the restarted server.
func (s *setup) reconnect(ctx context.Context) error {
	for end := time.Now().Add(connectPatience); ; {
		err := s.begin(ctx)
		if err == nil {
			return s.refresh(ctx)
		}
		s.close(ctx)
		if ctx.Err() != nil || time.Now().After(end) || !pgserver.NotReady(err) {
			return problem("see the server's log", "the server was restarted: %w", err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
