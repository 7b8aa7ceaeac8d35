//go:build unix

package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"walkeep/common/pgtest"
)

// shellBlock finds the blocks of commands in a page.
var shellBlock = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// TestQuickStart protects an existing cluster by the four commands of the README, and destroys and restores it.
func TestQuickStart(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the README's commands install for all users, as root")
	}
	page, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	block := shellBlock.FindStringSubmatch(string(page))
	if block == nil {
		t.Fatal("the README has no block of commands")
	}
	commands := strings.Split(strings.TrimSpace(block[1]), "\n")
	if len(commands) > 4 {
		t.Fatalf("the quick start has %d commands, want at most 4", len(commands))
	}
	each(t, func(r *rig) {
		c := pgtest.New(r.t, pgtest.Options{Major: r.major, Dir: filepath.Join(r.dir, "data")})
		r.must(c.Start(r.ctx()))
		r.must(c.Exec(r.ctx(), "CREATE TABLE elsewhere (n int)"))
		r.load(c, 20, 1)
		r.must(os.Chmod(r.dir, 0o755))
		here := strings.NewReplacer("PREFIX=/usr", "-C .. PREFIX="+r.dir, "/usr/lib", r.dir+"/lib", "/srv/wal", filepath.Join(r.dir, "quick"), "/etc/walkeep", filepath.Join(r.dir, "etc"))
		for _, command := range commands {
			r.quick(c, here.Replace(command))
		}
		if _, err := os.Stat(filepath.Join(r.dir, "etc", "walkeep.ini")); err != nil {
			r.t.Errorf("setup has written no configuration: %v", err)
		}
		r.load(c, 20, 2)
		want := r.sum(c)
		r.cut(c)
		r.must(c.Kill())
		r.must(os.RemoveAll(c.Dir))
		r.spool = filepath.Join(r.dir, "quick")
		r.opens(r.restore("restored"), want)
	})
}

// quick runs one command of the README: what sudo does by who the servers' user is here, and the service manager's part
// by hand.
func (r *rig) quick(c *pgtest.Cluster, command string) {
	r.t.Helper()
	command, restart := strings.CutSuffix(command, " && systemctl restart postgresql")
	script, asServer := strings.CutPrefix(command, "sudo -u postgres ")
	cmd := exec.CommandContext(r.ctx(), "sh", "-ec", script)
	if asServer {
		cmd = pgtest.Command(r.ctx(), "sh", "-ec", script)
	}
	cmd.Env = append(cmd.Environ(), "PATH="+filepath.Join(r.dir, "bin")+":"+os.Getenv("PATH"),
		"PGHOST="+c.RunDir(), "PGUSER=postgres", "PGDATABASE=postgres", "WALKEEP_CONFIG="+filepath.Join(r.dir, "etc", "walkeep.ini"))
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("%s: %v\n%s", command, err, out)
	}
	if restart {
		r.must(c.Restart(r.ctx()))
	}
}
