package service_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"walkeep/supervisor/service"
)

// exposure is the highest rating of systemd-analyze security that the unit may have, of 10.
const exposure = 2.0

func analyze(t *testing.T, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is missing")
	}
	out, err := exec.Command("systemd-analyze", args...).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze %s: %v\n%s", args, err, out)
	}
	return string(out)
}

// Systemd accepts the unit without a warning, reads odd paths unchanged, and rates its exposure low.
func TestUnit(t *testing.T) {
	for name, c := range map[string]struct {
		dir    string
		shared bool
	}{
		"plain":  {"plain", false},
		"shared": {"plain", true},
		"odd":    {`o d%n$HOME;'"\`, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), c.dir)
			program := filepath.Join(t.TempDir(), "super %visor") // systemd accepts no quotes in a program's path
			if err := os.WriteFile(program, nil, 0o700); err != nil {
				t.Fatal(err)
			}
			text := service.Installation{
				Name: "walkeep", Program: program, Config: filepath.Join(dir, "walkeep.ini"), User: "daemon",
				Writable: []string{filepath.Join(dir, "spool"), filepath.Join(dir, "drill")}, SharedTmp: c.shared,
			}.Unit()
			file := filepath.Join(t.TempDir(), "walkeep.service")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if out := analyze(t, "verify", "--man=no", file); out != "" {
				t.Errorf("systemd-analyze verify says:\n%s\n%s", out, text)
			}
			out := analyze(t, "security", "--offline=yes", file)
			m := regexp.MustCompile(`Overall exposure level for walkeep.service: ([0-9.]+)`).FindStringSubmatch(out)
			if m == nil {
				t.Fatalf("no exposure in:\n%s", out)
			}
			if got, err := strconv.ParseFloat(m[1], 64); err != nil || got > exposure {
				t.Errorf("got exposure %s, want at most %v", m[1], exposure)
			}
			if want := map[bool]string{true: "\nPrivateTmp=no\n", false: "\nPrivateTmp=yes\n"}[c.shared]; !strings.Contains(text, want) {
				t.Errorf("the unit lacks %q", want)
			}
		})
	}
}

// The unit has no setting that would harm the live server, which runs as the same user, or a drill's server.
func TestUnitSparesPostgreSQL(t *testing.T) {
	text := service.Installation{Name: "walkeep", Program: "/p", Config: "/c", User: "postgres", Writable: []string{"/s"}}.Unit()
	for _, want := range []string{"RemoveIPC=no", "KillMode=mixed", "NotifyAccess=main", "UMask=0077", "ReadWritePaths=/s\n", "ExecStart=/p --config /c run\n"} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("the unit lacks %s", want)
		}
	}
	for _, harm := range []string{"PrivateIPC=yes", "MemoryDenyWriteExecute=yes", "PrivateNetwork=yes", "ProcSubset=pid"} {
		if strings.Contains(text, "\n"+harm) {
			t.Errorf("the unit has %s", harm)
		}
	}
}
