package main_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"walkeep/common/cmdtest"
	"walkeep/common/pgtest"
	"walkeep/supervisor/pgconf"
)

// If the settings were changed between two setups, undo restores the changed ones.
func TestSetupAgain(t *testing.T) {
	t.Parallel()
	r := newSetupRig(t, setupMajor, nil)
	r.setup()
	set := func(setting string) {
		t.Helper()
		r.must(r.c.Exec(r.ctx(), "ALTER SYSTEM "+setting))
		r.must(r.c.Reload(r.ctx()))
	}
	const other = "TOKEN=s3cr3t cp %p /new/%f --key=s3cr3t"
	set("SET archive_command = '" + other + "'")
	set("RESET archive_mode")
	r.refuses("another archiver, cp")
	said := r.setup("--replace")
	r.says("nothing to do")
	said += r.setup("--undo")
	if !strings.Contains(said, "set archive_command: cp ... -> ") || !strings.Contains(said, " -> cp ...") || strings.Contains(said, "s3cr3t") {
		t.Errorf("setup says\n%s", said)
	}
	if auto := r.autoConf(); !strings.Contains(auto, "'"+other+"'") || strings.Contains(auto, "archive_mode") {
		t.Errorf("postgresql.auto.conf is\n%s", auto)
	}

	// A command that does what it should is left alone, whatever its options.
	command := fmt.Sprintf("%s --codec lz4 -v --spool=%q %%p", cmdtest.Path("archive-cmd"), filepath.Join(r.dir, "here"))
	set("SET archive_command = '" + command + "'")
	r.refuses("archives into another spool")
	r.spool = filepath.Join(r.dir, "here")
	r.setup()
	if auto := r.autoConf(); !strings.Contains(auto, command) {
		t.Errorf("postgresql.auto.conf is\n%s", auto)
	}
	r.setup("--undo")
	if auto := r.autoConf(); !strings.Contains(auto, command) {
		t.Errorf("postgresql.auto.conf is\n%s", auto)
	}
}

// setup --undo leaves a setting that somebody else has changed since, and an active slot.
func TestSetupUndoLeaves(t *testing.T) {
	t.Parallel()
	r := newSetupRig(t, setupMajor, nil)
	before := r.state()
	r.setup("--synchronous")
	r.must(r.c.Exec(r.ctx(), "ALTER SYSTEM SET archive_command = 'true'"))
	r.must(r.c.Reload(r.ctx()))
	receiver, err := pgtest.ClientTool("pg_receivewal")
	r.must(err)
	r.mkdir(filepath.Join(r.dir, "received"))
	cmd := pgtest.Command(r.ctx(), receiver, "-D", filepath.Join(r.dir, "received"), "-S", "walkeep", "-d", r.c.ConnString())
	r.must(cmd.Start())
	r.must(r.c.WaitFor(r.ctx(), pgtest.Timeout, "the slot to be in use", func(ctx context.Context) (bool, error) {
		n, err := r.c.QueryInt(ctx, "SELECT count(*) FROM pg_replication_slots WHERE active")
		files, _ := filepath.Glob(filepath.Join(r.dir, "received", "*.partial"))
		return n == 1 && len(files) == 1, err
	}))
	r.refuses("is in use", "--undo")
	r.must(cmd.Process.Signal(os.Interrupt))
	cmd.Wait()
	r.must(os.RemoveAll(filepath.Join(r.dir, "received")))
	r.must(r.c.WaitFor(r.ctx(), pgtest.Timeout, "the slot to be free", func(ctx context.Context) (bool, error) {
		n, err := r.c.QueryInt(ctx, "SELECT count(*) FROM pg_replication_slots WHERE active")
		return n == 0, err
	}))
	r.says("archive_command was changed since, and stays", "--undo")
	r.must(r.c.Exec(r.ctx(), "ALTER SYSTEM RESET archive_command"))
	r.same(before, "undo")
}

// A slot that another spool uses by now is not dropped with the setup that has made it.
func TestSetupUndoLeavesTheSlot(t *testing.T) {
	t.Parallel()
	r := newSetupRig(t, setupMajor, nil)
	r.setup()
	other := r.spool + "-other"
	command := pgconf.CommandWord(cmdtest.Path("archive-cmd")) + " --spool " + pgconf.CommandWord(other) + ` "%p"`
	r.mkdir(other)
	r.must(r.c.Exec(r.ctx(), "ALTER SYSTEM SET archive_command = '"+strings.ReplaceAll(command, "'", "''")+"'"))
	r.must(r.c.Reload(r.ctx()))
	r.says("may belong to that spool, and stays", "--undo")
	if n, err := r.c.QueryInt(r.ctx(), "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'walkeep'"); err != nil || n != 1 {
		t.Errorf("got %d slots (%v), want 1", n, err)
	}
}

