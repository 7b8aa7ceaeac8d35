package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"walkeep/common/cmdtest"
)

func TestMain(m *testing.M) { os.Exit(cmdtest.Main(m)) }

// archive prepares a call of archive-cmd without look-ahead.
func archive(spool cmdtest.Spool, path string, more ...string) *exec.Cmd {
	args := append([]string{"--spool", string(spool), "--lookahead", "0"}, more...)
	return cmdtest.Command("archive-cmd", append(args, path)...)
}

// A bench is what most tests need: a data directory with files that wait, and an empty spool.
type bench struct {
	dir   string
	data  cmdtest.DataDir
	spool cmdtest.Spool
}

func newBench(t testing.TB, dir string, waiting cmdtest.Files) bench {
	t.Helper()
	return bench{dir, cmdtest.NewDataDir(t, dir, waiting), cmdtest.NewSpool(t, dir)}
}

// run archives a waiting file.
func (b bench) run(t testing.TB, name string, more ...string) cmdtest.Result {
	t.Helper()
	return cmdtest.Run(t, archive(b.spool, b.data.Path("pg_wal", name), more...))
}

func TestConfigurationFile(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	name := files.Segments()[0]
	tests := []struct {
		name, content, say string // no say: it is accepted
	}{
		{"in a section", "[walkeep]\nspool = SPOOL\n", ""},
		{"without a section", "spool = SPOOL\n", ""},
		{"with comments", "; ours\n\n# and theirs\n[walkeep]\nspool = SPOOL\n", ""},
		{"with keys of others", "[walkeep]\nspool = SPOOL\nretry-time = 10s\n", ""},
		{"bad value", "[walkeep]\nspool = SPOOL\nlookahead = many\n", "line 3"},
		{"bad codec", "[walkeep]\nspool = SPOOL\ncodec = rar\n", `"rar"`},
		{"a key twice", "[walkeep]\nspool = SPOOL\nspool = /else\n", "line 3: spool is given again"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, cmdtest.FastDir(t), files.Only(name))
			file := filepath.Join(b.dir, "walkeep.ini")
			cmdtest.Write(t, file, []byte(strings.ReplaceAll(test.content, "SPOOL", string(b.spool))))
			r := cmdtest.Run(t, cmdtest.Command("archive-cmd", "-c", file, b.data.Path("pg_wal", name)))
			if test.say == "" {
				r.Expect(t, 0)
				b.spool.Check(t, files.Only(name))
				return
			}
			r.Expect(t, 2, test.say, "hint: archive-cmd --help")
			b.spool.Check(t, nil)
		})
	}
}

// TestForeignConfiguration holds that nothing in the configuration that archive-cmd does not use stops archiving, and that
// it is reported.
func TestForeignConfiguration(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	name := files.Segments()[0]
	for _, test := range []struct{ name, content, env, say string }{
		{"unknown key", "[walkeep]\nspool = SPOOL\n\ncodek = s2\n", "", "line 4: unknown option: codek"},
		{"unknown key without a section", "spool = SPOOL\ncodek = s2\n", "", "line 2: unknown option: codek"},
		{"unknown section", "[walkeep]\nspool = SPOOL\n[other]\ncodec = s2\n", "", "line 3: unknown section [other]"},
		{"no key", "[walkeep]\nspool = SPOOL\nnonsense\n", "", "line 3: malformed"},
		{"half a section", "[walkeep\nspool = SPOOL\n", "", "line 1: malformed section"},
		{"key of the command line only", "[walkeep]\nspool = SPOOL\nversion = true\n", "", "line 3: unknown option: version"},
		{"bad value of another command", "spool = SPOOL\nretry-time = soon\n", "", "line 2: retry-time"},
		{"refused value of another command", "spool = SPOOL\nslot = MY-SLOT\n", "", "slot is"},
		{"environment", "spool = SPOOL\n", "WALKEEP_RETRY_TIME=soon", "WALKEEP_RETRY_TIME"},
		{"missing", "", "WALKEEP_CONFIG=/none.ini", "none.ini"},
		{"directory", "", "WALKEEP_CONFIG=/dev", "/dev"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, cmdtest.FastDir(t), files.Only(name))
			file := filepath.Join(b.dir, "walkeep.ini")
			cmdtest.Write(t, file, []byte(strings.ReplaceAll(test.content, "SPOOL", string(b.spool))))
			cmd := cmdtest.Command("archive-cmd", b.data.Path("pg_wal", name))
			if test.content == "" {
				cmd.Args = append(cmd.Args, "--spool", string(b.spool))
			}
			cmd.Env = append(cmd.Env, "WALKEEP_CONFIG="+file, test.env)
			cmdtest.Run(t, cmd).Expect(t, 0, "warning: configuration: ", test.say)
			b.spool.Check(t, files.Only(name))
		})
	}
}

// TestPrecedence holds that an option beats the environment, which beats the file.
func TestPrecedence(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	name := files.Segments()[0]
	tests := []struct {
		name, file, env string
		args            []string
		want            string // ending
	}{
		{"nothing", "", "", nil, ".zst"},
		{"file", "codec = gzip\n", "", nil, ".gz"},
		{"environment", "", "lz4", nil, ".lz4"},
		{"environment before file", "codec = gzip\n", "lz4", nil, ".lz4"},
		{"flag before all", "codec = gzip\n", "lz4", []string{"--codec", "s2"}, ".s2"},
		{"flag before file", "codec = gzip\n", "", []string{"--codec=s2"}, ".s2"},
		{"flag that says the default", "codec = gzip\n", "lz4", []string{"--codec", "zstd"}, ".zst"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, cmdtest.FastDir(t), files.Only(name))
			file := filepath.Join(b.dir, "walkeep.ini")
			cmdtest.Write(t, file, []byte(test.file))
			cmd := archive(b.spool, b.data.Path("pg_wal", name), test.args...)
			cmd.Env = append(cmd.Env, "WALKEEP_CONFIG="+file)
			if test.env != "" {
				cmd.Env = append(cmd.Env, "WALKEEP_CODEC="+test.env)
			}
			cmdtest.Run(t, cmd).Expect(t, 0)
			b.spool.Check(t, files.Only(name))
			if got := b.spool.Object(t, name).Ending; got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestArgumentsInAnyOrder(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	name := files.Segments()[0]
	for _, order := range []string{"before", "after", "between"} {
		t.Run(order, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, cmdtest.FastDir(t), files.Only(name))
			path, spool := filepath.Join("pg_wal", name), string(b.spool)
			args := map[string][]string{
				"before":  {"--spool", spool, "-v", path},
				"after":   {path, "--spool", spool, "-v"},
				"between": {"-v", path, "--spool=" + spool},
			}[order]
			cmd := cmdtest.Command("archive-cmd", args...)
			cmd.Dir = string(b.data)
			cmdtest.Run(t, cmd).Expect(t, 0, name+" is archived as ")
			b.spool.Check(t, files.Only(name))
		})
	}
}
