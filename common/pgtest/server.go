package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
)

// Mode is a way of shutting down, as of pg_ctl stop.
type Mode string

const (
	Smart     Mode = "smart"     // waits for all clients to leave
	Fast      Mode = "fast"      // disconnects clients, writes a checkpoint, waits for the archiver
	Immediate Mode = "immediate" // crash recovery will follow
)

// ErrExited is returned when a server has ended that was expected to run.
var ErrExited = errors.New("server exited")

// Timeout is how long Start, Stop, Restart, Promote and the waiting functions without a timeout of their own wait at
// most. It is far longer than any of them takes on a slow, busy machine, so that only a hang reaches it.
const Timeout = 5 * time.Minute

const pollInterval = 10 * time.Millisecond

// process is a server that this process started.
type process struct {
	pid  int
	done chan struct{} // closed when it is gone
	err  error         // how it ended, valid once done is closed
}

// An identity identifies a process. It differs from that of a later process with the same number.
type identity struct {
	pid     int
	started string // by the system's own clock; "" if unknown
}

// Start starts the server and waits until it accepts connections, or, with hot_standby off, until it replays WAL. If
// the server ends instead, the error wraps ErrExited. If it is not ready in time, it is stopped.
func (c *Cluster) Start(ctx context.Context) error { return c.StartWithin(ctx, Timeout) }

// StartWithin is Start with another timeout.
func (c *Cluster) StartWithin(ctx context.Context, timeout time.Duration) error {
	if err := c.Launch(); err != nil {
		return err
	}
	err := c.WaitReady(ctx, timeout)
	if err != nil && !errors.Is(err, ErrExited) {
		err = errors.Join(err, c.Kill())
	}
	return err
}

