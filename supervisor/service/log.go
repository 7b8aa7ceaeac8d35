package service

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
)

// NewLog returns a log for people or for the journal, with one line for each record. The journal adds the time
// itself, and reads the level from the line's beginning (sd-daemon(3)).
func NewLog(w io.Writer, level slog.Level, journal bool) *slog.Logger {
	if !journal {
		return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
	}
	out := &journalWriter{w: w}
	return slog.New(&journalHandler{out, slog.NewTextHandler(out, &slog.HandlerOptions{Level: level, ReplaceAttr: withoutTime})})
}

func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
		return slog.Attr{}
	}
	return a
}

// A journalWriter begins each line with its priority.
type journalWriter struct {
	mu       sync.Mutex // held while one record is written
	priority string
	w        io.Writer
}

func (j *journalWriter) Write(line []byte) (int, error) {
	_, err := j.w.Write(append([]byte(j.priority), line...))
	return len(line), err
}

type journalHandler struct {
	out *journalWriter
	slog.Handler
}

func (h *journalHandler) Handle(ctx context.Context, r slog.Record) error {
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	switch {
	case r.Level >= slog.LevelError:
		h.out.priority = "<3>"
	case r.Level >= slog.LevelWarn:
		h.out.priority = "<4>"
	case r.Level >= slog.LevelInfo:
		h.out.priority = "<6>"
	default:
		h.out.priority = "<7>"
	}
	return h.Handler.Handle(ctx, r)
}

func (h *journalHandler) WithAttrs(a []slog.Attr) slog.Handler {
	return &journalHandler{h.out, h.Handler.WithAttrs(a)}
}

func (h *journalHandler) WithGroup(name string) slog.Handler {
	return &journalHandler{h.out, h.Handler.WithGroup(name)}
}

// A LogWriter turns the lines that a task prints into log records. Its methods may be called concurrently.
type LogWriter struct {
	Log  *slog.Logger
	mu   sync.Mutex
	rest []byte
}

// Write logs the complete lines, and keeps the rest.
func (w *LogWriter) Write(text []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest = append(w.rest, text...)
	for {
		line, rest, complete := bytes.Cut(w.rest, []byte("\n"))
		if !complete {
			return len(text), nil
		}
		w.rest = rest
		w.line(string(line))
	}
}

// Close logs the rest.
func (w *LogWriter) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.line(string(w.rest))
	w.rest = nil
}

func (w *LogWriter) line(line string) {
	line = strings.TrimSpace(line)
	if warning, ok := strings.CutPrefix(line, "warning: "); ok {
		w.Log.Warn(warning)
	} else if line != "" {
		w.Log.Info(line)
	}
}
