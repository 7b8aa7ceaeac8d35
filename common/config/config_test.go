package config_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"walkeep/common/config"
)

// clean gives a test an environment without walkeep's variables, and a configuration file.
func clean(t testing.TB, content string) string {
	t.Helper()
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "WALKEEP_") {
			value := os.Getenv(name)
			os.Unsetenv(name)
			t.Cleanup(func() { os.Setenv(name, value) })
		}
	}
	file := filepath.Join(t.TempDir(), "walkeep.ini")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// parse reads arguments as a program does that has all options.
func parse(args ...string) (config.Config, string, error) {
	var help bytes.Buffer
	var positional struct {
		Args struct {
			Path string `positional-arg-name:"PATH"`
		} `positional-args:"yes" required:"yes"`
	}
	c, err := config.Command{
		Name:  "test-cmd",
		About: "A command for tests.",
		Parts: func(c *config.Config) []any {
			return []any{
				&c.Compression, &c.Archive, &c.Encryption, &c.Decryption, &c.Restore, &c.Repos, &c.Server, &c.Backup, &c.Stream, &c.Ship, &c.Standby, &c.Effort, &c.Retention, &c.Schedule,
			}
		},
		Args: &positional,
	}.Parse(args, &help)
	if err == nil && !c.Version && positional.Args.Path != "PATH" {
		err = fmt.Errorf("the argument is %q", positional.Args.Path)
	}
	return c, help.String(), err
}

