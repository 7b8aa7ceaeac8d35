//go:build unix

package sealed_test

import (
	"syscall"
	"testing"

	"walkeep/common/sealed"
)

func TestForbidCores(t *testing.T) {
	if err := sealed.ForbidCores(); err != nil {
		t.Fatal(err)
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &limit); err != nil || limit.Cur != 0 || limit.Max != 0 {
		t.Errorf("got %+v, %v", limit, err)
	}
}
