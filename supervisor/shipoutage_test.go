//go:build unix

package main_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"walkeep/common/archive"
	"walkeep/common/wal"
)

// A server archives while its repository is away for a while, and while the process that ships is killed. Nothing is lost: what
// the repository gets in the end is all there was, the spool keeps nothing of it, and a host with nothing but the repository
// recovers everything.
func TestShippingOutage(t *testing.T) {
	t.Parallel()
	r := newRig(t, restoreMajor)
	f := inDirectory(r)
	near := r.site("near", f)
	near.configure("stream = true\nconninfo = ''\n")
	primary := near.start("primary", nil)
	near.configure("stream = true\npartial-interval = 1s\nconninfo = " + primary.ConnString() + "\n")
	near.must(primary.Exec(near.ctx(), "CREATE TABLE elsewhere (n int)"))

	var shipper *exec.Cmd
	begin := func() {
		shipper = near.command("run")
		log, err := os.OpenFile(filepath.Join(near.dir, "run.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		near.must(err)
		defer log.Close()
		shipper.Stderr = log
		near.must(shipper.Start())
	}
	kill := func() {
		shipper.Process.Kill()
		shipper.Wait()
	}
	begin()
	defer func() {
		kill()
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(near.dir, "run.log"))
			t.Logf("run:\n%s", log)
		}
	}()
	near.run("backup", "--conninfo", primary.ConnString())

	far := filepath.Join(r.dir, "far")
	near.must(os.Rename(far, far+"-away"))
	var last string
	for seed := range uint64(3) {
		near.load(primary, 10, seed)
		last = near.cut(primary)
		kill()
		begin()
	}
	type status struct {
		Shipping []struct {
			Waiting int
			Error   string
			Running bool
		}
	}
	state := func() status {
		out, _ := near.command("status", "--json").Output() // it exits with 0 whatever it finds
		var s status
		if err := json.Unmarshal(out, &s); err != nil || len(s.Shipping) != 1 {
			t.Fatalf("status: %v\n%s", err, out)
		}
		return s
	}
	near.until("status to report the outage", func() bool {
		s := state().Shipping[0]
		return s.Waiting >= 3 && s.Error != "" && s.Running
	})
	out, err := near.command("check", "--max-ship-lag", "1ms").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "repository far lacks what has been in the spool for") {
		t.Errorf("check: %v\n%s", err, out)
	}
	near.must(os.Rename(far+"-away", far))
	near.until("the repository to have everything", func() bool {
		s := state().Shipping[0]
		return s.Waiting == 0 && s.Error == ""
	})
	near.says([]string{"repository far: another process ships to it, and has shipped what was there"}, "ship")
	near.until("what is shipped to leave the spool", func() bool {
		_, err := os.Stat(filepath.Join(near.spool, archive.WALDir, last[:16], last+".zst"))
		return os.IsNotExist(err)
	})
	near.must(primary.Exec(near.ctx(), "INSERT INTO elsewhere VALUES (1)"))
	near.pieces(primary) // of the segment that is being written
	want := near.sum(primary)
	n, err := wal.ParseName(near.cut(primary))
	near.must(err)
	a := near.repository()
	near.until("the last segment to be shipped", func() bool {
		there, err := a.HasName(near.ctx(), n)
		return err == nil && there
	})
	kill()

	fresh := r.fresh("fresh", f)
	fresh.says([]string{"all is well"}, "verify", "--deep")
	dir := filepath.Join(fresh.dir, "data")
	fresh.run("restore", "--target-dir", dir)
	c := fresh.open(dir)
	fresh.opens(c, want)
}
