package restore_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"walkeep/common/archive"
	"walkeep/common/recovery"
	"walkeep/supervisor/restore"
)

// asStandby makes the options those of a standby on the same host.
func asStandby(o restore.Options) restore.Options {
	o.Recovery = restore.Recovery{Command: o.Recovery.Command, Standby: &restore.Standby{Primary: "host=a user='it''s'"}}
	o.Keep = o.Delta
	return o
}

func TestStandbySettings(t *testing.T) {
	for _, c := range []struct {
		name    string
		standby restore.Standby
		conf    string
		major   int
		want    string
	}{
		{"from the archive", restore.Standby{}, "", 15, "recovery_target_timeline = 'latest'\n"},
		{"along a timeline", restore.Standby{Pinned: true}, "", 15, "recovery_target_timeline = '1'\n"},
		{"streaming", restore.Standby{Primary: "host=a user='x'", Slot: "s"}, "", 15,
			"recovery_target_timeline = 'latest'\nprimary_conninfo = 'host=a user=''x'''\nprimary_slot_name = 's'\n"},
		{"the user's own target", restore.Standby{}, "recovery_target_xid = '7'\n", 15, "recovery_target_xid = ''\nrecovery_target_timeline = 'latest'\n"},
		{"up to 11", restore.Standby{Primary: "host=a"}, "", 11, "recovery_target_timeline = 'latest'\nprimary_conninfo = 'host=a'\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := cluster()
			files["postgresql.conf"], files["postgresql.auto.conf"] = c.conf, "primary_conninfo = 'host=old'\n"
			r := newRig(t, files)
			r.backup.Major = c.major
			o := r.options(r.target("data"))
			there := func(name string) bool {
				_, err := os.Lstat(filepath.Join(o.Dir, name))
				return err == nil
			}
			for i := range 4 { // a standby, a recovery, and a standby again
				o.Delta = i > 0
				o.Recovery = restore.Recovery{Command: "restore-cmd", Standby: &c.standby}
				if i == 1 {
					o.Recovery = restore.Recovery{Command: "restore-cmd", Action: "pause"}
				}
				r.run(o)
				if c.major < 12 {
					if got := r.readIn(o.Dir, "recovery.conf"); strings.Contains(got, "standby_mode = 'on'\n") != (i != 1) || i != 1 && !strings.HasSuffix(got, "\n"+c.want) {
						t.Errorf("restore %d: got\n%s", i, got)
					}
					continue
				}
				if there("standby.signal") != (i != 1) || there("recovery.signal") != (i == 1) {
					t.Errorf("restore %d: standby.signal %t, recovery.signal %t", i, there("standby.signal"), there("recovery.signal"))
				}
				if i == 1 {
					continue
				}
				want := "# walkeep restore: of an earlier recovery: primary_conninfo = 'host=old'\nrestore_command = 'restore-cmd'\n" + c.want
				if got := withoutComments(t, r.readIn(o.Dir, "postgresql.auto.conf")); got != want {
					t.Errorf("restore %d: got\n%s\nwant\n%s", i, got, want)
				}
			}
		})
	}
}

func (r *rig) readIn(dir, name string) string {
	r.t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, name))
	r.must(err)
	return string(content)
}

