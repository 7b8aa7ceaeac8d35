package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"walkeep/common/cmdtest"
)

// install would write a unit that systemd accepts, with absolute paths.
func TestServiceDryRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	spool, drill := filepath.Join(dir, "spool"), filepath.Join(dir, "drill")
	for _, d := range []string{spool, drill} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	config := "spool = " + spool + "\ndrill-dir = " + drill + "\nbackup-schedule = @daily\nconninfo = host=/run/postgresql\n"
	cmdtest.Write(t, filepath.Join(dir, "walkeep.ini"), []byte(config))
	cmd := cmdtest.Command("supervisor", "--config", "walkeep.ini", "service", "install", "--dry-run", "--user", "daemon")
	cmd.Dir = dir
	r := cmdtest.Run(t, cmd)
	r.Expect(t, 0)
	for _, want := range []string{
		"\nExecStart=" + cmdtest.Path("supervisor") + " --config " + filepath.Join(dir, "walkeep.ini") + " run\n", "\nUser=daemon\n",
		"\nReadWritePaths=" + spool + " " + drill + "\n", "\nRequiresMountsFor=" + spool + " " + drill + "\n",
	} {
		if !strings.Contains(r.Stdout, want) {
			t.Errorf("the unit lacks %q:\n%s", want, r.Stdout)
		}
	}
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is missing")
	}
	unit := filepath.Join(dir, "walkeep.service")
	cmdtest.Write(t, unit, []byte(r.Stdout))
	if out, err := exec.Command("systemd-analyze", "verify", "--man=no", unit).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// What would keep the service from starting is an error of install, and a warning of its dry run. Commands that only
// control the service need no spool.
func TestServiceRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, content string) string {
		cmdtest.Write(t, filepath.Join(dir, name), []byte(content))
		return filepath.Join(dir, name)
	}
	missing := filepath.Join(dir, "missing")
	good := file("good.ini", "spool = "+dir+"\nbackup-schedule = @daily\n")
	for name, c := range map[string]struct {
		args  []string
		code  int
		words []string
	}{
		"no file":       {[]string{"-c", os.DevNull, "service", "install"}, 2, []string{"no spool is given"}},
		"missing file":  {[]string{"-c", missing, "service", "install"}, 2, []string{missing, "hint:"}},
		"no spool":      {[]string{"-c", file("a.ini", "backup-schedule = @daily\n"), "service", "install", "--spool", dir}, 2, []string{"no spool is given"}},
		"no schedule":   {[]string{"-c", file("b.ini", "spool = "+dir+"\n"), "service", "install"}, 2, []string{"nothing to do", "hint: set one of"}},
		"bad schedule":  {[]string{"-c", file("c.ini", "spool = "+dir+"\ndrill-schedule = daily\n"), "service", "install", "--dry-run"}, 2, []string{`drill-schedule: "daily"`}},
		"no directory":  {[]string{"-c", file("d.ini", "spool = "+missing+"\nbackup-schedule = @daily\n"), "service", "install", "--user", "daemon"}, 1, []string{missing}},
		"warned":        {[]string{"-c", file("e.ini", "spool = "+missing+"\nbackup-schedule = @daily\n"), "service", "install", "--dry-run", "--user", "daemon"}, 0, []string{"warning: ", missing}},
		"no user":       {[]string{"-c", good, "service", "install", "--user", "no-such-user"}, 1, []string{"there is no user no-such-user"}},
		"no action":     {[]string{"-c", good, "service"}, 2, []string{"ACTION"}},
		"other action":  {[]string{"-c", good, "service", "reload"}, 2, []string{`"reload"`}},
		"dry start":     {[]string{"-c", good, "service", "start", "--dry-run"}, 2, []string{"--dry-run is for install"}},
		"of Windows":    {[]string{"-c", good, "service", "run"}, 2, []string{`"run"`}},
		"without spool": {[]string{"service", "start", "--bogus"}, 2, []string{"bogus"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmdtest.Run(t, cmdtest.Command("supervisor", c.args...)).Expect(t, c.code, c.words...)
		})
	}
}

// On a host without systemd, or without the service, the command names what is missing.
func TestServiceStatus(t *testing.T) {
	t.Parallel()
	for _, action := range []string{"status", "stop"} {
		r := cmdtest.Run(t, cmdtest.Command("supervisor", "service", action))
		if r.Code == 0 {
			t.Skip("walkeep is a service of this host")
		}
		r.Expect(t, 1, "service")
	}
}
