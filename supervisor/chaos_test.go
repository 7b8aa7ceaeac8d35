package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"walkeep/common/cmdtest"
	"walkeep/common/pgtest"
)

// TestKilledUnderLoad kills a primary, the supervisor that streams from it, or both, at random moments under load, starts
// them again, and after some of that loses the primary for good, so that its standby is promoted and takes its place. A
// ledger of what clients were told says what is lost: nothing where they waited for the stream, else nothing that the server
// had heard is durable. The archive verifies after each kill.
func TestKilledUnderLoad(t *testing.T) {
	t.Parallel()
	for _, synchronous := range []bool{true, false} {
		t.Run(fmt.Sprintf("synchronous=%t", synchronous), func(t *testing.T) {
			t.Parallel()
			c := &chaos{rig: newRig(t, 15), synchronous: synchronous}
			c.run(kills(t) / 7)
		})
	}
}

// A chaos is a primary, its stream and its standby, and what their clients know.
type chaos struct {
	*rig
	synchronous bool

	primary, standby *pgtest.Cluster
	stream           *streamer
	known            []commit // that must be there
	unheard          int      // inserts of which nobody knows how they ended
	from             int64    // the next number
}

const (
	chaosClients = 3
	// killsPerLife is how many kills a primary survives.
	killsPerLife = 10
)

func (c *chaos) run(kills int) {
	settings := map[string]string{"max_wal_size": "64MB"}
	var args []string
	if c.synchronous {
		settings["synchronous_standby_names"] = "walkeep"
		args = append(args, "--synchronous")
	}
	random := cmdtest.Rand(c.t)
	c.primary = c.start("primary", settings)
	for life := 1; kills > 0; life++ {
		c.stream = c.sync(c.primary, args...)
		c.must(c.primary.Exec(c.ctx(), ledgerTable))
		c.backup(c.primary)
		c.standby = c.rig.standby(fmt.Sprintf("life-%d", life+1), nil)
		for range killsPerLife {
			l := c.ledger(c.primary, chaosClients, c.from)
			time.Sleep(time.Duration(50+random.IntN(250)) * time.Millisecond)
			what := random.IntN(3)
			if what != 0 {
				c.stream.kill()
			}
			if what != 1 {
				c.must(c.primary.Kill())
			}
			c.rig.run("verify")
			if what != 0 {
				c.stream.start()
			}
			if what != 1 {
				c.must(c.primary.Start(c.ctx()))
			}
			if what == 1 {
				time.Sleep(time.Duration(random.IntN(100)) * time.Millisecond) // life continues, once the stream does
			}
			c.add(l)
			c.streaming(c.primary)
			if lost := c.lost(c.primary, c.known, c.unheard); len(lost) > 0 {
				c.t.Fatalf("%d commits are lost without a failover, the first is %d", len(lost), lost[0].id)
			}
			kills--
		}
		c.failOver(time.Duration(50+random.IntN(250)) * time.Millisecond)
	}
	c.rig.run("verify", "--deep")
}

// add adds the commits that a ledger's clients were told of.
func (c *chaos) add(l *ledger) {
	commits := l.close()
	c.known = append(c.known, commits...)
	for _, x := range commits {
		c.from = max(c.from, x.id)
	}
	c.from += 2*chaosClients + 1 // behind those of which nobody knows
	c.unheard += chaosClients
}

// failOver loses the primary and its disk, and promotes the standby.
func (c *chaos) failOver(after time.Duration) {
	l := c.ledger(c.primary, chaosClients, c.from)
	time.Sleep(after)
	l.flows()
	killed := time.Now()
	c.must(c.primary.Kill())
	c.add(l)
	c.must(os.RemoveAll(c.primary.Dir))
	out := c.rig.run("promote", "--conninfo", c.standby.ConnString(), "--primary-conninfo", c.primary.ConnString())
	lost := c.lost(c.standby, c.known, c.unheard)
	if c.synchronous && len(lost) > 0 {
		c.t.Errorf("%d commits are lost, although their clients waited for the stream; promote says %s", len(lost), out)
	}
	c.t.Logf("%d commits so far, %d lost, the first of %s before the end; %s", len(c.known), len(lost), l.age(lost, killed), out)
	c.rig.run("verify")
	gone := make(map[int64]bool)
	for _, x := range lost {
		gone[x.id] = true
	}
	var kept []commit
	for _, x := range c.known {
		if !gone[x.id] {
			kept = append(kept, x)
		}
	}
	c.known = kept
	c.stream.stop()
	c.must(os.Rename(c.stream.log, filepath.Join(c.dir, fmt.Sprintf("sync-%d.log", len(c.known)))))
	c.primary = c.standby
}
