package main_test

import (
	"context"
	"os"
	"testing"

	"walkeep/common/pgtest"
)

// TestRecoveryFromBacklog loses a server while it archives what has piled up, several segments at a time: there must be
// no hole before the last of them, or nothing behind it could be recovered.
func TestRecoveryFromBacklog(t *testing.T) {
	t.Parallel()
	const waiting = 30
	r := newRig(t, newest())
	c := r.start("primary")
	r.load(c, 40, 1)
	backup := r.backUp(c)
	r.must(c.Configure(map[string]string{"archive_command": "false"}))
	r.must(c.Reload(r.ctx()))
	archived := len(r.segments(1))
	j := r.write(c)
	for i := range waiting {
		r.load(c, 2, uint64(i+2))
		_, err := c.SwitchWAL(r.ctx())
		r.must(err)
	}
	j.end()
	r.must(c.Configure(map[string]string{"archive_command": r.archiveCommand()}))
	r.must(c.Stop(r.ctx(), pgtest.Immediate))
	r.must(c.Start(r.ctx())) // which makes the archiver try at once

	r.must(c.WaitFor(r.ctx(), pgtest.Timeout, "half of the backlog", func(context.Context) (bool, error) {
		r.mustBeChain()
		return len(r.segments(1)) >= archived+waiting/2, nil
	}))
	r.must(c.Kill())
	r.must(os.RemoveAll(c.Dir))
	segments := r.mustBeChain()
	recovered := r.recovered(backup, "recovered", 2, nil)
	r.wantJournal(recovered, j, segmentEnd(t, segments[len(segments)-1], r.size))
}

// mustBeChain checks that the spool holds one segment after the other.
func (r *rig) mustBeChain() []string {
	r.t.Helper()
	segments := r.segments(1)
	for i := 1; i < len(segments); i++ {
		if segmentEnd(r.t, segments[i], r.size)-segmentEnd(r.t, segments[i-1], r.size) != lsn(r.size)<<20 {
			r.t.Fatalf("the spool holds %s, but nothing between it and %s", segments[i], segments[i-1])
		}
	}
	return segments
}
