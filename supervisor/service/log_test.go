package service_test

import (
	"bytes"
	"log/slog"
	"os"
	"strings"
	"testing"

	"walkeep/supervisor/service"
)

func TestLog(t *testing.T) {
	for name, c := range map[string]struct {
		journal bool
		want    string
	}{
		"journal": {true, "<7>msg=detail task=a\n<6>msg=done task=a\n<4>msg=odd task=a g.n=1\n<3>msg=failed task=a error=\"line 1\\n<6>line 2\"\n"},
		"people": {false, "time=T level=DEBUG msg=detail task=a\ntime=T level=INFO msg=done task=a\ntime=T level=WARN msg=odd task=a g.n=1\n" +
			"time=T level=ERROR msg=failed task=a error=\"line 1\\n<6>line 2\"\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			log := service.NewLog(&b, slog.LevelDebug, c.journal).With("task", "a")
			log.Debug("detail")
			log.Info("done")
			log.WithGroup("g").Warn("odd", "n", 1)
			log.Error("failed", "error", "line 1\n<6>line 2") // must not forge a line
			var got strings.Builder
			for line := range strings.Lines(b.String()) {
				if rest, ok := strings.CutPrefix(line, "time="); ok {
					_, rest, _ = strings.Cut(rest, " ")
					line = "time=T " + rest
				}
				got.WriteString(line)
			}
			if got.String() != c.want {
				t.Errorf("got %q, want %q", got.String(), c.want)
			}
		})
	}
	var b bytes.Buffer
	service.NewLog(&b, slog.LevelError, true).Warn("not wanted")
	if b.Len() > 0 {
		t.Errorf("got %q", b.String())
	}
}

// The records are the same whatever pieces a command prints its lines in.
func TestLogWriter(t *testing.T) {
	const text = "one\n\nwarning: two\nhint: three\nfour"
	const want = "<6>msg=one\n<4>msg=two\n<6>msg=\"hint: three\"\n<6>msg=four\n"
	for size := 1; size <= len(text); size++ {
		var b bytes.Buffer
		w := &service.LogWriter{Log: service.NewLog(&b, slog.LevelInfo, true)}
		for rest := text; rest != ""; {
			n, err := w.Write([]byte(rest[:min(size, len(rest))]))
			if err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		w.Close()
		if b.String() != want {
			t.Errorf("pieces of %d bytes: got %q, want %q", size, b.String(), want)
		}
	}
}

func TestIsJournal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	t.Setenv("JOURNAL_STREAM", "1:2") // that of the process that started the test's shell
	if service.IsJournal(w) {
		t.Error("a pipe is taken for the journal")
	}
	t.Setenv("JOURNAL_STREAM", "")
	if service.IsJournal(w) {
		t.Error("taken for the journal where there is none")
	}
}
