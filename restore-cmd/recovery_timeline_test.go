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

// fork recovers to a point of the first timeline and continues from there on a second, and from a point of that on a third,
// which all archive into the same spool. Each can then be recovered.
func (r *rig) fork(h *history) {
	r.t.Helper()
	p := h.points[(r.major+r.size/16)%len(h.points)] // each of them some time
	forked, end2 := r.branch(h, 2, p.settings, p.want)
	r.t.Run("latest-of-2", func(t *testing.T) { r.in(t).follow(h, 3, end2, r.latest()) })
	_, end3 := r.branch(h, 3, map[string]string{"recovery_target_name": "fork of 2", "recovery_target_timeline": "2"}, forked)
	r.t.Run("latest-of-3", func(t *testing.T) { r.in(t).follow(h, 4, end3, r.latest()) })
	r.t.Run("timeline-2", func(t *testing.T) {
		r.in(t).follow(h, 4, end2, map[string]string{"recovery_target_timeline": "2"})
	})
	r.t.Run("timeline-1", func(t *testing.T) {
		r := r.in(t)
		c := r.recovered(h.backup, "first", 4, r.oldest())
		r.wantJournal(c, h.last, r.archivedUpTo(1))
		r.remove(c)
	})
}

// branch recovers to a point and opens the database on a new timeline, which it archives, until it is lost. It gives the
// state at a point of that timeline and at its end.
func (r *rig) branch(h *history, timeline uint32, settings map[string]string, want state) (forked, end state) {
	r.t.Helper()
	settings = maps.Clone(settings)
	settings["archive_mode"], settings["recovery_target_action"] = "on", "promote"
	c := r.recovered(h.backup, fmt.Sprint("branch", timeline), timeline, settings)
	r.wantState(c, want)
	r.load(c, 20, 30+uint64(timeline))
	_, err := c.CreateRestorePoint(r.ctx(), fmt.Sprint("fork of ", timeline))
	r.must(err)
	forked = r.state(c)
	r.load(c, 20, 40+uint64(timeline))
	end = r.state(c)
	r.cut(c)
	r.object(c, fmt.Sprintf("%08X.history", timeline))
	r.mustArchiveAll(c)
	r.must(c.Exec(r.ctx(), "INSERT INTO mark VALUES ('lost, as its segment is not archived')"))
	r.remove(c)
	return forked, end
}

// follow recovers to the end of a timeline.
func (r *rig) follow(h *history, next uint32, want state, settings map[string]string) {
	r.t.Helper()
	c := r.recovered(h.backup, "followed", next, settings)
	r.wantState(c, want)
	r.remove(c)
}

// latest is reported, or left out where it is the default.
func (r *rig) latest() map[string]string {
	if r.major >= 12 && r.online {
		return nil
	}
	return map[string]string{"recovery_target_timeline": "latest"}
}

// oldest is the backup's own timeline: by number, by name, or left out where it is the default.
func (r *rig) oldest() map[string]string {
	switch {
	case !r.online:
		return map[string]string{"recovery_target_timeline": "1"}
	case r.major >= 12:
		return map[string]string{"recovery_target_timeline": "current"}
	}
	return nil
}

// dump restores all segments by hand and has pg_waldump read them, timeline by timeline.
func (r *rig) dump() {
	waldump, err := pgtest.Tool(r.major, "pg_waldump")
	r.must(err)
	dir := pgtest.TempDir(r.t)
	for timeline := 1; timeline <= 3; timeline++ {
		segments := r.segments(timeline)
		for _, name := range segments {
			args := []string{"-c", os.DevNull, "--spool", r.spool, name, filepath.Join(dir, name)}
			cmdtest.Run(r.t, pgtest.Command(r.ctx(), cmdtest.Path("restore-cmd"), args...)).Expect(r.t, 0)
		}
		first, last := segments[0], segments[len(segments)-1]
		cmd := exec.CommandContext(r.ctx(), waldump, "-p", dir, "-t", strconv.Itoa(timeline), first, last)
		var said bytes.Buffer
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil || said.Len() > 0 || bytes.Count(out, []byte("\n")) < 100 {
			r.t.Errorf("pg_waldump of timeline %d, %s to %s: %v\n%s", timeline, first, last, err, said.String())
		}
	}
}
