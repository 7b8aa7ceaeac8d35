package pgconf_test

import (
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"walkeep/supervisor/pgconf"
)

// The shell gives the quoted paths to the program unchanged, after PostgreSQL has replaced the percent signs.
func TestCommandWord(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("needs a shell")
	}
	paths := []string{"/srv/wal", "/srv/the server's", `/srv/"quoted"`, "/srv/100%", "/srv/%p %%f", "/srv/$HOME `x` \\ !", "/srv/ü", "-x", "/a;b|c&d", "/a\tb", "/*"}
	var quoted []string
	for _, path := range paths {
		quoted = append(quoted, pgconf.CommandWord(path))
	}
	command := "printf '%%s\\n' " + strings.Join(quoted, " ")
	out, err := exec.Command("sh", "-c", strings.ReplaceAll(command, "%%", "%")).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n"); !slices.Equal(got, paths) {
		t.Errorf("the shell gives %q, want %q", got, paths)
	}
	words, ok := pgconf.CommandWords(command)
	if !ok || !slices.Equal(words[2:], paths) {
		t.Errorf("got %q, %v, want %q", words, ok, paths)
	}
}

func TestCommandWords(t *testing.T) {
	for _, test := range []struct {
		command string
		want    []string // nil: the command is not plain
	}{
		{`a b  c`, []string{"a", "b", "c"}},
		{` "a b" 'c d' ''`, []string{"a b", "c d", ""}},
		{`a --spool="x y"/z "%p"`, []string{"a", "--spool=x y/z", "%p"}},
		{`a "x\"y" x\ y 'x\y' "x\y"`, []string{"a", `x"y`, "x y", `x\y`, `x\y`}},
		{`test ! -f /x/%f && cp %p /x/%f`, nil},
		{`a > b`, nil}, {`a $b`, nil}, {`a "$b"`, nil}, {`a "b`, nil}, {`a 'b`, nil}, {`a \`, nil}, {"a `b`", nil}, {`a; b`, nil},
		{``, []string{}},
	} {
		if runtime.GOOS == "windows" && strings.ContainsAny(test.command, `'\$`) {
			continue
		}
		got, ok := pgconf.CommandWords(test.command)
		if ok != (test.want != nil) || ok && !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, %v, want %q", test.command, got, ok, test.want)
		}
	}
}