// options have for each key three values and how to look at it. All differ from the default.
var options = []struct {
	key             string
	file, env, flag string // "" where an option takes no value
	get             func(config.Config) any
	want            [4]any // default, file, environment, flag
}{
	{"spool", "/file", "/env", "/flag", func(c config.Config) any { return c.Spool }, [4]any{"/spool", "/file", "/env", "/flag"}},
	{"verbose", "true", "false", "", func(c config.Config) any { return c.Verbose }, [4]any{false, true, false, true}},
	{"quiet", "1", "0", "", func(c config.Config) any { return c.Quiet }, [4]any{false, true, false, true}},
	{"codec", "s2", "lz4", "gzip", func(c config.Config) any { return c.Codec }, [4]any{"zstd", "s2", "lz4", "gzip"}},
	{"level", "2", "3", "22", func(c config.Config) any { return c.Level }, [4]any{0, 2, 3, 22}},
	{"lookahead", "1", "0", "1024", func(c config.Config) any { return c.Lookahead }, [4]any{24, 1, 0, 1024}},
	{"verify", "strict", "off", "warn", func(c config.Config) any { return c.Verify }, [4]any{"warn", "strict", "off", "warn"}},
	{"spool-limit", "200GB", "512 MB", "10GB", func(c config.Config) any { return c.SpoolLimit },
		[4]any{config.Size(0), config.Size(200 << 30), config.Size(512 << 20), config.Size(10 << 30)}},
	{"retry-time", "1m30s", "2s", "500ms", func(c config.Config) any { return c.RetryTime },
		[4]any{5 * time.Second, 90 * time.Second, 2 * time.Second, 500 * time.Millisecond}},
	{"conninfo", "host=a", "host=b", "host=c", func(c config.Config) any { return c.Conninfo }, [4]any{"", "host=a", "host=b", "host=c"}},
	{"pgdata", "/a", "/b", "/c", func(c config.Config) any { return c.PGData }, [4]any{"", "/a", "/b", "/c"}},
	{"bindir", "/a", "/b", "/c", func(c config.Config) any { return c.Bindir }, [4]any{"", "/a", "/b", "/c"}},
	{"backup-from", "files", "stream", "files", func(c config.Config) any { return c.From }, [4]any{"auto", "files", "stream", "files"}},
	{"checkpoint", "spread", "fast", "spread", func(c config.Config) any { return c.Checkpoint }, [4]any{"fast", "spread", "fast", "spread"}},
	{"max-rate", "1MB", "32kB", "1GB", func(c config.Config) any { return c.MaxRate },
		[4]any{config.Size(0), config.Size(1 << 20), config.Size(32 << 10), config.Size(1 << 30)}},
	{"archive-timeout", "1s", "1m", "1h", func(c config.Config) any { return c.ArchiveTimeout },
		[4]any{2 * time.Minute, time.Second, time.Minute, time.Hour}},
	{"page-errors", "warn", "fail", "warn", func(c config.Config) any { return c.PageErrors }, [4]any{"fail", "warn", "fail", "warn"}},
	{"jobs", "1", "2", "3", func(c config.Config) any { return c.Jobs }, [4]any{0, 1, 2, 3}},
	{"keep-backups", "1", "2", "3", func(c config.Config) any { return c.KeepBackups }, [4]any{0, 1, 2, 3}},
	{"keep-days", "1", "2", "3", func(c config.Config) any { return c.KeepDays }, [4]any{0, 1, 2, 3}},
	{"backup-schedule", "@daily", "@weekly", "@hourly", func(c config.Config) any { return c.BackupSchedule }, [4]any{"", "@daily", "@weekly", "@hourly"}},
	{"cleanup-schedule", "@daily", "@weekly", "@hourly", func(c config.Config) any { return c.CleanupSchedule }, [4]any{"", "@daily", "@weekly", "@hourly"}},
	{"verify-schedule", "@daily", "@weekly", "@hourly", func(c config.Config) any { return c.VerifySchedule }, [4]any{"", "@daily", "@weekly", "@hourly"}},
	{"deep-verify-schedule", "@daily", "@weekly", "@hourly", func(c config.Config) any { return c.DeepVerifySchedule }, [4]any{"", "@daily", "@weekly", "@hourly"}},
	{"drill-schedule", "@daily", "@weekly", "@hourly", func(c config.Config) any { return c.DrillSchedule }, [4]any{"", "@daily", "@weekly", "@hourly"}},
	{"drill-dir", "/a", "/b", "/c", func(c config.Config) any { return c.DrillDir }, [4]any{"", "/a", "/b", "/c"}},
	{"stream", "true", "false", "", func(c config.Config) any { return c.Streaming }, [4]any{false, true, false, true}},
	{"slot", "a", "b", "c", func(c config.Config) any { return c.Slot }, [4]any{"walkeep", "a", "b", "c"}},
	{"flush-interval", "1s", "2s", "0s", func(c config.Config) any { return c.FlushInterval }, [4]any{50 * time.Millisecond, time.Second, 2 * time.Second, time.Duration(0)}},
	{"synchronous", "true", "false", "", func(c config.Config) any { return c.Synchronous }, [4]any{false, true, false, true}},
	{"partial-plain", "true", "false", "", func(c config.Config) any { return c.PartialPlain }, [4]any{false, true, false, true}},
	{"recipients-file", "/a", "/b", "/c", func(c config.Config) any { return c.RecipientsFile }, [4]any{"", "/a", "/b", "/c"}},
	{"identity-file", "/a", "/b", "/c", func(c config.Config) any { return c.IdentityFile }, [4]any{"", "/a", "/b", "/c"}},
	{"identity-passphrase-file", "/a", "/b", "/c", func(c config.Config) any { return c.IdentityPassphraseFile }, [4]any{"", "/a", "/b", "/c"}},
	{"partial-interval", "1m30s", "2s", "0", func(c config.Config) any { return c.PartialInterval },
		[4]any{10 * time.Second, 90 * time.Second, 2 * time.Second, time.Duration(0)}},
	{"spool-keep", "200GB", "512 MB", "0", func(c config.Config) any { return c.SpoolKeep },
		[4]any{config.Size(1 << 30), config.Size(200 << 30), config.Size(512 << 20), config.Size(0)}},
	{"primary-conninfo", "host=a", "host=b", "host=c", func(c config.Config) any { return c.PrimaryConninfo }, [4]any{"", "host=a", "host=b", "host=c"}},
	{"backup-after-promote", "true", "false", "", func(c config.Config) any { return c.BackupAfter }, [4]any{false, true, false, true}},
	{"metrics-listen", "127.0.0.1:1", ":2", "[::1]:3", func(c config.Config) any { return c.MetricsListen }, [4]any{"", "127.0.0.1:1", ":2", "[::1]:3"}},
}