// With Keep exactly the host's own configuration stays, also if the first attempts were interrupted.
func TestKeepsOwn(t *testing.T) {
	files := cluster()
	for name, content := range map[string]string{
		"postgresql.conf": "port = 1\n", "pg_hba.conf": "backup's", "pg_ident.conf": "backup's", "conf.d/": "", "conf.d/theirs.conf": "work_mem = '1MB'\n",
		"server.key": "backup's", "log/": "", "log/theirs": "x", "extension/": "", "extension/data": "backup's", "certs/": "", "certs/ca.crt": "backup's",
	} {
		files[name] = content
	}
	r := newRig(t, files)
	dir := r.target("data")
	r.run(r.options(dir))
	own := map[string]string{
		"postgresql.conf":      "port = 2\ninclude 'more/own.conf'\nssl_ca_file = 'certs/ca.crt'\ninclude_if_exists 'base/1/1000'\nhba_file = 'pg_hba_own.conf'\nhosts_file = 'names'\n",
		"pg_hba_own.conf":      "own",
		"postgresql.auto.conf": "work_mem = '7MB'\nrestore_command = 'old'\n", "pg_hba.conf": "own\ninclude more/hba\n", "server.key": "own",
		"more/own.conf": "work_mem = '3MB'\n", "more/hba": "local all all trust\n", "certs/ca.crt": "own", "log/own": "what happened",
		"conf.d/own.conf": "work_mem = '4MB'\n",
		"pg_hosts.conf":   "# HOSTNAME\n*.example.org certs/a.crt \"certs/a.key\" - \"echo secret\" on # certs/not.crt\n", "certs/a.crt": "own", "certs/a.key": "own",
		"names": "b.example.org\tcerts/b.crt certs/b.key certs/b.ca\n", "certs/b.crt": "own", "certs/b.key": "own", "certs/b.ca": "own",
	}
	r.must(os.Remove(filepath.Join(dir, "conf.d/theirs.conf")))
	r.must(os.Remove(filepath.Join(dir, "log/theirs")))
	r.must(os.Remove(filepath.Join(dir, "pg_ident.conf")))
	r.must(os.Mkdir(filepath.Join(dir, "more"), 0o700))
	for name, content := range own {
		r.write(filepath.Join(dir, name), content)
	}
	r.write(filepath.Join(dir, "more/other"), "not named by anything")
	r.write(filepath.Join(dir, "certs/not.crt"), "not named by anything, but in a comment")
	r.write(filepath.Join(dir, "extension/data"), "data that an extension has changed")
	r.write(filepath.Join(dir, "base/1/1000"), "data, whatever postgresql.conf says of it")

	o := r.options(dir)
	o.Delta = true
	o = asStandby(o)
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		interrupted := o
		interrupted.Begin = func(what string, _ int64) {
			if what == "restore" {
				cancel()
			}
		}
		_, err := restore.Run(ctx, archive.New(r.backend), r.inv, interrupted)
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v, want an interruption", err)
		}
		r.cannotStart(dir)
	}
	for range 2 {
		r.run(o)
		for name, want := range own {
			got := r.readIn(dir, name)
			if name == "postgresql.auto.conf" {
				if !strings.HasPrefix(got, "work_mem = '7MB'\n# walkeep restore: of an earlier recovery: restore_command = 'old'\n") || !strings.Contains(got, "primary_conninfo = 'host=a user=''it''''s'''") {
					t.Errorf("%s: got\n%s", name, got)
				}
				continue
			}
			if got != want {
				t.Errorf("%s: got %q, want %q", name, got, want)
			}
		}
		for name, want := range map[string]string{"pg_ident.conf": "backup's", "extension/data": "backup's", "base/1/1000": files["base/1/1000"]} {
			if got := r.readIn(dir, name); got != want {
				t.Errorf("%s: got %.50q, want %.50q", name, got, want)
			}
		}
		for _, name := range []string{"more/other", "certs/not.crt", "conf.d/theirs.conf", "log/theirs"} {
			if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
				t.Errorf("%s is there", name)
			}
		}
	}

	// A half-written file of an interrupted restore without Keep is not the host's own.
	ctx, cancel := context.WithCancel(t.Context())
	plain := r.options(dir)
	plain.Delta = true
	plain.Begin = func(what string, _ int64) {
		if what == "restore" {
			cancel()
		}
	}
	if _, err := restore.Run(ctx, archive.New(r.backend), r.inv, plain); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want an interruption", err)
	}
	r.write(filepath.Join(dir, "postgresql.conf"), "por")
	r.run(o)
	if got := r.readIn(dir, "postgresql.conf"); got != files["postgresql.conf"] {
		t.Errorf("after a restore that was interrupted: got %q", got)
	}
}

// Files that an interrupted restore has kept are reported by the restore that completes it.
func TestKeptIsReported(t *testing.T) {
	r := newRig(t, cluster())
	dir := r.target("data")
	r.run(r.options(dir))
	wal := filepath.Join(dir, "pg_wal")
	r.must(os.Mkdir(filepath.Join(wal, "walkeep.kept"), 0o700))
	r.write(filepath.Join(wal, "walkeep.kept", "000000010000000000000001"), "of an earlier restore")
	r.write(filepath.Join(wal, segment(1, 4<<24)), string(header(1, 4<<24, systemID)))
	r.inv.Lines = []recovery.Line{{Timeline: 1}}
	o := r.options(dir)
	o.Delta = true
	ctx, cancel := context.WithCancel(t.Context())
	interrupted := o
	interrupted.Begin = func(what string, _ int64) {
		if what == "restore" {
			cancel()
		}
	}
	done, err := restore.Run(ctx, archive.New(r.backend), r.inv, interrupted)
	if !errors.Is(err, context.Canceled) || len(done.Kept) != 1 {
		t.Fatalf("got %v, %v, want an interruption", done.Kept, err)
	}
	if done := r.run(o); !slices.Equal(done.Kept, []string{segment(1, 4<<24)}) || done.KeptBytes != 8192 {
		t.Errorf("kept %v, %d bytes", done.Kept, done.KeptBytes)
	}
	if done := r.run(o); len(done.Kept) > 0 {
		t.Errorf("the next restore says that it has kept %v", done.Kept)
	}
}
