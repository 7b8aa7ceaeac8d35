package main_test

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walkeep/common/pgtest"
)

// content identifies all that is in a directory, with modes and times.
func (r *rig) content(dir string) string {
	r.t.Helper()
	all := sha256.New()
	r.must(filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		fmt.Fprintln(all, path, info.Mode(), info.ModTime())
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			all.Write(content)
			return err
		}
		return nil
	}))
	return fmt.Sprintf("%x", all.Sum(nil))
}

// A drill, and a copy beside the server, leave the live server's tablespaces alone, also those that were created after the
// backup, which the replay would make again at the same places.
func TestCopiesLeaveLiveTablespacesAlone(t *testing.T) {
	pgtest.Each(t, func(t *testing.T, major int) {
		r := newRig(t, major)
		c := r.start("primary", nil)
		old, plain, behind, link := filepath.Join(r.dir, "o=ld"), filepath.Join(r.dir, "plain"), filepath.Join(r.dir, "behind"), filepath.Join(r.dir, "link")
		for _, dir := range []string{old, plain, behind} {
			r.mkdir(dir)
		}
		r.must(pgtest.Command(r.ctx(), "ln", "-s", behind, link).Run())
		r.must(c.Exec(r.ctx(), "CREATE TABLESPACE old LOCATION '"+old+"'"))
		r.must(c.Exec(r.ctx(), "CREATE TABLE kept (n int) TABLESPACE old"))
		r.backup(c)
		r.must(c.Exec(r.ctx(), "INSERT INTO kept SELECT generate_series(1, 1000)"))
		if major >= 15 {
			r.must(c.Configure(map[string]string{"allow_in_place_tablespaces": "on"}))
			r.must(c.Reload(r.ctx()))
			r.must(c.Exec(r.ctx(), "CREATE TABLESPACE inside LOCATION ''"))
			r.must(c.Exec(r.ctx(), "CREATE TABLE within TABLESPACE inside AS SELECT generate_series(1, 1000) AS n"))
		}
		for _, s := range []struct{ name, location string }{{"dropped", plain}, {"plain", plain}, {"linked", link}} {
			r.must(c.Exec(r.ctx(), "CREATE TABLESPACE "+s.name+" LOCATION '"+s.location+"'"))
			if s.name == "dropped" {
				r.must(c.Exec(r.ctx(), "DROP TABLESPACE dropped"))
				continue
			}
			r.must(c.Exec(r.ctx(), "CREATE TABLE t_"+s.name+" TABLESPACE "+s.name+" AS SELECT generate_series(1, 1000) AS n"))
		}
		r.cut(c)
		r.must(c.Checkpoint(r.ctx()))
		outside := func() string { return r.content(old) + r.content(plain) + r.content(behind) }
		was := outside()
		d := r.drill(0)
		if detail := d.Steps[2].Detail; !strings.Contains(detail, "is created in "+plain) || d.UntriedFrom == "" || !strings.Contains(d.Untried, plain) {
			t.Errorf("the drill does not say what was not tried: %+v", d)
		}
		r.checkNothingLeft()
		beside := []string{"restore", "--target-dir", filepath.Join(r.dir, "copy"), "--tablespace-map", strings.ReplaceAll(old, "=", `\=`) + "=" + filepath.Join(r.dir, `map\=ped`)}
		r.fails(1, []string{"creates tablespace", plain, "--target-lsn " + d.UntriedFrom + " --target-exclusive"}, beside...)
		copied := r.restore("copy", append(beside[3:], "--target-lsn", d.UntriedFrom, "--target-exclusive", "--target-action", "promote")...)
		r.must(copied.Start(r.ctx()))
		r.must(copied.WaitOpen(r.ctx()))
		if n, err := copied.QueryInt(r.ctx(), "SELECT count(*) FROM kept"); err != nil || n != 1000 {
			t.Errorf("the copy has %d rows (%v)", n, err)
		}
		if _, err := os.Stat(filepath.Join(r.dir, "map=ped")); err != nil {
			t.Errorf("the tablespace is not where it was mapped to: %v", err)
		}
		if outside() != was {
			t.Error("the live server's tablespaces were touched")
		}
	}, pgtest.Few()...)
}