// A flag beats the environment, which beats the file, for every option and every combination.
func TestPrecedence(t *testing.T) {
	for _, o := range options {
		for sources := range 8 {
			t.Run(fmt.Sprintf("%s/%03b", o.key, sources), func(t *testing.T) {
				content, args, want := "", []string{"PATH"}, o.want[0]
				if o.key != "spool" {
					args = append(args, "--spool", "/spool")
				} else if sources == 0 {
					args, want = append(args, "--spool=/spool"), "/spool"
				}
				if sources&1 != 0 {
					content, want = fmt.Sprintf("%s = %s\n", o.key, o.file), o.want[1]
				}
				file := clean(t, content)
				if sources&2 != 0 {
					t.Setenv("WALKEEP_"+strings.ToUpper(strings.ReplaceAll(o.key, "-", "_")), o.env)
					want = o.want[2]
				}
				if sources&4 != 0 {
					args, want = append(args, "--"+o.key), o.want[3]
					if o.flag != "" {
						args = append(args, o.flag)
					}
				}
				c, _, err := parse(append(args, "--config", file)...)
				if err != nil {
					t.Fatal(err)
				}
				if got := o.get(c); got != want {
					t.Errorf("got %v, want %v", got, want)
				}
			})
		}
	}
}

// Every option that the programs know is in the table above, so that a new one is tested as well.
func TestPrecedenceIsComplete(t *testing.T) {
	clean(t, "")
	_, help, err := parse("--help")
	if !errors.Is(err, config.ErrHelp) {
		t.Fatalf("got %v, want ErrHelp", err)
	}
	known := map[string]bool{"config": true, "version": true, "help": true, "repo": true, "repo-url": true} // these are not in the file
	for _, o := range options {
		known[o.key] = true
	}
	found := 0
	for _, word := range strings.Fields(help) {
		if option, ok := strings.CutPrefix(word, "--"); ok {
			option, _, _ = strings.Cut(option, "=")
			found++
			if !known[option] {
				t.Errorf("--%s is not tested", option)
			}
		}
	}
	if found < len(known) {
		t.Errorf("the help shows %d options, want %d:\n%s", found, len(known), help)
	}
}

func TestSections(t *testing.T) {
	for name, content := range map[string]string{
		"no section":           "codec = gzip\nlevel = 9\nspool = /s\n",
		"one section":          "[walkeep]\ncodec = gzip\nlevel = 9\nspool = /s\n",
		"a section late":       "codec = gzip\n\n[walkeep]\nlevel = 9\nspool = /s\n",
		"a section twice":      "[walkeep]\ncodec = gzip\n[walkeep]\nlevel = 9\nspool = /s\n",
		"comments and space":   "# comment\n; comment\n\n\t[walkeep]  \n  codec=gzip\nlevel  =  9  \nspool =\t/s",
		"lines of Windows":     "[walkeep]\r\ncodec = gzip\r\nlevel = 9\r\nspool = /s\r\n",
		"byte order mark":      "\uFEFF[walkeep]\ncodec = gzip\nlevel = 9\nspool = /s\n",
		"byte order mark, key": "\uFEFFcodec = gzip\nlevel = 9\nspool = /s\n",
		"quotes":               "codec = \"gzip\"\nlevel = \"9\"\nspool = \"/s\"\n",
	} {
		t.Run(name, func(t *testing.T) {
			c, _, err := parse("PATH", "-c", clean(t, content))
			if err != nil {
				t.Fatal(err)
			}
			if c.Codec != "gzip" || c.Level != 9 || c.Spool != "/s" {
				t.Errorf("got %q, %d, %q", c.Codec, c.Level, c.Spool)
			}
		})
	}
}

