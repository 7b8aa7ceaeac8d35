package cmdtest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// Scripts runs each of testdata/script/*.txt (package testscript describes the language) in a directory of its own, with the
// commands that Main has built on the PATH, the module's testdata as $TESTDATA, and none of the tester's own configuration.
//
// The language has one word more: "exits CODE PROGRAM ARGUMENT..." runs a program, which must end with that exit code.
func Scripts(t *testing.T) {
	t.Helper()
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"), UpdateScripts: *update, RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", bin+string(filepath.ListSeparator)+os.Getenv("PATH"))
			e.Setenv("WALKEEP_CONFIG", os.DevNull)
			e.Setenv("TZ", "UTC")
			testdata, err := filepath.Abs(filepath.Join("..", "testdata"))
			e.Setenv("TESTDATA", testdata)
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGUMENT...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		code = exit.ExitCode()
	}
	if code != want {
		ts.Fatalf("got exit code %d, want %d\n%s", code, want, ts.ReadFile("stderr"))
	}
}
