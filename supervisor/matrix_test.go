package main_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"walkeep/common/pgtest"
)

// TestMajor takes clusters of every version through their life: backed up under load, lost, recovered (to every kind of
// target where recovery changed with the version), promoted, backed up again, and recovered along both timelines.
func TestMajor(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) { newRig(t, major).live() })
}

// A point is one to which recovery can be asked to go, and what the rows are then.
type point struct {
	name string
	args []string
	want string
}

func (r *rig) live() {
	c := r.start("primary", nil)
	space := filepath.Join(r.dir, "space")
	r.mkdir(space)
	r.must(c.Exec(r.ctx(), "CREATE TABLESPACE aside LOCATION '"+space+"'"))
	r.must(c.Exec(r.ctx(), "CREATE TABLE elsewhere (n int) TABLESPACE aside"))
	r.must(c.Exec(r.ctx(), "INSERT INTO elsewhere SELECT generate_series(1, 1000)"))
	r.load(c, 20, 1)
	var first string
	r.loadWhile(c, 2, func() { first = r.backup(c) })
	points := r.points(c)
	r.must(c.Kill())

	for _, p := range points {
		if !r.everyWay() && p.name != "time" && p.name != "latest" {
			continue
		}
		r.t.Run(p.name, func(t *testing.T) {
			r := r.in(t)
			to := r.restore("to-"+p.name, append(p.args, "--target-timeline", "current", "--target-action", "promote", "--tablespace-map", space+"="+space+"-"+p.name)...)
			defer to.Close()
			r.opens(to, p.want)
		})
	}
	if r.everyWay() {
		r.t.Run("immediate", func(t *testing.T) {
			r := r.in(t)
			to := r.restore("to-immediate", "--target-immediate", "--target-action", "promote", "--tablespace-map", space+"="+space+"-immediate")
			defer to.Close()
			r.must(to.Start(r.ctx()))
			r.must(to.WaitOpen(r.ctx()))
			r.sum(to)
		})
	}
	r.timelines(first, space, points)
}

// everyWay reports whether a cluster of this version is recovered in every way. For the versions between those of Turns, restore
// writes the settings of the version before: there it is two targets, across the switch of timelines, and the delta, unless
// WALKEEP_LONG is set.
func (r *rig) everyWay() bool {
	return slices.Contains(pgtest.Turns(), r.major) || os.Getenv("WALKEEP_LONG") != ""
}

// points makes states of the database that recovery can be asked for; the last one is the latest.
func (r *rig) points(c *pgtest.Cluster) []point {
	r.t.Helper()
	var points []point
	add := func(name string, args ...string) { points = append(points, point{name, args, r.sum(c)}) }
	query := func(sql string) string {
		s, err := c.QueryString(r.ctx(), sql)
		r.must(err)
		return s
	}

	r.load(c, 20, 10)
	_, err := c.CreateRestorePoint(r.ctx(), "a name")
	r.must(err)
	add("name", "--target-name", "a name")

	r.load(c, 20, 11)
	r.must(c.Exec(r.ctx(), "SELECT pg_sleep(0.02)")) // so that no commit is near the time
	now := query("SELECT clock_timestamp() FROM pg_sleep(0.02)")
	add("time", "--target-time", now)

	r.load(c, 20, 12)
	xid := query("INSERT INTO elsewhere VALUES (-1) RETURNING txid_current()::text")
	add("xid", "--target-xid", xid)

	r.load(c, 20, 13)
	lsn := query("SELECT pg_current_wal_insert_lsn()::text")
	add("lsn", "--target-lsn", lsn)

	r.load(c, 20, 14)
	r.cut(c)
	add("latest")
	return points
}

// timelines continues from a recovery: a second timeline in the same archive, its backup, and recovery along both.
func (r *rig) timelines(first, space string, points []point) {
	r.t.Helper()
	moved := space + "-second"
	second := r.restore("second", "--target-name", "a name", "--target-action", "promote", "--tablespace-map", space+"="+moved)
	r.must(second.Configure(map[string]string{"archive_mode": "on"}))
	r.opens(second, points[0].want)
	r.load(second, 20, 20)
	between := r.sum(second)
	_, err := second.CreateRestorePoint(r.ctx(), "on the second")
	r.must(err)
	id := r.backup(second)
	if id == first {
		r.t.Fatalf("two backups have the id %s", id)
	}
	r.load(second, 20, 21)
	r.cut(second)
	end := r.sum(second)
	r.must(second.Kill())

	for _, p := range []struct {
		name, space string
		args        []string
		want        string
	}{
		{"latest is on the second timeline", moved, nil, end},
		{"across the switch", space, []string{first}, end},
		{"to a point behind the switch", space, []string{"--target-name", "on the second", "--target-action", "promote"}, between},
		{"along the first timeline", space, []string{"--target-timeline", "1"}, points[len(points)-1].want},
	} {
		if !r.everyWay() && p.name != "across the switch" {
			continue
		}
		r.t.Run(p.name, func(t *testing.T) {
			r := r.in(t)
			name := filepath.Base(t.Name())
			to := r.restore(name, append(p.args, "--tablespace-map", p.space+"="+space+"-"+name)...)
			defer to.Close()
			r.opens(to, p.want)
		})
	}
	r.t.Run("delta onto what has diverged", func(t *testing.T) {
		r := r.in(t)
		r.run("restore", "--delta", "--target-dir", second.Dir, "--target-timeline", "1", "--tablespace-map", space+"="+moved)
		to := r.open(second.Dir)
		defer to.Close()
		r.opens(to, points[len(points)-1].want)
	})
}
