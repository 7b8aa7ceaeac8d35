package launch

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"walkeep/supervisor/pgconf"
)

// maxTail is how many bytes of a log's end are read.
const maxTail = 256 << 10

// lastWords returns the last line in the server's newest log since a time that gives the reason for its end; an empty
// string if there is none.
func lastWords(dir string, c pgconf.Config, since time.Time) string {
	at := c.Effective(dir)["log_directory"]
	if at == "" || c.Foreign && filepath.IsAbs(at) {
		at = "log"
	}
	if !filepath.IsAbs(at) {
		at = filepath.Join(dir, at)
	}
	own := tail(filepath.Join(dir, LogName))
	for _, text := range []string{tail(newestFile(at, since)), own} {
		last := ""
		for line := range strings.Lines(text) {
			if i := max(strings.Index(line, "FATAL:"), strings.Index(line, "PANIC:")); i >= 0 && !strings.Contains(line, "the database system is") {
				last = strings.TrimSpace(line[i:])
			}
		}
		if last != "" {
			return last
		}
	}
	// Before its log is set up, a server writes errors without a severity. pg_ctl writes to the same file.
	lines := strings.Split(own, "\n")
	for _, line := range slices.Backward(lines) {
		line = strings.TrimSpace(chatter.ReplaceAllString(line, ""))
		if line != "" {
			return line
		}
	}
	return ""
}

// chatter matches pg_ctl's own messages.
var chatter = regexp.MustCompile(`^waiting for server to start\.*|stopped waiting$|pg_ctl: could not start server.*|^Examine the log output\.$`)

// newestFile returns the file in a directory that was changed last, if that was after a time.
func newestFile(dir string, at time.Time) string {
	entries, _ := os.ReadDir(dir)
	newest := ""
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && info.ModTime().After(at) {
			newest, at = filepath.Join(dir, e.Name()), info.ModTime()
		}
	}
	return newest
}

// tail reads the end of a log.
func tail(file string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > maxTail {
		f.Seek(-maxTail, io.SeekEnd)
	}
	content, _ := io.ReadAll(f)
	return string(content)
}

// fields splits fields that the kernel separates by spaces or zeros.
func fields(b []byte) []string {
	return strings.FieldsFunc(string(b), func(r rune) bool { return r == 0 || r == ' ' || r == '\n' })
}