// An error of the file names file, line and key.
func TestFileErrors(t *testing.T) {
	for _, test := range []struct{ name, content, want string }{
		{"unknown key", "spool = /s\n\nspol = /s\n", "line 3: unknown option: spol"},
		{"unknown key in the section", "[walkeep]\nspool = /s\ncompression = 3\n", "line 3: unknown option: compression"},
		{"a field's name", "SpoolLimit = 1GB\n", "line 1: unknown option: SpoolLimit"},
		{"a short name", "v = true\n", "line 1: unknown option: v"},
		{"a key in capitals", "Spool = /s\n", "line 1: unknown option: Spool"},
		{"no key", "= x\n", "line 1: unknown option"},
		{"the file itself", "config = /other\n", "line 1: unknown option: config"},
		{"version", "version = true\n", "line 1: unknown option: version"},
		{"unknown section", "[walkeep]\nspool = /s\n[wal-master]\n", "line 3: unknown section [wal-master]"},
		{"half a section", "[walkeep\nspool = /s\n", "line 1: malformed section"},
		{"empty section", "[]\n", "line 1: unknown section []"},
		{"only a bracket", "spool = /s\n[\n", "line 2: malformed section"},
		{"a bracket too many", "[[walkeep]\n", "line 1: unknown section [[walkeep]"},
		{"no value", "spool = /s\nverbose\n", "line 2: malformed key=value (verbose)"},
		{"a number that is none", "level = nine\n", "line 1: level: strconv.ParseInt"},
		{"a number that is too large", "level = 99999999999999999999\n", "line 1: level: strconv.ParseInt"},
		{"a boolean that is none", "verbose = maybe\n", "line 1: verbose: strconv.ParseBool"},
		{"a time without a unit", "\nretry-time = 5\n", "line 2: retry-time: time: missing unit"},
		{"an empty time", "retry-time =\n", "line 1: retry-time: time: invalid duration"},
		{"a size that is none", "spool-limit = much\n", `line 1: spool-limit: "much" is not a size`},
		{"half a quote", "spool = \"/s\n", "line 1: spool: invalid syntax"},
		{"a key twice", "spool = /s\nlevel = 1\nspool = /t\n", "line 3: spool is given again, after line 1"},
		{"a key twice, in and out of the section", "level = 1\n[walkeep]\nlevel = 2\n", "line 3: level is given again, after line 1"},
		{"the same twice", "spool = /s\nspool = /s\n", "line 2: spool is given again"},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := clean(t, test.content)
			for range 5 { // go-flags walks the sections in any order
				_, _, err := parse("PATH", "--spool=/s", "-c", file)
				if err == nil || !strings.Contains(err.Error(), file+", "+test.want) {
					t.Errorf("got %v, want %s, %s", err, file, test.want)
				}
			}
		})
	}
}

// What is wrong is wrong wherever it is reported.
func TestBadValues(t *testing.T) {
	for _, test := range []struct{ key, value, want string }{
		{"codec", "brotli", `unknown codec "brotli": choose one of zstd, s2, lz4, gzip, none`},
		{"codec", "ZSTD", `unknown codec "ZSTD"`},
		{"level", "23", "codec zstd has levels 1 to 22, not 23"},
		{"level", "-1", "codec zstd has levels 1 to 22, not -1"},
		{"level", "1.5", "1.5"},
		{"lookahead", "-1", "lookahead is 0 to 1024, not -1"},
		{"lookahead", "1025", "lookahead is 0 to 1024, not 1025"},
		{"verify", "no", `verify is warn, strict or off, not "no"`},
		{"verify", "Strict", `verify is warn, strict or off, not "Strict"`},
		{"spool-limit", "-1GB", `"-1GB" is not a size`},
		{"spool-limit", "10gb", `"10gb" is not a size`},
		{"retry-time", "-1s", "retry-time is 0 to 1h, not -1s"},
		{"retry-time", "1h1ns", "retry-time is 0 to 1h, not 1h0m0.000000001s"},
		{"retry-time", "5", "missing unit"},
	} {
		variable := "WALKEEP_" + strings.ToUpper(strings.ReplaceAll(test.key, "-", "_"))
		for _, source := range []string{"file", "environment", "flag"} {
			t.Run(test.key+"="+test.value+"/"+source, func(t *testing.T) {
				content, args := "", []string{"PATH", "--spool=/s"}
				switch source {
				case "file":
					content = test.key + " = " + test.value
				case "flag":
					args = append(args, "--"+test.key+"="+test.value)
				}
				file := clean(t, content)
				if source == "environment" {
					t.Setenv(variable, test.value)
				}
				_, _, err := parse(append(args, "-c", file)...)
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("got %v, want %s", err, test.want)
				}
			})
		}
	}
	for key, value := range map[string]string{"LEVEL": "x", "VERBOSE": "maybe", "SPOOL_LIMIT": "1PB", "RETRY_TIME": "soon"} {
		t.Run("named/"+key, func(t *testing.T) {
			file := clean(t, "")
			t.Setenv("WALKEEP_"+key, value)
			if _, _, err := parse("PATH", "--spool=/s", "-c", file); err == nil || !strings.Contains(err.Error(), "WALKEEP_"+key) {
				t.Errorf("got %v, want one that names the variable", err)
			}
		})
	}
}

