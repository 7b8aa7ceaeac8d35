package main_test

import (
	"bufio"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A listening socket that nobody asked for.
func TestNeverASocketUnasked(t *testing.T) {
	t.Parallel()
	r, _, _ := lost(t)
	cmd := r.command("run", "--verify-schedule", "@daily")
	cmd.Env = append(cmd.Environ(), "WALKEEP_CONFIG="+os.DevNull)
	log, err := cmd.StderrPipe()
	r.must(err)
	r.must(cmd.Start())
	defer cmd.Wait()
	defer cmd.Process.Kill()
	for lines := bufio.NewScanner(log); ; {
		if !lines.Scan() {
			t.Fatal("it has ended")
		}
		if strings.Contains(lines.Text(), "ready") {
			break
		}
	}
	fds, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), "fd", "*"))
	r.must(err)
	if len(fds) == 0 {
		t.Skip("root alone sees the files of a program that leaves no core")
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "socket:") {
			inode := strings.TrimSuffix(strings.TrimPrefix(to, "socket:["), "]")
			for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6", "/proc/net/udp", "/proc/net/udp6"} {
				content, _ := os.ReadFile(table)
				if strings.Contains(string(content), " "+inode+" ") {
					t.Errorf("it has a socket on the network: inode %s in %s", inode, table)
				}
			}
		}
	}
}
