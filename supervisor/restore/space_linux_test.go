package restore_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"walkeep/common/cmdtest"
	"walkeep/supervisor/restore"
)

// A file system that is too small is noticed before anything is written. If it fills up meanwhile, the directory
// cannot be started, and a restore with delta completes it.
func TestSpace(t *testing.T) {
	files := cluster()
	r := newRig(t, files)
	onDisk := func(size int) string {
		dir := filepath.Join(cmdtest.SmallDisk(t, size), "data")
		r.must(os.Mkdir(dir, 0o700))
		r.must(os.Chown(dir, 65534, 65534))
		return dir
	}
	o := r.options(onDisk(4 << 20))
	r.fails(restore.ErrSpace, o)
	if entries, err := os.ReadDir(o.Dir); err != nil || len(entries) > 0 {
		t.Errorf("there is %v, %v", entries, err)
	}

	o = r.options(onDisk(32 << 20))
	var free func()
	o.Begin = func(string, int64) { free = cmdtest.FillDisk(t, filepath.Dir(o.Dir), 1<<20) }
	r.fails(syscall.ENOSPC, o)
	r.cannotStart(o.Dir)
	o.Begin, o.Delta = nil, true
	err := r.fails(restore.ErrSpace, o)
	if errors.Is(err, syscall.ENOSPC) {
		t.Error("the full disk is noticed only when it is written to")
	}
	free()
	r.run(o)
	r.check(o.Dir, files)
}
