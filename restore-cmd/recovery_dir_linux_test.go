package main_test

import (
	"os"
	"syscall"
	"testing"

	"walkeep/common/pgtest"
)

// clusterDir makes a directory for data directories: in memory if there is plenty, because disks take long to make
// thousands of small files.
func clusterDir(t testing.TB) string {
	t.Helper()
	const memory, plenty = "/dev/shm", 4 << 30
	var st syscall.Statfs_t
	if err := syscall.Statfs(memory, &st); err != nil || st.Bavail*uint64(st.Bsize) < plenty {
		return pgtest.TempDir(t)
	}
	dir, err := os.MkdirTemp(memory, "wk")
	if err != nil {
		return pgtest.TempDir(t)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
