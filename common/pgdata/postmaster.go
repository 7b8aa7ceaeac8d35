package pgdata

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// A Postmaster is the content of postmaster.pid.
type Postmaster struct {
	PID  int
	Port uint16
	Host string // the directory of its socket, or where it is reached by TCP; empty if it listens nowhere
	// Warm reports whether it replays, and accepts no connections before it is promoted (hot_standby = off).
	Warm bool
}

// ReadPostmaster reads postmaster.pid, whose lines PostgreSQL's src/include/utils/pidfile.h lists. Fields whose lines
// are not there yet are zero.
func ReadPostmaster(dir string) (Postmaster, error) {
	var p Postmaster
	content, err := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
	if err != nil {
		return p, err
	}
	lines := append(strings.Split(string(content), "\n"), make([]string, 8)...)
	if p.PID, err = strconv.Atoi(strings.TrimSpace(lines[0])); err != nil || p.PID == 0 {
		return p, fmt.Errorf("read postmaster.pid: its process id is %q", lines[0])
	}
	port, _ := strconv.ParseUint(strings.TrimSpace(lines[3]), 10, 16)
	p.Port = uint16(port)
	if p.Host = strings.TrimSpace(lines[4]); p.Host == "" {
		p.Host = reachable(strings.TrimSpace(lines[5]))
	}
	p.Warm = strings.TrimSpace(lines[7]) == "standby"
	return p, nil
}

// reachable is where a server is reached from its own host that listens on an address, which may stand for all of them.
func reachable(address string) string {
	switch address {
	case "*":
		return "localhost"
	case "0.0.0.0":
		return "127.0.0.1"
	case "::":
		return "::1"
	}
	return address
}