// Launch starts the server and does not wait. A data directory of another user is given to the servers' user.
func (c *Cluster) Launch() error {
	if pid := c.PID(); pid != 0 {
		return fmt.Errorf("start server on %s: it runs already, with pid %d", c.Dir, pid)
	}
	if err := c.makeRunDir(); err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	if err := canReach(filepath.Dir(c.Dir)); err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	if err := giveTreeToServer(c.Dir); err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	var start int64
	if info, err := os.Stat(c.LogPath()); err == nil {
		start = info.Size()
	}
	proc, err := c.launch()
	if err != nil {
		return fmt.Errorf("start server on %s: %w", c.Dir, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.proc, c.logStart = proc, start
	return nil
}

// serverArgs returns the server's command line: settings that must not come from a restored postgresql.conf.
func (c *Cluster) serverArgs() []string {
	args := []string{"-D", c.Dir}
	for name, value := range c.addressSettings() {
		args = append(args, "-c", name+"="+value)
	}
	return args
}

// WaitReady waits until a launched server accepts connections, as Start does.
func (c *Cluster) WaitReady(ctx context.Context, timeout time.Duration) error {
	c.mu.Lock()
	proc := c.proc
	c.mu.Unlock()
	err := poll(ctx, timeout, func(context.Context) (bool, error) {
		if proc != nil && proc.ended() {
			return true, fmt.Errorf("%w: %v", ErrExited, proc.err)
		}
		f := c.readPIDFile()
		if proc != nil && f.pid != proc.pid {
			return false, nil // left over from a killed server
		}
		return f.status == "ready" || f.status == "standby", nil
	})
	if err != nil {
		return c.withLog(fmt.Errorf("server on %s is not ready: %w", c.Dir, err))
	}
	return nil
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// PID returns the postmaster's process id, whoever started it; 0 if no server runs on the data directory.
func (c *Cluster) PID() int {
	c.mu.Lock()
	proc := c.proc
	c.mu.Unlock()
	if proc != nil && !proc.ended() {
		return proc.pid
	}
	pid := c.readPIDFile().pid
	if pid <= 0 || !serverRuns(pid, c.Dir) {
		return 0
	}
	return pid
}

// Running reports whether a server runs on the data directory.
func (c *Cluster) Running() bool { return c.PID() != 0 }

// Stop shuts the server down and waits until it is gone, for up to Timeout. A fast or smart shutdown lasts as long as
// archive_command keeps failing. It succeeds if no server runs.
func (c *Cluster) Stop(ctx context.Context, mode Mode) error {
	pid := c.PID()
	if pid == 0 {
		return nil
	}
	if err := c.shutDown(ctx, pid, mode); err != nil {
		return fmt.Errorf("stop server on %s: %w", c.Dir, err)
	}
	return c.WaitExit(ctx, Timeout)
}

// WaitExit waits until no server runs any more, as after a recovery with recovery_target_action = shutdown.
func (c *Cluster) WaitExit(ctx context.Context, timeout time.Duration) error {
	err := poll(ctx, timeout, func(context.Context) (bool, error) { return !c.Running(), nil })
	if err != nil {
		return c.withLog(fmt.Errorf("server on %s still runs: %w", c.Dir, err))
	}
	return nil
}

// Restart is a fast shutdown and a start.
func (c *Cluster) Restart(ctx context.Context) error {
	if err := c.Stop(ctx, Fast); err != nil {
		return err
	}
	return c.Start(ctx)
}

// Reload makes the server read its configuration files again. The new settings are in use a moment later.
func (c *Cluster) Reload(ctx context.Context) error { return c.Exec(ctx, "SELECT pg_reload_conf()") }

// Kill kills the postmaster and all its descendants with SIGKILL, including a running archive_command or
// restore_command. It returns once they are gone. It succeeds if no server runs.
func (c *Cluster) Kill() error {
	pid := c.PID()
	if pid == 0 {
		return nil
	}
	if err := killTree(pid); err != nil {
		return fmt.Errorf("kill server on %s: %w", c.Dir, err)
	}
	return c.WaitExit(context.Background(), Timeout)
}

// Close stops the server and all its descendants at once, and removes its files outside the data directory and the
// log.
func (c *Cluster) Close() error {
	var rest []identity
	if pid := c.PID(); pid != 0 {
		rest = tree(pid)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := c.Stop(ctx, Immediate)
	if err != nil {
		err = errors.Join(err, c.Kill())
	}
	killAll(rest) // such as an archive_command, which an immediate shutdown does not wait for
	c.dropSharedMemory()
	if rerr := os.RemoveAll(c.runDir); err == nil {
		err = rerr
	}
	return err
}

// dropSharedMemory frees the few bytes of System V shared memory that a killed server leaves, and that its next start
// would free.
func (c *Cluster) dropSharedMemory() {
	if f := c.readPIDFile(); f.shmID != 0 && !c.Running() {
		freeSharedMemory(f.shmID)
		_ = os.Remove(c.Path("postmaster.pid")) // so that a second Close does not free another's
	}
}

// giveTreeToServer gives a data directory to the servers' user, unless that user owns it already.
func giveTreeToServer(dir string) error {
	account, err := serverAccount()
	if err != nil || account == nil {
		return err
	}
	if owned, err := account.owns(dir); err != nil || owned {
		return err
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return giveToServer(path)
	})
}

// WaitFor calls done until it returns true. It also retries after an error, because a starting server refuses
// connections. Its own error names what, and contains the last error and the server's log. The queries that done makes with
// its context share a connection.
func (c *Cluster) WaitFor(ctx context.Context, timeout time.Duration, what string, done func(context.Context) (bool, error)) error {
	h := &held{conns: make(map[*Cluster]*pgx.Conn)}
	defer h.close(ctx)
	ctx = context.WithValue(ctx, heldKey{}, h)
	var last error
	err := poll(ctx, timeout, func(ctx context.Context) (ok bool, err error) {
		ok, last = done(ctx)
		return ok && last == nil, nil
	})
	if err != nil {
		return c.withLog(fmt.Errorf("wait for %s: %w", what, errors.Join(err, last)))
	}
	return nil
}

// poll calls done every few milliseconds, soon less often, until it returns true or an error, or the timeout ends.
func poll(ctx context.Context, timeout time.Duration, done func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("not within %v", timeout))
	defer cancel()
	interval := pollInterval
	for {
		ok, err := done(ctx)
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(interval):
		}
		interval = min(interval+interval/10, 5*pollInterval)
	}
}
