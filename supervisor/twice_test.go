package main_test

import (
	"os"
	"path/filepath"
	"testing"
)

// TestRecoverTwice recovers to a point, continues from there on a second timeline, and then recovers along that one to a
// point before it began, which makes a third timeline whose history PostgreSQL writes with positions that decrease.
func TestRecoverTwice(t *testing.T) {
	each(t, func(r *rig) {
		c := r.start("primary", nil)
		r.must(c.Exec(r.ctx(), "CREATE TABLE elsewhere (n int)"))
		r.load(c, 20, 1)
		r.backup(c)
		sums := make(map[string]string)
		for seed, name := range []string{"early", "late"} {
			r.load(c, 20, uint64(10+seed))
			_, err := c.CreateRestorePoint(r.ctx(), name)
			r.must(err)
			sums[name] = r.sum(c)
			r.cut(c)
		}
		r.must(c.Kill())

		want := ""
		for i, name := range []string{"late", "early"} {
			next := r.restore("to-"+name, "--target-name", name, "--target-action", "promote")
			r.must(next.Configure(map[string]string{"archive_mode": "on"}))
			r.opens(next, sums[name])
			r.load(next, 20, uint64(20+i))
			r.cut(next)
			want = r.sum(next)
			history := filepath.Join(r.spool, "wal", []string{"00000002", "00000003"}[i]+".history.zst")
			if _, err := os.Stat(history); err != nil {
				r.t.Errorf("the history is not archived: %v\n%s", err, next.LogTail(20))
			}
			r.must(next.Kill())
		}
		r.opens(r.restore("latest"), want)
		r.run("verify", "--deep")
	})
}
