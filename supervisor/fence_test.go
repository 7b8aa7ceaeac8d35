//go:build unix

package main_test

import (
	"fmt"
	"strings"
	"testing"

	"walkeep/common/pgtest"
)

// tcp is how a server is reached by the address alone.
func (r *rig) tcp(c *pgtest.Cluster) string {
	r.t.Helper()
	port, err := c.QueryString(r.ctx(), "SHOW port")
	r.must(err)
	return "hostaddr=127.0.0.1 port=" + port + " user=postgres"
}

// A standby that streams, from a primary or from another standby, proves that the primary is running, whatever else is
// reported. In a conninfo of several servers the standby is found for every target_session_attrs.
func TestFenceStream(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		r := newRig(t, major)
		settings := map[string]string{"wal_receiver_timeout": "20s"}
		primary := r.start("primary", settings)
		r.must(primary.Stop(r.ctx(), pgtest.Fast))
		r.must(primary.ListenTCP())
		r.must(primary.Start(r.ctx()))
		r.must(primary.Exec(r.ctx(), ledgerTable))
		r.backup(primary)
		s := r.standby("standby", settings, "--primary-conninfo", r.tcp(primary))
		r.feeds(primary, 1)
		third := r.standby("third", settings, "--primary-conninfo", s.ConnString())
		r.feeds(s, 1)

		r.refusedBeside(s, ", and is open for writing")
		for _, elsewhere := range []string{"host=127.0.0.1 port=1", "host=" + r.dir, "hostaddr=127.0.0.1 port=2"} {
			r.refusedBeside(s, ", and is open for writing", "--primary-conninfo", elsewhere)
		}
		r.refused(s, 1, []string{"cannot be checked", "future_word", "hint: "}, "--primary-conninfo", "host=127.0.0.1 port=1 future_word=1")
		r.refusedBeside(third, ", and is open for writing")
		r.refusedBeside(third, ", and is open for writing", "--primary-conninfo", "host=127.0.0.1 port=1")

		// What is configured has changed, and the standby streams from where it did.
		r.must(s.Configure(map[string]string{"primary_conninfo": "host=127.0.0.1 port=1"}))
		r.refusedBeside(s, ", and is open for writing", "--primary-conninfo", "host=127.0.0.1 port=1")

		ports := func(c ...*pgtest.Cluster) string {
			var hosts, numbers []string
			for _, one := range c {
				port, err := one.QueryString(r.ctx(), "SHOW port")
				r.must(err)
				hosts, numbers = append(hosts, one.RunDir()), append(numbers, port)
			}
			return fmt.Sprintf("host=%s port=%s user=postgres target_session_attrs=read-write", strings.Join(hosts, ","), strings.Join(numbers, ","))
		}
		both, all := ports(primary, s), ports(primary, s, third)
		for _, command := range []string{"pause", "continue"} {
			r.run(command, "--conninfo", both)
		}
		r.fails(1, []string{"several of the servers", "hint: "}, "pause", "--conninfo", all)
		r.run("pause", "--conninfo", all, "--pgdata", s.Dir)
		r.run("continue", "--conninfo", all, "--pgdata", s.Dir)
		if out := r.fails(1, []string{"the old primary still answers"}, "promote", "--conninfo", both); !r.recovers(s) {
			t.Fatalf("it was promoted:\n%s", out)
		}
		// A standby that is fed from the archive alone does not say where its primary is, but such a conninfo does.
		alone := r.standby("alone", map[string]string{"archive_mode": "off"})
		r.fails(1, []string{"the old primary still answers"}, "promote", "--conninfo", ports(primary, alone))
		if !r.recovers(alone) {
			t.Fatal("it was promoted")
		}
		r.must(primary.Kill())
		out := r.run("promote", "--conninfo", both)
		if r.recovers(s) || !strings.Contains(out, "on timeline 2") {
			t.Errorf("promote says\n%s", out)
		}
		if out := r.run("promote", "--conninfo", both); !strings.Contains(out, "is open for writing already, on timeline 2") {
			t.Errorf("promote says\n%s", out)
		}
	}, 10, 12, 15, pgtest.MaxMajor)
}
