package main_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"walkeep/common/pgtest"
)

// A tablespace that lies in the data directory comes back from a backup, and a drill recovers it, although the setting
// without which a server refuses it was made for one session alone.
func TestInPlaceTablespaces(t *testing.T) {
	t.Parallel()
	for _, major := range []int{15, 16, 17, 18, 19} {
		if !slices.Contains(pgtest.Majors(), major) {
			continue
		}
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			r := newRig(t, major)
			c := r.start("primary", nil)
			conn, err := c.Conn(r.ctx())
			r.must(err)
			for _, sql := range []string{"SET allow_in_place_tablespaces = on", "CREATE TABLESPACE ip LOCATION ''", "CREATE TABLE elsewhere (n) TABLESPACE ip AS SELECT generate_series(1, 1000)"} {
				_, err := conn.Exec(r.ctx(), sql)
				r.must(err)
			}
			r.must(conn.Close(r.ctx()))
			r.load(c, 5, 1)
			r.backup(c)
			r.must(c.Exec(r.ctx(), "INSERT INTO elsewhere SELECT generate_series(1, 1000)"))
			want := r.sum(c)
			r.cut(c)
			r.run("verify", "--deep")
			r.opens(r.restore("restored"), want)
			r.drill(0)
		})
	}
}

// waiting takes a backup of a server that cannot archive, and returns when all its files are stored and it waits for WAL.
func (r *rig) waiting(c *pgtest.Cluster, prepare func(args ...string) *runningBackup) *runningBackup {
	r.t.Helper()
	b := prepare("backup", "--conninfo", c.ConnString(), "--archive-timeout", "5m", "-v")
	err := c.WaitFor(r.ctx(), pgtest.Timeout, "the backup to wait for WAL", func(context.Context) (bool, error) {
		return strings.Contains(b.said(), "all files are stored; waiting"), nil
	})
	if err != nil {
		r.t.Fatalf("%v\n%s", err, b.said())
	}
	return b
}

type runningBackup struct {
	log  string // the file that has what it says
	wait func() error
}

func (b *runningBackup) said() string {
	text, err := os.ReadFile(b.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// background begins a call of a program.
func (r *rig) background(program string, args ...string) *runningBackup {
	r.t.Helper()
	log, err := os.CreateTemp(r.dir, "backup-*.log")
	r.must(err)
	defer log.Close()
	cmd := pgtest.Command(r.ctx(), program, args...)
	if program == "unshare" { // which only root can
		cmd.SysProcAttr = nil
	}
	cmd.Stdout, cmd.Stderr = log, log
	r.must(cmd.Start())
	return &runningBackup{log: log.Name(), wait: cmd.Wait}
}

// cleanup leaves the files of a backup that is running, also one in a container whose process cannot be seen. A backup fails if
// its files were removed meanwhile.
func TestBackupIsWhole(t *testing.T) {
	t.Parallel()
	r := newRig(t, 15)
	c := r.start("primary", map[string]string{"archive_command": "false"})
	archives, err := c.QueryString(r.ctx(), "SHOW archive_command")
	r.must(err)
	if archives != "false" {
		t.Fatalf("archive_command is %q", archives)
	}
	supervisor := r.command()
	here := func(args ...string) *runningBackup {
		return r.background(supervisor.Path, append(slices.Clone(supervisor.Args[1:]), args...)...)
	}
	for _, spoil := range []string{"leases/*.json", "backups/*/data-0001.tar.zst"} {
		b := r.waiting(c, here)
		files, err := filepath.Glob(filepath.Join(r.spool, spoil))
		if err != nil || len(files) != 1 {
			t.Fatalf("%s: %v, %v", spoil, files, err)
		}
		r.must(os.Remove(files[0]))
		r.archive(c, true)
		if err := b.wait(); err == nil || !strings.Contains(b.said(), filepath.Base(files[0])) {
			t.Errorf("without %s: got %v\n%s", spoil, err, b.said())
		}
		r.nothingLeft()
		r.archive(c, false)
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can make a PID namespace")
	}
	uid, gid := owner(t, r.spool)
	b := r.waiting(c, func(args ...string) *runningBackup {
		in := []string{"--pid", "--fork", "--mount-proc", "--setuid", fmt.Sprint(uid), "--setgid", fmt.Sprint(gid), supervisor.Path}
		return r.background("unshare", slices.Concat(in, supervisor.Args[1:], args)...)
	})
	r.run("cleanup", "--keep-backups", "1")
	r.archive(c, true)
	if err := b.wait(); err != nil {
		t.Fatalf("backup in a PID namespace of its own: %v\n%s", err, b.said())
	}
	r.restore("restored")
}

// Foreign files in the data directory are backed up whatever their names are. If one cannot be backed up, the message names it
// and what to do.
func TestOddNames(t *testing.T) {
	t.Parallel()
	r := newRig(t, 15)
	c := r.start("primary", nil)
	long := strings.Repeat("y", 120) // the stream cannot have it
	odd := []string{"-rf", "new\nline", "not\xff utf-8", "quote'\"", "base/" + strings.Repeat("x", 90), "trailing ", "$(x)", "café", long}
	for _, name := range odd {
		r.must(os.WriteFile(c.Path(name), []byte(name), 0o644))
	}
	r.backup(c, "--backup-from", "files")
	r.must(os.Remove(c.Path(long)))
	for id, ways := range map[string][]string{`we\ird`: {"files", "stream"}, `base/sub\dir`: {"files", "stream"}, long: {"stream"}} {
		r.must(os.WriteFile(c.Path(id), nil, 0o644))
		for _, way := range ways {
			r.fails(1, []string{id, "move it out of the data directory"}, "backup", "--conninfo", c.ConnString(), "--backup-from", way)
		}
		r.must(os.Remove(c.Path(id)))
	}
	r.cut(c)
	to := r.restore("restored")
	for _, name := range odd {
		if content, err := os.ReadFile(to.Path(name)); err != nil || string(content) != name {
			t.Errorf("%q: got %q, %v", name, content, err)
		}
	}
}

// archive has a server archive, or fail to.
func (r *rig) archive(c *pgtest.Cluster, well bool) {
	r.t.Helper()
	command := "false"
	if well {
		command = r.archiveCommand()
	}
	r.must(c.Exec(r.ctx(), "ALTER SYSTEM SET archive_command = '"+strings.ReplaceAll(command, "'", "''")+"'"))
	r.must(c.Reload(r.ctx()))
	r.must(c.WaitFor(r.ctx(), pgtest.Timeout, "the setting", func(ctx context.Context) (bool, error) {
		now, err := c.QueryString(ctx, "SHOW archive_command")
		return now == command, err
	}))
}

// someFile waits for a file of the spool.
func (r *rig) someFile(pattern string) func(context.Context) (bool, error) {
	return func(context.Context) (bool, error) {
		files, err := filepath.Glob(filepath.Join(r.spool, pattern))
		return len(files) > 0, err
	}
}
