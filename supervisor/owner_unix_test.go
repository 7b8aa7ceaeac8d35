//go:build unix

package main_test

import (
	"os"
	"syscall"
	"testing"
)

// owner is whose a file is.
func owner(t *testing.T, file string) (uid, gid int) {
	t.Helper()
	info, err := os.Lstat(file)
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	return int(st.Uid), int(st.Gid)
}
