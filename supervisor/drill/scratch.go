package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"walkeep/common/durable"
	"walkeep/common/host"
	"walkeep/supervisor/launch"
)

const (
	prefix   = "walkeep-drill-"
	lockName = "lock"
)

// A scratch is the scratch directory of a drill.
type scratch struct {
	dir  string
	lock *os.File
}

func newScratch(parent string) (*scratch, error) {
	dir, err := os.MkdirTemp(parent, prefix) // of mode 0700
	if err != nil {
		return nil, fmt.Errorf("make a scratch directory: %w", err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, err
	}
	s := &scratch{dir: dir}
	if err := s.fill(); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return s, nil
}

func (s *scratch) fill() (err error) {
	for _, dir := range []string{s.data(), s.socket()} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	// The lock is made last: a directory without one counts as left behind only when it is old.
	s.lock, err = os.OpenFile(filepath.Join(s.dir, lockName), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if locked, err := durable.Lock(s.lock); err != nil || !locked {
		return errors.Join(err, fmt.Errorf("lock %s", s.lock.Name()))
	}
	// On some network file systems a lock is visible only on its own host.
	return json.NewEncoder(s.lock).Encode(host.Here())
}

func (s *scratch) data() string   { return filepath.Join(s.dir, "data") }
func (s *scratch) socket() string { return filepath.Join(s.dir, "s") }

// maxSocket is the longest name of a socket in bytes on any system (sun_path has 104 on some systems, 108 on Linux).
const maxSocket = 103

// checkSocket refuses a directory whose path is too long for the server's socket.
func (s *scratch) checkSocket() error {
	if name := filepath.Join(s.socket(), ".s.PGSQL."+strconv.Itoa(port)); len(name) > maxSocket {
		return fmt.Errorf("%w: %s has %d bytes, and %d are possible", ErrLong, name, len(name), maxSocket)
	}
	return nil
}

// stopPatience limits how long a server that was just started may take to write its postmaster.pid.
const stopPatience = 2 * time.Second

// remove stops the server, if one runs, and removes the directory.
func (s *scratch) remove(ctx context.Context, bindir string) error {
	// If pg_ctl was interrupted, the server that it has started may not have written its postmaster.pid yet.
	started := exists(filepath.Join(s.data(), launch.LogName))
	for deadline := time.Now().Add(stopPatience); started && !exists(filepath.Join(s.data(), "postmaster.pid")) && time.Now().Before(deadline); {
		time.Sleep(50 * time.Millisecond)
	}
	if err := stop(ctx, bindir, s.data()); err != nil {
		return err
	}
	s.lock.Close()
	dir := s.dir + "-done"
	if durable.Replace(s.dir, dir) != nil { // a process that still fetches WAL for the server makes no more files in it then
		dir = s.dir
	}
	return durable.RemoveAll(dir)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// stop stops the server of a data directory at once, without a checkpoint.
func stop(ctx context.Context, bindir, data string) error {
	if !launch.Served(data) {
		return nil
	}
	out, err := exec.CommandContext(ctx, launch.Program(bindir, "pg_ctl"), "stop", "-D", data, "-m", "immediate", "-w").CombinedOutput()
	if err != nil && launch.Served(data) {
		return fmt.Errorf("stop the server in %s: %w: %s", data, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// unlockedAge is the age from which a scratch directory without a lock counts as left behind.
const unlockedAge = time.Hour

// sweep removes what killed drills of this user have left in a directory. If that fails, it gives a notice and no
// error.
func sweep(ctx context.Context, parent, bindir string, notice func(hint, message string)) error {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		dir := filepath.Join(parent, e.Name())
		if info, err := os.Lstat(dir); err != nil || !info.IsDir() || !isOurs(info) {
			continue // other users may use this directory, too, and make any files in it
		}
		if err := sweepOne(ctx, dir, bindir); err != nil && notice != nil {
			notice("remove it when no drill runs", fmt.Sprintf("the directory %s of an earlier drill could not be removed: %v", dir, err))
		}
	}
	return nil
}

func sweepOne(ctx context.Context, dir, bindir string) error {
	s := &scratch{dir: dir}
	f, err := openLock(filepath.Join(dir, lockName))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if info, err := os.Stat(dir); err != nil || time.Since(info.ModTime()) < unlockedAge {
			return nil // it is just being made, or removed
		}
	case err != nil:
		return err
	default:
		defer f.Close()
		if locked, err := durable.Lock(f); err != nil || !locked {
			return err
		}
		var by host.Origin // older versions write no host
		if json.NewDecoder(io.LimitReader(f, 1<<10)).Decode(&by) == nil && (by.Host != host.Here().Host || by.Machine != host.Here().Machine) {
			return nil // another host's, where this host cannot see the lock
		}
	}
	if err := stop(ctx, bindir, s.data()); err != nil {
		return err
	}
	f.Close() // Windows keeps a file that is open
	return os.RemoveAll(dir)
}
