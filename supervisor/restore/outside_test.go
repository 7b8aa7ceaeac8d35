package restore_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/recovery"
	"walkeep/common/wal"
	"walkeep/supervisor/restore"
)

func creating(locations ...string) (c recovery.Changes) {
	for i, location := range locations {
		c.Tablespaces = append(c.Tablespaces, wal.Change{Start: 0x3000028, End: 0x3000060, Tablespace: &wal.NewTablespace{OID: uint32(20000 + i), Location: location}})
	}
	return c
}

// A tablespace that the replay creates must have a free location, or nothing is written.
func TestCreatedTablespaces(t *testing.T) {
	const free, missing, refused = "", "missing", "refused"
	for _, test := range []struct {
		what string
		make func(r *rig, o *restore.Options) []string // returns the locations
		want string
	}{
		{"in the data directory, by an empty name", func(*rig, *restore.Options) []string { return []string{""} }, free},
		{"empty", func(r *rig, _ *restore.Options) []string { return []string{r.target("new")} }, free},
		{"through a link", func(r *rig, _ *restore.Options) []string {
			r.must(os.Symlink(r.target("new"), filepath.Join(r.dir, "link")))
			return []string{filepath.Join(r.dir, "link")}
		}, free},
		{"below the data directory", func(_ *rig, o *restore.Options) []string { return []string{filepath.Join(o.Dir, "spaces", "new")} }, free},
		{"created again at a place of the backup's", func(_ *rig, o *restore.Options) []string {
			return []string{o.Tablespaces["/srv/space"], o.Tablespaces["/srv/space"]}
		}, free},
		{"not there", func(r *rig, _ *restore.Options) []string { return []string{filepath.Join(r.dir, "new")} }, missing},
		{"not empty", func(r *rig, _ *restore.Options) []string {
			dir := r.target("new")
			r.must(os.Mkdir(filepath.Join(dir, "PG_15_202209061"), 0o700))
			return []string{r.target("other"), dir}
		}, refused},
		{"not empty, through a link", func(r *rig, _ *restore.Options) []string {
			r.write(filepath.Join(r.target("new"), "x"), "y")
			r.must(os.Symlink(filepath.Join(r.dir, "new"), filepath.Join(r.dir, "link")))
			return []string{filepath.Join(r.dir, "link")}
		}, refused},
		{"a link that leads nowhere", func(r *rig, _ *restore.Options) []string {
			r.must(os.Symlink(filepath.Join(r.dir, "nowhere"), filepath.Join(r.dir, "link")))
			return []string{filepath.Join(r.dir, "link")}
		}, refused},
		{"a file", func(r *rig, _ *restore.Options) []string {
			r.write(filepath.Join(r.dir, "new"), "y")
			return []string{filepath.Join(r.dir, "new")}
		}, refused},
		{"of another system", func(*rig, *restore.Options) []string { return []string{`C:\space`} }, refused},
		{"the data directory", func(_ *rig, o *restore.Options) []string { return []string{o.Dir} }, refused},
		{"a directory of the database", func(_ *rig, o *restore.Options) []string { return []string{filepath.Join(o.Dir, "base", "5")} }, refused},
		{"where the backup's was before it was mapped", func(r *rig, o *restore.Options) []string {
			return []string{"/srv/space-that-is-not-there"}
		}, missing},
	} {
		t.Run(test.what, func(t *testing.T) {
			files := cluster()
			files["pg_tblspc/16384/PG_15_202209061/5/1"] = "x"
			r := newRig(t, files, backup.Tablespace{OID: 16384, Location: "/srv/space"})
			o := r.options(r.target("data"))
			o.Tablespaces = map[string]string{"/srv/space": r.target("space")}
			o.Changes = creating(test.make(r, &o)...)
			_, err := restore.Run(t.Context(), archive.New(r.backend), r.inv, o)
			var outside *restore.OutsideError
			if errors.As(err, &outside) {
				if (test.want == missing) != outside.Missing || test.want == free {
					t.Errorf("got %v", err)
				}
				if entries, _ := os.ReadDir(o.Dir); len(entries) > 0 {
					t.Errorf("something was written before it was refused: %v", entries)
				}
			} else if err != nil || test.want != free {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if test.what == "below the data directory" {
				if info, err := os.Stat(o.Changes.Tablespaces[0].Tablespace.Location); err != nil || !info.IsDir() {
					t.Errorf("the directory was not made: %v", err)
				}
			}
		})
	}
}

// A tablespace that was being created when the backup began cannot be mapped: the replay makes it at its old
// location.
func TestCreatedTablespaceOfBackup(t *testing.T) {
	files := cluster()
	files["pg_tblspc/20000/PG_15_202209061/5/1"] = "x"
	r := newRig(t, files)
	space := filepath.Join(r.dir, "space")
	r.backup.Tablespaces = []backup.Tablespace{{OID: 20000, Location: space}}
	o := r.options(r.target("data"))
	o.Changes = creating(space)
	o.Tablespaces = map[string]string{space: r.target("mapped")}
	var outside *restore.OutsideError
	if _, err := restore.Run(t.Context(), archive.New(r.backend), r.inv, o); !errors.As(err, &outside) {
		t.Errorf("got %v", err)
	}
	o.Tablespaces = nil
	r.target("space")
	r.run(o)
}

// If a restore in place replays the creation of a tablespace, no old file of it stays: its pages would be newer than
// the target.
func TestCreatedTablespaceIsCleared(t *testing.T) {
	r := newRig(t, cluster())
	o := r.options(r.target("data"))
	r.run(o)
	space := r.target("space")
	stale := filepath.Join(space, "PG_15_202209061", "5")
	for _, dir := range []string{stale, filepath.Join(space, "PG_16_202307071", "5")} {
		r.must(os.MkdirAll(dir, 0o700))
		r.write(filepath.Join(dir, "1"), "x")
	}
	r.must(os.Symlink(space, filepath.Join(o.Dir, "pg_tblspc", "20000")))
	o.Delta = true
	o.Changes = creating(space)
	r.run(o)
	if entries, _ := os.ReadDir(space); len(entries) != 1 || !strings.HasPrefix(entries[0].Name(), "PG_16") {
		t.Errorf("left: %v", entries)
	}
	if _, err := os.Lstat(filepath.Join(o.Dir, "pg_tblspc", "20000")); err == nil {
		t.Error("the link to it is left")
	}
}
