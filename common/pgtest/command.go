package pgtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Command prepares a program to run as the servers do: as their unprivileged user and in the temporary directory if
// the caller is root, with LC_ALL=C, and without the caller's PG* variables. Its Env may be appended to. When ctx
// ends the program is killed. A missing user is reported by the command's Start or Run.
func Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = 10 * time.Second // a child that inherited our pipe must not block us
	cmd.Env = slices.DeleteFunc(os.Environ(), func(s string) bool {
		return strings.HasPrefix(s, "PG") || strings.HasPrefix(s, "LC_")
	})
	cmd.Env = append(cmd.Env, "LC_ALL=C")
	account, err := serverAccount()
	if err != nil {
		cmd.Err = err
		return cmd
	}
	if account != nil {
		cmd.Dir = tempBase() // the user may be unable to enter our own
		cmd.Env = append(cmd.Env, "HOME="+account.home, "USER="+account.name, "LOGNAME="+account.name)
		account.use(cmd)
	}
	return cmd
}

// KillTree kills a program that was started, and all its descendants. It returns once they are gone.
func KillTree(cmd *exec.Cmd) error {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // the error is that it was killed
	}()
	err := killTree(cmd.Process.Pid)
	if err != nil {
		_ = cmd.Process.Kill() // it may have ended
	}
	<-ended
	return err
}

// run runs a program of the server's bin directory, with its output in the error.
func (c *Cluster) run(ctx context.Context, name string, args ...string) error {
	out, err := Command(ctx, program(c.bindir, name), args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("run %s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// MkdirTemp makes a directory that the servers' user owns and can reach, short enough for Unix sockets. The caller
// removes it.
func MkdirTemp() (string, error) {
	dir, err := os.MkdirTemp(tempBase(), "wk")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	return dir, giveToServer(dir)
}

// Mkdir makes a directory that the servers' user owns.
func Mkdir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	return giveToServer(dir)
}

// tempBase returns the temporary directory, or /tmp if the servers' user cannot reach that.
func tempBase() string {
	dir := os.TempDir()
	if canReach(dir) != nil {
		return "/tmp"
	}
	return dir
}

// giveToServer makes the servers' user the owner of path, when that is another user than ours.
func giveToServer(path string) error {
	account, err := serverAccount()
	if err != nil || account == nil {
		return err
	}
	return os.Lchown(path, account.uid, account.gid)
}

// canReach returns an error that names the first directory in the path of dir that the servers' user cannot enter.
func canReach(dir string) error {
	account, err := serverAccount()
	if err != nil || account == nil {
		return err
	}
	for {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if !account.mayEnter(info) {
			return fmt.Errorf("user %s cannot enter %s (mode %v): choose another directory, such as TempDir",
				account.name, dir, info.Mode().Perm())
		}
		up := filepath.Dir(dir)
		if up == dir {
			return nil
		}
		dir = up
	}
}
