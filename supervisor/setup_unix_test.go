//go:build unix

package main_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"walkeep/common/cmdtest"
)

// setup refuses another user than the server's, because the server could not use what that user makes.
func TestSetupAnotherUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	r := newSetupRig(t, setupMajor, nil)
	before := r.state()
	cmd := exec.CommandContext(r.ctx(), cmdtest.Path("supervisor"), r.args("--config", os.DevNull)...)
	cmdtest.Unprivileged(t, cmd)
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "the server runs as the user") {
		t.Errorf("setup by another user: %v\n%s", err, out)
	}
	r.same(before, "a setup by another user")
}
