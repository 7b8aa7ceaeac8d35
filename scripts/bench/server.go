//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A server is PostgreSQL running below a launcher.
type server struct {
	*launch
	log    string
	offset int64  // how much of the log was read
	rest   string // the log's last line, as long as that is incomplete
}

// A logLine is a line of the server's log, or of what the commands that it runs write to stderr.
type logLine struct {
	at   time.Time // zero where the server did not write it
	text string
}

// startServer starts PostgreSQL on a data directory. The settings are those of a usual server, but for autovacuum,
// automatic checkpoints and recycling of segments, which would come at different moments in different runs.
func (p *place) startServer(data string, settings ...string) (*server, error) {
	argv := []string{filepath.Join(p.pgBindir, "postgres"), "-D", data}
	for _, s := range append([]string{
		"listen_addresses=", "unix_socket_directories=" + p.runs, "port=5432", "log_line_prefix=%n ", "log_timezone=UTC",
		"logging_collector=off", "autovacuum=off", "checkpoint_timeout=1h", "max_wal_size=100GB", "wal_keep_size=100GB",
		"shared_buffers=512MB", "wal_compression=off",
	}, settings...) {
		argv = append(argv, "-c", s)
	}
	s := &server{log: data + ".log"}
	var err error
	s.launch, err = p.launch(s.log, data, 1, argv)
	return s, err
}

// lines returns what was added to the log since the last call.
func (s *server) lines() ([]logLine, error) {
	f, err := os.Open(s.log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := f.Seek(s.offset, io.SeekStart); err != nil {
		return nil, err
	}
	added, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	s.offset += int64(len(added))
	text := s.rest + string(added)
	end := strings.LastIndexByte(text, '\n') + 1
	s.rest = text[end:]
	var lines []logLine
	for line := range strings.Lines(text[:end]) {
		lines = append(lines, parseLogLine(strings.TrimSuffix(line, "\n")))
	}
	return lines, nil
}

// parseLogLine splits a line written with log_line_prefix '%n ': seconds since 1970 with three decimals.
func parseLogLine(line string) logLine {
	stamp, text, _ := strings.Cut(line, " ")
	whole, part, ok := strings.Cut(stamp, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	millis, err2 := strconv.ParseInt(part, 10, 64)
	if !ok || len(part) != 3 || err != nil || err2 != nil {
		return logLine{text: line}
	}
	return logLine{at: time.Unix(seconds, millis*1e6), text: text}
}

// runLimit is when a run that makes no end is given up.
const runLimit = 10 * time.Minute

// watch hands all lines of the log to see, every so often, until see reports that it has seen enough.
func (s *server) watch(ctx context.Context, every time.Duration, see func(logLine) (bool, error)) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	limit := time.After(runLimit)
	for exited := false; ; {
		lines, err := s.lines()
		if err != nil {
			return err
		}
		for _, line := range lines {
			if enough, err := see(line); enough || err != nil {
				return err
			}
		}
		if exited {
			return errors.New("the server ended by itself")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-limit:
			return fmt.Errorf("no end after %v", runLimit)
		case <-s.done:
			exited = true // once more: its last words
		case <-tick.C:
		}
	}
}

// ready waits until the server accepts connections, and returns since when it does.
func (s *server) ready(ctx context.Context) (at time.Time, err error) {
	err = s.watch(ctx, 5*time.Millisecond, func(line logLine) (bool, error) {
		at = line.at
		return strings.Contains(line.text, "ready to accept connections"), nil
	})
	return at, err
}

// stop ends the server in the way asked for, waits for all that it has started, and returns what that took.
func (s *server) stop(ctx context.Context, how string) (usage, error) {
	s.ask(how)
	select {
	case <-ctx.Done():
		return usage{}, ctx.Err()
	case <-s.done:
		return s.usage, s.err
	}
}

// failed adds to an error the last lines of the log.
func (s *server) failed(err error) error {
	content, readErr := os.ReadFile(s.log)
	if readErr != nil {
		return err
	}
	return fmt.Errorf("%w\n  the end of its log:\n%s", err, tail(string(content)))
}

// tail is the last lines of a text, indented.
func tail(text string) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return "    " + strings.Join(lines[max(0, len(lines)-25):], "\n    ")
}