// A tolerant command, which uses few keys, fails only for these, and warns of everything else. Each line is one problem at
// least.
func TestTolerant(t *testing.T) {
	tolerant := func(file string, args ...string) (c config.Config, problems []string, err error) {
		c, err = config.Command{
			Name: "test-cmd", Parts: func(c *config.Config) []any { return []any{&c.Restore} }, Tolerant: true,
			Warn: func(problem string) { problems = append(problems, problem) },
		}.Parse(append(args, "-c", file), nil)
		return c, problems, err
	}
	var foreign []string
	for _, o := range options {
		switch o.key {
		case "spool", "verbose", "quiet", "retry-time":
		case "level", "lookahead", "jobs", "keep-backups", "keep-days", "spool-limit", "spool-keep", "partial-interval", "max-rate", "archive-timeout", "flush-interval", "stream",
			"synchronous", "backup-after-promote":
			foreign = append(foreign, o.key+" = nothing")
		case "codec", "verify", "checkpoint", "slot":
			foreign = append(foreign, o.key+" = NO-such-thing")
		default:
			foreign = append(foreign, o.key+` = "half a quote`)
		}
	}
	foreign = append(foreign, "unknown = 1", "nonsense", "= x", "[", "[other]\nretry-time = nothing\n[walkeep]")
	for _, line := range append(foreign, strings.Join(foreign, "\n")) {
		for _, content := range []string{line + "\nspool = /s\nretry-time = 7s", "spool = /s\nretry-time = 7s\n" + line} {
			c, problems, err := tolerant(clean(t, content))
			if err != nil || c.Spool != "/s" || c.RetryTime != 7*time.Second || len(problems) == 0 {
				t.Errorf("%q: got %q, %s, %q, %v", content, c.Spool, c.RetryTime, problems, err)
			}
			// A section that no program knows may have been meant for a repository.
			if (c.Unread != nil) != strings.Contains(content, "[") {
				t.Errorf("%q: which repositories there are is unclear: %v", content, c.Unread)
			}
			c.Spool, c.RetryTime, c.File, c.Unread = "", 5*time.Second, "", nil
			if !reflect.DeepEqual(c, config.Default()) {
				t.Errorf("%q: got %+v", content, c)
			}
		}
	}
	for _, content := range []string{"retry-time = nothing", "retry-time = 2h", "spool = /a\nspool = /b", "verbose = maybe"} {
		if _, _, err := tolerant(clean(t, content), "--spool=/s"); err == nil {
			t.Errorf("%q: a key of its own is not refused", content)
		}
	}
	if _, problems, err := tolerant(t.TempDir(), "--spool=/s"); err != nil || len(problems) != 1 {
		t.Errorf("a file that cannot be read: got %q, %v", problems, err)
	}
	if _, _, err := tolerant(t.TempDir()); err == nil || !strings.Contains(err.Error(), "directory") {
		t.Errorf("a file that cannot be read and says where the spool is: got %v", err)
	}
}

// The level belongs to the codec that is chosen in the end.
func TestLevelOfCodec(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string // "" if it is right
	}{
		{[]string{"--level=1"}, ""},
		{[]string{"--level", "22"}, ""},
		{[]string{"--codec=s2", "--level=3"}, ""},
		{[]string{"--codec=s2", "--level=4"}, "codec s2 has levels 1 to 3, not 4"},
		{[]string{"--codec=lz4", "--level=10"}, ""},
		{[]string{"--codec=gzip", "--level=10"}, "codec gzip has levels 1 to 9, not 10"},
		{[]string{"--codec=none"}, ""},
		{[]string{"--codec=none", "--level=1"}, "codec none has no levels"},
	} {
		_, _, err := parse(append(test.args, "PATH", "--spool=/s", "-c", clean(t, ""))...)
		if test.want == "" && err != nil || test.want != "" && (err == nil || err.Error() != test.want) {
			t.Errorf("%q: got %v, want %q", test.args, err, test.want)
		}
	}
	if _, _, err := parse("PATH", "--spool=/s", "--codec=lz4", "-c", clean(t, "level = 19")); err == nil {
		t.Error("a level of the file is taken for a codec that has none such")
	}
}

