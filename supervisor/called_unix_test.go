//go:build unix

package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"walkeep/common/cmdtest"
)

// Messages, hints and the help name the program as it was called.
func TestNamedAsCalled(t *testing.T) {
	walkeep := filepath.Join(t.TempDir(), "walkeep")
	if err := os.Symlink(cmdtest.Path("supervisor"), walkeep); err != nil {
		t.Fatal(err)
	}
	cmdtest.Run(t, exec.Command(walkeep, "--bogus")).Expect(t, 2, "walkeep: ", "hint: walkeep --help lists", "walkeep COMMAND --help")
	cmdtest.Run(t, cmdtest.Command("supervisor", "--bogus")).Expect(t, 2, "supervisor: ", "hint: supervisor --help lists")
	if help := cmdtest.Run(t, exec.Command(walkeep, "--help")); !strings.Contains(help.Stdout, "walkeep [OPTIONS]") || strings.Contains(help.Stdout, "supervisor") {
		t.Errorf("the help of walkeep names another program:\n%s", help.Stdout)
	}
}
