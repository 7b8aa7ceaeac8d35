package cmdtest

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// SmallDisk mounts an empty file system of this size for the duration of the test. It skips the test if the user is
// not root.
func SmallDisk(t testing.TB, bytes int) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small disk")
	}
	dir := filepath.Join(Dir(t), "disk")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("walkeep-test", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=755", bytes)); err != nil {
		t.Skipf("cannot mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// FillDisk leaves at most leave bytes free on the disk of dir. The function that it returns frees the rest at once.
//
// The test must not have removed a file from the disk before. A process that a parallel test starts has copies of all open
// files until it executes its program. So the space of a removed file can become free later, after FillDisk has measured.
func FillDisk(t testing.TB, dir string, leave int64) (free func()) {
	t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(dir, "ballast")
	if take := int64(st.Bavail)*st.Bsize - leave; take > 0 {
		if err := os.WriteFile(ballast, make([]byte, take), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		t.Helper()
		if err := os.Truncate(ballast, 0); err != nil { // unlike a removal, it frees the space of an open file
			t.Fatal(err)
		}
	}
}
