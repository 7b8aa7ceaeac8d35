package main_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"walkeep/common/cmdtest"
)

func TestMain(m *testing.M) { os.Exit(cmdtest.Main(m, "supervisor")) }

// A host is where restore-cmd is called: a data directory as its working directory, and a spool.
type host struct {
	dir   string
	data  cmdtest.DataDir
	spool cmdtest.Spool
}

// target is where files are delivered, as PostgreSQL says it.
var target = filepath.Join("pg_wal", "RECOVERYXLOG")

// newHost has a spool into which archive-cmd has put these files, if any.
func newHost(t testing.TB, archived cmdtest.Files, options ...string) host {
	t.Helper()
	dir := cmdtest.FastDir(t)
	h := host{dir, cmdtest.NewDataDir(t, dir, nil), cmdtest.NewSpool(t, dir)}
	if len(archived) == 0 {
		return h
	}
	primary := cmdtest.NewDataDir(t, cmdtest.FastDir(t), archived)
	first := primary.Path("pg_wal", archived.Names()[0])
	args := append([]string{"--spool", string(h.spool), "--lookahead", "1024", "-q"}, options...)
	cmdtest.Run(t, cmdtest.Command("archive-cmd", append(args, first)...)).Expect(t, 0)
	h.spool.Check(t, archived)
	return h
}

// call prepares a call without retries.
func (h host) call(name string, more ...string) *exec.Cmd {
	args := append([]string{"--spool", string(h.spool), "--retry-time", "0s"}, more...)
	cmd := cmdtest.Command("restore-cmd", append(args, name, target)...)
	cmd.Dir = string(h.data)
	return cmd
}

const old = "an older file"

// run makes a call over an older file, which must stay as it is unless the call delivers.
func (h host) run(t testing.TB, name string, more ...string) cmdtest.Result {
	t.Helper()
	return h.runCall(t, h.call(name, more...))
}

func (h host) runCall(t testing.TB, call *exec.Cmd) cmdtest.Result {
	t.Helper()
	cmdtest.Write(t, h.data.Path(target), []byte(old))
	r := cmdtest.Run(t, call)
	h.checkTarget(t, r)
	return r
}

// checkTarget fails the test where a call that did not deliver has changed the target, or anything was left beside it.
func (h host) checkTarget(t testing.TB, r cmdtest.Result) {
	t.Helper()
	if got, err := os.ReadFile(h.data.Path(target)); r.Code != 0 && (err != nil || string(got) != old) {
		t.Errorf("exit code %d, and what was at the target is gone (%v)", r.Code, err)
	}
	if _, err := os.Lstat(h.data.Path(target + ".walkeep")); err == nil && r.Signal == 0 {
		t.Error("the temporary file is left")
	}
}

// deliver makes a call that must deliver.
func (h host) deliver(t testing.TB, name string, want []byte, more ...string) {
	t.Helper()
	h.run(t, name, more...).Expect(t, 0)
	h.wantTarget(t, name, want)
}

func (h host) wantTarget(t testing.TB, name string, want []byte) {
	t.Helper()
	if got, err := os.ReadFile(h.data.Path(target)); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: what was delivered is not what was archived (%v)", name, err)
	}
}

