package pgdata

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
)

// The words of recovery_target_timeline that are no number.
const (
	Latest  = "latest"  // the newest timeline that the archive or pg_wal knows of
	Current = "current" // the control file's
)

// A Recovery is how a server is set to recover.
type Recovery struct {
	Standby bool
	// Timeline is its recovery_target_timeline: a number, [Latest], which is the default since 12, or [Current], which is
	// that up to 11, where the word is not known.
	Timeline  string
	TargetLSN string // its recovery_target_lsn; empty: none
}

// ReadRecovery reads how the server of a data directory recovers from an archive; false: it does not.
func ReadRecovery(dir string) (Recovery, bool, error) {
	r := Recovery{Standby: Standby(dir), Timeline: Latest}
	var c Conf
	switch err := c.Read(filepath.Join(dir, "recovery.conf")); {
	case err == nil: // up to 11
		r.Timeline = Current
		r.take(c.Settings)
		return r, true, nil
	case !errors.Is(err, fs.ErrNotExist):
		return r, false, err
	}
	if !r.Standby {
		if _, err := os.Stat(filepath.Join(dir, "recovery.signal")); err != nil {
			return r, false, ignore(err)
		}
	}
	started, err := startedWith(dir)
	if err != nil {
		return r, true, err
	}
	for _, file := range []string{started.file(dir), filepath.Join(dir, "postgresql.auto.conf")} {
		if err := c.Read(file); ignore(err) != nil {
			return r, true, err
		}
	}
	r.take(c.Settings)
	r.take(started.settings)
	return r, true, nil
}

func (r *Recovery) take(settings map[string]string) {
	if value, ok := settings["recovery_target_timeline"]; ok {
		r.Timeline = value
	}
	if value, ok := settings["recovery_target_lsn"]; ok {
		r.TargetLSN = value
	}
}

// ignore returns nil for a missing file, and any other error unchanged.
func ignore(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// started are the settings with which a server was started.
type started struct {
	dir      string // -D
	settings map[string]string
}

var quotedArgument = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`"([^"]*)"`) })

// startedWith reads postmaster.opts, which a server writes when it starts (CreateOptsFile in
// src/backend/postmaster/postmaster.c).
func startedWith(dir string) (started, error) {
	s := started{settings: make(map[string]string)}
	content, err := os.ReadFile(filepath.Join(dir, "postmaster.opts"))
	if err != nil {
		return s, ignore(err)
	}
	var args []string
	for _, m := range quotedArgument().FindAllStringSubmatch(string(content), -1) {
		args = append(args, m[1])
	}
	for i := 0; i < len(args); i++ {
		arg, next := args[i], ""
		if i+1 < len(args) {
			next = args[i+1]
		}
		switch {
		case arg == "-D":
			s.dir = next
			i++
		case arg == "-c":
			s.set(next)
			i++
		case strings.HasPrefix(arg, "-D"):
			s.dir = arg[2:]
		case strings.HasPrefix(arg, "--"):
			s.set(arg[2:])
		case strings.HasPrefix(arg, "-c"):
			s.set(arg[2:])
		}
	}
	return s, nil
}

// StartDir returns the directory in which pg_ctl must run to restart the server of a data directory, an absolute path: pg_ctl
// repeats the options that postmaster.opts records, and a relative -D among them is looked up from there. ok is false if
// no directory on the way to the data directory will do.
func StartDir(data string) (dir string, ok bool, err error) {
	s, err := startedWith(data)
	if err != nil || s.dir == "" || filepath.IsAbs(s.dir) {
		return data, err == nil, err
	}
	for dir = filepath.Clean(data); ; dir = filepath.Dir(dir) {
		if filepath.Join(dir, s.dir) == filepath.Clean(data) {
			return dir, true, nil
		}
		if dir == filepath.Dir(dir) {
			return "", false, nil
		}
	}
}

func (s *started) set(text string) {
	if name, value, ok := strings.Cut(text, "="); ok {
		s.settings[strings.ToLower(strings.ReplaceAll(name, "-", "_"))] = value
	}
}

// file is the server's postgresql.conf, which need not lie in its data directory.
func (s *started) file(dir string) string {
	const name = "postgresql.conf"
	if file := s.settings["config_file"]; filepath.IsAbs(file) {
		return file
	}
	if filepath.IsAbs(s.dir) {
		if file := filepath.Join(s.dir, name); exists(file) {
			return file
		}
	}
	return filepath.Join(dir, name)
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}