// From 19 on, logical slots are made with wal_level = replica. check does not mind what the server makes of it, and undo does not
// take the server what it needs to start with them.
func TestSetupUndoLeavesWhatSlotsNeed(t *testing.T) {
	t.Parallel()
	r := newSetupRig(t, 19, minimal)
	if out := r.setup("--restart"); !strings.Contains(out, "next: wal_sender_shutdown_timeout") {
		t.Errorf("setup does not speak of wal_sender_shutdown_timeout:\n%s", out)
	}
	r.must(r.c.Exec(r.ctx(), "SELECT pg_create_logical_replication_slot('other', 'pgoutput')"))
	level, err := r.c.QueryString(r.ctx(), "SHOW effective_wal_level")
	if err != nil || level != "logical" {
		t.Fatalf("effective_wal_level is %q (%v), want logical", level, err)
	}
	r.says("nothing to do")
	r.run("backup", "--conninfo", r.c.ConnString())
	r.run("check", "--conninfo", r.c.ConnString())
	r.says("wal_level stays as it is", "--undo")
	if auto := r.autoConf(); !strings.Contains(auto, "wal_level = 'replica'") || strings.Contains(auto, "archive_mode") {
		t.Errorf("postgresql.auto.conf is\n%s", auto)
	}
	r.must(r.c.Stop(r.ctx(), pgtest.Fast))
	r.must(r.c.Start(r.ctx()))
}

