package main_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"walkeep/common/cmdtest"
	"walkeep/common/pgtest"
)

// fork recovers to a point of the first timeline and goes on from there on a second, and from a point of that on a third,
// which all archive into the same spool. Each can then be recovered.
func (r *rig) fork(h *history) {
	r.t.Helper()
	second, forked, end2 := r.branch(h, 2, h.points[0].settings, h.points[0].want)
	r.remove(second)
	r.t.Run("timeline-2", func(t *testing.T) { r.in(t).follow(h, "newest", "latest", 3, end2) })
	r.t.Run("timeline-1", func(t *testing.T) { r.in(t).stayOnFirst(h, 3) })

	third, _, end3 := r.branch(h, 3, map[string]string{"recovery_target_name": "fork of 2", "recovery_target_timeline": "2",
		"recovery_target_action": "promote"}, forked)
	r.remove(third)
	r.t.Run("timeline-3", func(t *testing.T) { r.in(t).follow(h, "newest", "latest", 4, end3) })
	r.t.Run("timeline-2-of-3", func(t *testing.T) { r.in(t).follow(h, "second", "2", 4, end2) })
	r.t.Run("timeline-1-of-3", func(t *testing.T) { r.in(t).stayOnFirst(h, 4) })
}

// branch recovers to a point, opens the database on a new timeline, which it archives, and gives the state at a point of
// that timeline and at its end.
func (r *rig) branch(h *history, timeline uint32, settings map[string]string, want state) (c *pgtest.Cluster, forked, end state) {
	r.t.Helper()
	settings = maps.Clone(settings)
	settings["archive_mode"] = "on"
	c = r.recovered(h.backup, fmt.Sprint("branch", timeline), settings)
	r.wantState(c, want)
	r.wantTimeline(c, timeline)
	r.load(c, 20, 30+uint64(timeline))
	name := fmt.Sprint("fork of ", timeline)
	_, err := c.CreateRestorePoint(r.ctx(), name)
	r.must(err)
	forked = r.state(c)
	r.load(c, 20, 40+uint64(timeline))
	end = r.state(c)
	r.cut(c)
	// What is not archived is lost.
	r.must(c.Exec(r.ctx(), "INSERT INTO mark VALUES ('lost')"))
	r.object(c, fmt.Sprintf("%08X.history", timeline))
	return c, forked, end
}

// follow recovers to the end of a timeline.
func (r *rig) follow(h *history, name, timeline string, next uint32, want state) {
	settings := map[string]string{"recovery_target_timeline": timeline}
	if timeline == "latest" && r.major >= 12 && r.online {
		settings = nil // it is the default
	}
	c := r.recovered(h.backup, name, settings)
	defer r.remove(c)
	r.wantState(c, want)
	r.wantTimeline(c, next)
}

// stayOnFirst recovers to the end of the first timeline although there are others.
func (r *rig) stayOnFirst(h *history, next uint32) {
	settings := map[string]string{"recovery_target_timeline": "1"}
	switch {
	case r.online && r.major >= 12:
		settings["recovery_target_timeline"] = "current"
	case r.online:
		settings = nil // it is the default
	}
	segments := r.segments(1)
	c := r.recovered(h.backup, "first", settings)
	defer r.remove(c)
	r.wantJournal(c, h.last, segmentEnd(r.t, segments[len(segments)-1], r.size))
	r.wantTimeline(c, next)
}

// dump restores all segments by hand and has pg_waldump read them, timeline by timeline.
func (r *rig) dump() {
	waldump, err := pgtest.ClientTool("pg_waldump")
	r.must(err)
	dir := pgtest.TempDir(r.t)
	for timeline := 1; timeline <= 3; timeline++ {
		segments := r.segments(timeline)
		for _, name := range segments {
			cmd := pgtest.Command(r.ctx(), cmdtest.Path("restore-cmd"), "-c", os.DevNull, "--spool", r.spool, name, filepath.Join(dir, name))
			cmdtest.Run(r.t, cmd).Expect(r.t, 0)
		}
		cmd := exec.CommandContext(r.ctx(), waldump, "-p", dir, "-t", strconv.Itoa(timeline), segments[0], segments[len(segments)-1])
		var said bytes.Buffer
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil || said.Len() > 0 || bytes.Count(out, []byte("\n")) < 100 {
			r.t.Errorf("pg_waldump of timeline %d, %s to %s: %v\n%s", timeline, segments[0], segments[len(segments)-1], err, said.String())
		}
	}
}
