package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"walkeep/common/cmdtest"
	"walkeep/common/pgtest"
)

// No program of walkeep can leave a core: Linux gives such a process's files in /proc to root. It is looked at while it waits for its
// configuration.
func TestNoCores(t *testing.T) {
	r := newShortRig(t, restoreMajor)
	for _, test := range []struct {
		program string
		dumps   bool
		args    []string
	}{
		{"/bin/cat", true, nil},
		{cmdtest.Path("archive-cmd"), false, []string{"pg_wal/000000010000000000000001", "-c"}},
		{cmdtest.Path("restore-cmd"), false, []string{"000000010000000000000001", "pg_wal/RECOVERYXLOG", "-c"}},
		{cmdtest.Path("supervisor"), false, []string{"list", "-c"}},
	} {
		t.Run(filepath.Base(test.program), func(t *testing.T) {
			r := r.in(t)
			file := filepath.Join(r.dir, filepath.Base(test.program)+".ini")
			r.must(pgtest.Command(r.ctx(), "mkfifo", "-m", "600", file).Run())
			cmd := pgtest.Command(r.ctx(), test.program, append(test.args, file)...)
			r.must(cmd.Start())
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			writer := -1
			r.until("the program to read its configuration", func() bool {
				select {
				case err := <-ended:
					t.Fatalf("it has ended: %v", err)
				default:
				}
				var err error
				writer, err = syscall.Open(file, syscall.O_WRONLY|syscall.O_NONBLOCK, 0)
				return err == nil
			})
			info, err := os.Stat(fmt.Sprintf("/proc/%d/environ", cmd.Process.Pid))
			syscall.Close(writer)
			r.must(err)
			if owner := info.Sys().(*syscall.Stat_t).Uid; (owner != 0) != test.dumps {
				t.Errorf("/proc of %s belongs to user %d", test.program, owner)
			}
			<-ended
		})
	}
}