// Root sets up a server of another user, to whom all belongs that is made.
func TestSetupAsRoot(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	r := newSetupRig(t, setupMajor, minimal)
	before := r.state()
	call := func(more ...string) {
		t.Helper()
		cmd := exec.CommandContext(r.ctx(), cmdtest.Path("supervisor"), r.args(more...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", more, err, out)
		}
	}
	call("--restart")
	r.load(r.c, 5, 1)
	r.cut(r.c)
	r.run("status", "--conninfo", r.c.ConnString()) // as the servers' user
	out, err := pgtest.Command(r.ctx(), "cat", r.ini, filepath.Join(r.spool, "setup.json")).CombinedOutput()
	if err != nil {
		t.Errorf("the servers' user cannot read what root has made: %s", out)
	}
	r.says("nothing to do")
	call("--undo", "--restart")
	r.must(r.c.Exec(r.ctx(), "DROP TABLE load_history, load_account, load_teller"))
	r.same(before+"\n"+r.spool+"\n"+filepath.Join(r.spool, "archive.json"), "undo")
}

// A setup, or an undo, that is killed at any time can be undone.
func TestSetupKilled(t *testing.T) {
	t.Parallel()
	r := newSetupRig(t, setupMajor, minimal)
	r.must(r.c.Exec(r.ctx(), "CREATE ROLE walker"))
	r.must(r.c.Exec(r.ctx(), "ALTER SYSTEM SET max_wal_senders = 0"))
	before := r.state()
	random := cmdtest.Rand(t)
	for _, made := range []bool{false, true} {
		if made { // now the slot can be made at once, and the spool is there
			r.must(r.c.Configure(map[string]string{"wal_level": "replica", "max_replication_slots": "5"}))
			r.must(r.c.Restart(r.ctx()))
			r.mkdir(r.spool)
			before = r.state()
		}
		begun := time.Now()
		r.setup("--role", "walker")
		took := time.Since(begun)
		r.setup("--undo")
		r.same(before, "undo")
		killed := 0
		for range 30 {
			begun := time.Now()
			if r.kill(random, took, "--role", "walker") {
				killed++
			} else {
				took = time.Since(begun) // the first may have been a slow one
			}
			if random.IntN(2) == 0 {
				r.setup("--role", "walker") // completes it
			}
			r.kill(random, took, "--undo")
			r.setup("--undo")
			r.same(before, "a setup that was killed, and undo")
			if t.Failed() {
				return
			}
		}
		t.Logf("killed %d setups, in up to %s", killed, took)
		if killed < 10 {
			t.Errorf("only %d setups were killed", killed)
		}
	}
}

// kill calls setup, and kills it after up to the time that it takes. It reports whether that came before its end.
func (r *setupRig) kill(random *rand.Rand, took time.Duration, more ...string) bool {
	r.t.Helper()
	cmd := pgtest.Command(r.ctx(), cmdtest.Path("supervisor"), r.args(more...)...)
	r.must(cmd.Start())
	timer := time.AfterFunc(time.Duration(random.Int64N(int64(took))), func() { cmd.Process.Kill() })
	defer timer.Stop()
	err := cmd.Wait()
	if err != nil && cmd.ProcessState.ExitCode() != -1 {
		r.t.Fatalf("setup %q failed by itself: %v", more, err)
	}
	return err != nil
}

// Several setups, and undos, at once do what one does.
func TestSetupTogether(t *testing.T) {
	t.Parallel()
	r := newSetupRig(t, setupMajor, nil)
	before := r.state()
	for _, args := range [][]string{{"--role", "walker"}, {"--undo"}} {
		var calls []*exec.Cmd
		for range 4 {
			cmd := pgtest.Command(r.ctx(), cmdtest.Path("supervisor"), r.args(args...)...)
			r.must(cmd.Start())
			calls = append(calls, cmd)
		}
		for _, cmd := range calls {
			if err := cmd.Wait(); err != nil {
				t.Errorf("%q: %v", args, err)
			}
		}
	}
	r.same(before, "undo")
}

// A setup that is killed while it restarts the server does not leave the server down, and can be undone.
func TestSetupKilledRestarting(t *testing.T) {
	t.Parallel()
	r := newSetupRig(t, setupMajor, minimal)
	r.mkdir(r.spool)
	begun := time.Now()
	r.setup("--restart")
	took := time.Since(begun)
	r.must(r.c.Exec(r.ctx(), "SELECT pg_switch_wal()"))
	r.must(r.c.WaitFor(r.ctx(), pgtest.Timeout, "the archive", func(context.Context) (bool, error) {
		_, err := os.Stat(filepath.Join(r.spool, "archive.json"))
		return err == nil, nil
	}))
	r.setup("--undo", "--restart")
	before := r.state()
	random := cmdtest.Rand(t)
	for range 8 {
		r.kill(random, took, "--restart")
		// What it has started restarts the server all the same, and must not do so while the undo does, nor after it.
		r.until("the restart to be over", func() bool {
			calls, err := filepath.Glob("/proc/[0-9]*/cmdline") // of pg_ctl, or still of setup where it forks
			r.must(err)
			return !slices.ContainsFunc(calls, func(path string) bool {
				call, _ := os.ReadFile(path) // which may have ended
				return bytes.Contains(call, []byte(r.dir+"/")) && (bytes.Contains(call, []byte("\x00restart\x00")) || bytes.Contains(call, []byte("\x00setup\x00")))
			})
		})
		r.must(r.c.WaitFor(r.ctx(), pgtest.Timeout, "an undo", func(ctx context.Context) (bool, error) {
			out, err := pgtest.Command(ctx, cmdtest.Path("supervisor"), r.args("--undo", "--restart")...).CombinedOutput()
			if err != nil {
				return false, fmt.Errorf("%w: %s", err, out)
			}
			return true, nil
		}))
		r.same(before, "a setup that was killed, and undo")
		level, err := r.c.QueryString(r.ctx(), "SHOW wal_level")
		r.must(err)
		if level != "minimal" {
			t.Errorf("wal_level is %s", level)
		}
	}
}

// setup --undo leaves a setting that was right before setup.
func TestSetupUndoLeavesWhatWasRight(t *testing.T) {
	t.Parallel()
	r := newSetupRig(t, setupMajor, nil)
	r.setup("--role", "walker", "--restart")
	r.must(os.Remove(filepath.Join(r.spool, "setup.json"))) // as if all of it had been made by hand
	before := r.state()
	r.says("nothing to do", "--role", "walker")
	r.says("nothing to undo", "--undo")
	r.same(before, "undo of a setup that had nothing to do")

	r.must(r.c.Exec(r.ctx(), "ALTER SYSTEM RESET archive_command"))
	r.must(r.c.Reload(r.ctx()))
	before = r.state()
	r.says("done: set archive_command", "--role", "walker")
	if said := r.setup("--undo"); strings.Contains(said, "archive_mode") || strings.Contains(said, "drop") {
		t.Errorf("undo takes more back than setup has done:\n%s", said)
	}
	r.same(before, "undo of a setup that had little to do")
}
