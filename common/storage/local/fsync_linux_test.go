package local_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// An object survives a power cut only if it was flushed in this order: the content before it gets its name, then its directory,
// then each directory above that, whichever process made them.
func TestFsyncs(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip(err)
	}
	for _, test := range []struct {
		do, name string
		before   []string // directories and objects that are there
		want     []string // calls, with paths below the root; TEMP is the temporary file
	}{
		{"put", "object", nil, []string{"fsync TEMP", "rename", "fsync .", "fsync ."}},
		{"put", "a/object", nil, []string{"fsync TEMP", "rename", "fsync a", "fsync ."}},
		{"put", "a/b/object", nil, []string{"fsync TEMP", "rename", "fsync a/b", "fsync a", "fsync ."}},
		{"put", "a/b/object", []string{"a/b/"}, []string{"fsync TEMP", "rename", "fsync a/b", "fsync a", "fsync ."}},
		{"replace", "a/b/note", nil, []string{"fsync TEMP", "rename", "fsync a/b", "fsync a", "fsync ."}},
		{"replace", "a/b/note", []string{"a/b/note"}, []string{"fsync TEMP", "rename", "fsync a/b", "fsync a", "fsync ."}},
		{"sync", "a/b/object", []string{"a/b/object"}, []string{"fsync a/b/object", "fsync a/b", "fsync a", "fsync ."}},
		{"sync", "object", []string{"object"}, []string{"fsync object", "fsync ."}},
		{"remove", "a/object", []string{"a/object"}, []string{"fsync a"}},
	} {
		t.Run(test.do+" "+test.name, func(t *testing.T) {
			root := t.TempDir()
			for _, name := range test.before {
				path := filepath.Join(root, name)
				if strings.HasSuffix(name, "/") {
					path = filepath.Join(path, "other")
				}
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got := calls(t, root, test.do, test.name); !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

var (
	fsyncLine  = regexp.MustCompile(`fsync\(\d+<([^>]*)>\) += 0`)
	renameLine = regexp.MustCompile(`rename(at2?)?\(.*\) += 0`)
)

// calls gives the fsyncs and renames of another process in their order.
func calls(t *testing.T, root, do, name string) []string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if root, err = filepath.EvalSymlinks(root); err != nil {
		t.Fatal(err)
	}
	trace := filepath.Join(t.TempDir(), "trace")
	cmd := exec.Command("strace", "-f", "-y", "-qq", "--signal=none", "-o", trace, "-e", "trace=fsync,fdatasync,?rename,renameat,renameat2", self, do, name)
	cmd.Env = append(os.Environ(), helperVariable+"="+root)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	lines, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(joinUnfinished(string(lines))) {
		if m := fsyncLine.FindStringSubmatch(line); m != nil {
			path, err := filepath.Rel(root, m[1])
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(path, ".tmp") {
				path = "TEMP"
			}
			got = append(got, "fsync "+path)
		} else if renameLine.MatchString(line) {
			got = append(got, "rename")
		}
	}
	return got
}

// joinUnfinished puts together the calls that strace shows in two lines.
func joinUnfinished(trace string) string {
	begun := make(map[string]string) // by process
	var out strings.Builder
	for line := range strings.Lines(trace) {
		pid, call, _ := strings.Cut(strings.TrimSpace(line), " ")
		call = strings.TrimSpace(call)
		if head, ok := strings.CutSuffix(call, "<unfinished ...>"); ok {
			begun[pid] = head
			continue
		}
		if _, tail, ok := strings.Cut(call, " resumed>"); ok {
			call = strings.TrimSpace(begun[pid]) + tail
		}
		out.WriteString(call + "\n")
	}
	return out.String()
}