// TestForeignConfiguration holds that nothing in the configuration that restore-cmd does not use keeps it from delivering,
// to a standby or to a recovery, and that it is reported.
func TestForeignConfiguration(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	name := files.Segments()[0]
	h := newHost(t, files.Only(name))
	spool := "spool = " + string(h.spool) + "\n"
	flag := []string{"--spool", string(h.spool)}
	for _, test := range []struct {
		name, content, env, say string
		args                    []string
	}{
		{"unknown key", spool + "keep-day = 14\n", "", "line 2: unknown option: keep-day", nil},
		{"unknown section", spool + "[other far]\nurl = sftp://far/wal\nspool = /else\n", "", "line 2: unknown section", nil},
		{"no pair", "nonsense\n" + spool, "", "line 1: malformed", nil},
		{"bad value of another command", spool + "codec = rar\n", "", `"rar"`, nil},
		{"no value of another command", spool + "keep-days = many\n", "", "line 2: keep-days", nil},
		{"a key of another command twice", spool + "jobs = 1\njobs = 1\n", "", "line 3: jobs is given again", nil},
		{"environment", spool, "WALKEEP_CODEC=rar", `"rar"`, nil},
		{"environment, no value", spool, "WALKEEP_KEEP_DAYS=many", "WALKEEP_KEEP_DAYS", nil},
		{"no text", "\x00\x01\x02\n\xff\n" + spool, "", "line 1", nil},
		{"missing", "", "WALKEEP_CONFIG=/none.ini", "none.ini", flag},
		{"missing on the way", "", "WALKEEP_CONFIG=/dev/null/none.ini", "none.ini", flag},
		{"directory", "", "WALKEEP_CONFIG=/dev", "/dev", flag},
	} {
		for _, signal := range []string{"standby.signal", "recovery.signal"} {
			t.Run(test.name+"/"+signal, func(t *testing.T) {
				cmdtest.Write(t, h.data.Path(signal), nil)
				defer os.Remove(h.data.Path(signal))
				file := filepath.Join(h.dir, "foreign.ini")
				cmdtest.Write(t, file, []byte(test.content))
				cmd := cmdtest.Command("restore-cmd", append(test.args, name, target)...)
				cmd.Dir = string(h.data)
				cmd.Env = append(cmd.Env, "WALKEEP_CONFIG="+file, test.env)
				h.runCall(t, cmd).Expect(t, 0, "warning: configuration: ", test.say)
				h.wantTarget(t, name, files[name])
			})
		}
	}
}

// TestConfigurationComes has somebody put right the file that keeps restore-cmd from delivering to a standby.
func TestConfigurationComes(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	name := files.Segments()[0]
	h := newHost(t, files.Only(name))
	cmdtest.Write(t, h.data.Path("standby.signal"), nil)
	file := filepath.Join(h.dir, "walkeep.ini")
	cmd := cmdtest.Command("restore-cmd", "--retry-time=1m", "-c", file, name, target)
	cmd.Dir = string(h.data)
	put := time.AfterFunc(100*time.Millisecond, func() {
		os.WriteFile(file+".new", []byte("spool = "+string(h.spool)+"\n"), 0o644)
		os.Rename(file+".new", file)
	})
	defer put.Stop()
	h.runCall(t, cmd).Expect(t, 0)
	h.wantTarget(t, name, files[name])
}

// TestConfigured is about where the spool's path comes from, and in which order arguments may stand.
func TestConfigured(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	name := files.Segments()[0]
	h := newHost(t, files.Only(name))
	spool := string(h.spool)
	right, wrong := filepath.Join(h.dir, "right.ini"), filepath.Join(h.dir, "wrong.ini")
	cmdtest.Write(t, right, []byte("[walkeep]\nspool = "+spool+"\ncodec = s2\n"))
	cmdtest.Write(t, wrong, []byte("[walkeep]\nspool = /none\n"))
	for _, test := range []struct {
		name string
		args []string
		env  []string
	}{
		{"flag before", []string{"--spool", spool, name, target}, nil},
		{"flag after", []string{name, target, "--spool", spool}, nil},
		{"flag between", []string{name, "--spool=" + spool, target, name}, nil},
		{"file", []string{"-c", right, name, target}, nil},
		{"file in the environment", []string{name, target}, []string{"WALKEEP_CONFIG=" + right}},
		{"environment", []string{name, target}, []string{"WALKEEP_SPOOL=" + spool}},
		{"environment before file", []string{"-c", wrong, name, target}, []string{"WALKEEP_SPOOL=" + spool}},
		{"flag before environment", []string{"--spool", spool, name, target}, []string{"WALKEEP_SPOOL=/none"}},
		{"flag before file", []string{"-c", wrong, "--spool", spool, name, target}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			cmd := cmdtest.Command("restore-cmd", test.args...)
			cmd.Dir = string(h.data)
			cmd.Env = append(cmd.Env, test.env...)
			h.runCall(t, cmd).Expect(t, 0)
			h.wantTarget(t, name, files[name])
		})
	}
}
