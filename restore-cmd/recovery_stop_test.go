package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walkeep/common/cmdtest"
	"walkeep/common/pgtest"
)

// TestRecoveryStops has recoveries stop where the archive has a hole, where an object is damaged and where the spool
// vanishes, without the database being opened. After the repair they continue in the same data directory.
func TestRecoveryStops(t *testing.T) {
	eachTurn(t, func(r *rig) {
		primary := r.start("primary")
		r.load(primary, 40, 1)
		backup := r.backUp(primary)
		var segments []string
		for i := range 4 {
			r.load(primary, 20, uint64(i+2))
			segments = append(segments, r.cut(primary))
		}
		want := r.state(primary)
		r.must(primary.Kill())

		c := r.copyOf(backup, "recovered")
		r.must(c.Recover(r.settings(nil)))
		r.hole(c, segments[1])
		r.damage(c, segments[2])
		r.vanish(c, segments[3])

		r.must(c.Recover(r.settings(nil)))
		r.mustOpen(c, 2)
		r.wantState(c, want)
	})
}

func (r *rig) hole(c *pgtest.Cluster, segment string) {
	r.t.Helper()
	object := r.stored()[segment]
	hidden := filepath.Join(pgtest.TempDir(r.t), "hidden")
	r.must(os.Rename(object, hidden))
	r.mustStop(c, segment, "restore-cmd: "+segment+" is missing from the archive")
	r.must(os.Rename(hidden, object))
}

func (r *rig) damage(c *pgtest.Cluster, segment string) {
	r.t.Helper()
	object := r.stored()[segment]
	flip := func() {
		content, err := os.ReadFile(object)
		r.must(err)
		content[len(content)/2] ^= 0x10
		r.must(os.WriteFile(object, content, 0))
	}
	flip()
	r.mustStop(c, segment, "stored object is damaged")
	flip()
}

// vanish removes the whole spool at the moment when the server asks for the segment.
func (r *rig) vanish(c *pgtest.Cluster, segment string) {
	r.t.Helper()
	away := filepath.Join(pgtest.TempDir(r.t), "away")
	r.must(c.Recover(r.settings(map[string]string{
		"restore_command": "[ %f != " + segment + " ] || mv " + r.spool + " " + away + "; " + r.restoreCommand(),
	})))
	r.mustStop(c, segment, r.spool+" does not exist")
	if !strings.Contains(c.LogTail(1000), "restored log file") {
		r.t.Errorf("recovery was not on its way:\n%s", c.LogTail(20))
	}
	r.must(os.Rename(away, r.spool))
}

// TestRecoveryBrokenWAL has a segment damaged before it is archived. It is archived as it is, and recovery ends there.
func TestRecoveryBrokenWAL(t *testing.T) {
	t.Parallel()
	r := newRig(t, newest())
	c := r.start("primary")
	r.load(c, 40, 1)
	backup := r.backUp(c)
	r.must(c.Configure(map[string]string{"archive_command": "false"}))
	r.must(c.Reload(r.ctx()))
	j := r.write(c)
	r.wait(c, j, 100)
	j.end()
	broken, err := c.SwitchWAL(r.ctx())
	r.must(err)
	file := c.Path("pg_wal/" + broken)
	sound, err := os.ReadFile(file)
	r.must(err)
	r.must(os.WriteFile(file, cmdtest.Break(t, sound), 0))
	r.must(c.Configure(map[string]string{"archive_command": r.archiveCommand()}))
	r.must(c.Restart(r.ctx())) // which makes the archiver try at once
	r.load(c, 20, 2)
	r.cut(c)

	r.waitLog(c, "archive-cmd: warning: "+broken+" is archived with broken WAL records", 1)
	if o := cmdtest.Spool(r.spool).Object(t, broken); o.WALCheck() != cmdtest.Damaged {
		t.Errorf("%s is not marked: the check of its WAL says %d", o.Path, o.WALCheck())
	}
	recovered := r.recovered(backup, "recovered", 2, nil)
	r.waitLog(recovered, "restore-cmd: warning: "+broken+" was archived with broken WAL records", 1)
	at := strings.Split(strings.SplitAfter(recovered.Log(), " was archived with broken WAL records at ")[1], "\n")[0]
	end, err := parseLSN(at)
	r.must(err)
	r.wantJournal(recovered, j, end)
	if least, _ := j.upTo(end); least == j.before || least >= j.rows() {
		t.Errorf("the damage is not in the middle: %d of %d rows", least, j.rows())
	}
}