func TestWhichFile(t *testing.T) {
	gzip, lz4 := clean(t, "codec = gzip"), clean(t, "codec = lz4")
	missing := filepath.Join(t.TempDir(), "missing.ini")
	for _, test := range []struct {
		name, flag, env string
		want            string // codec, or the error's text
	}{
		{"neither", "", "", "zstd"},
		{"a flag", gzip, "", "gzip"},
		{"the environment", "", lz4, "lz4"},
		{"both", gzip, lz4, "gzip"},
		{"a flag, missing", missing, "", "missing.ini"},
		{"a flag, missing, though not in the environment", missing, lz4, "missing.ini"},
		{"the environment, missing", "", missing, "missing.ini"},
		{"a directory", t.TempDir(), "", "directory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := os.Stat("/etc/walkeep/walkeep.ini"); err == nil && test.name == "neither" {
				t.Skip("this machine has a configuration of its own")
			}
			t.Setenv("WALKEEP_CONFIG", test.env)
			args := []string{"PATH", "--spool=/s"}
			if test.flag != "" {
				args = append(args, "-c", test.flag)
			}
			c, _, err := parse(args...)
			switch {
			case err == nil && c.Codec != test.want:
				t.Errorf("got %s, want %s", c.Codec, test.want)
			case err != nil && !strings.Contains(err.Error(), test.want):
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

// An empty variable is as good as none: it turns nothing on, and takes nothing away.
func TestEmptyVariables(t *testing.T) {
	file := clean(t, "spool = /s\nlevel = 3")
	for _, name := range []string{"CONFIG", "SPOOL", "VERBOSE", "QUIET", "LEVEL", "SPOOL_LIMIT", "RETRY_TIME", "CODEC"} {
		t.Setenv("WALKEEP_"+name, "")
	}
	c, _, err := parse("PATH", "-c", file)
	if err != nil {
		t.Fatal(err)
	}
	want := config.Default()
	want.File, want.Spool, want.Level = "", "/s", 3
	c.File = ""
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v, want %+v", c, want)
	}
}

func TestArguments(t *testing.T) {
	file := clean(t, "spool = /s")
	for _, test := range []struct {
		name string
		args []string
		want string // "" if they are right
	}{
		{"options before", []string{"-c", file, "-v", "PATH"}, ""},
		{"options after", []string{"PATH", "-vq", "-c", file}, ""},
		{"after a double dash", []string{"-c", file, "--", "PATH"}, ""},
		{"no argument", []string{"-c", file}, "PATH"},
		{"two arguments", []string{"-c", file, "PATH", "more"}, `too many arguments: ["more"]`},
		{"unknown option", []string{"-c", file, "PATH", "--repository=x"}, "unknown flag `repository'"},
		{"unknown letter", []string{"-c", file, "PATH", "-x"}, "unknown flag `x'"},
		{"an option without its value", []string{"-c", file, "PATH", "--level"}, "expected argument for flag `--level'"},
		{"a value for a switch", []string{"-c", file, "PATH", "--verbose=false"}, "verbose"},
		{"an empty spool", []string{"-c", file, "PATH", "--spool="}, "no spool is given"},
	} {
		_, _, err := parse(test.args...)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
	}
	if _, _, err := parse("PATH", "-c", clean(t, "")); err == nil || !strings.Contains(err.Error(), "no spool is given") {
		t.Errorf("no spool: got %v", err)
	}
}

// Version and help look at nothing else.
func TestVersionAndHelp(t *testing.T) {
	broken := clean(t, "nonsense")
	t.Setenv("WALKEEP_LEVEL", "nonsense")
	for _, args := range [][]string{{"--version"}, {"--version", "-c", broken}, {"-c", broken, "PATH", "--version"}} {
		if c, _, err := parse(args...); err != nil || !c.Version {
			t.Errorf("%q: got %t, %v, want the version to be asked for", args, c.Version, err)
		}
	}
	for _, args := range [][]string{{"--help"}, {"-h", "-c", broken}, {"PATH", "--help"}} {
		_, help, err := parse(args...)
		if !errors.Is(err, config.ErrHelp) || !strings.Contains(help, "A command for tests.") || !strings.Contains(help, "--spool") {
			t.Errorf("%q: got %v, %q", args, err, help)
		}
	}
}
