package main_test

import (
	"path/filepath"
	"strings"
	"testing"

	"walkeep/common/cmdtest"
)

// A command for people refuses an unknown key, and continues if only another command's value is wrong. check does its work in
// both cases, and reports both.
func TestConfigurationOfOthers(t *testing.T) {
	t.Parallel()
	dir := cmdtest.FastDir(t)
	files := cmdtest.WAL(t, "15")
	name := files.Segments()[0]
	spool, data := cmdtest.NewSpool(t, dir), cmdtest.NewDataDir(t, dir, files.Only(name))
	cmdtest.Run(t, cmdtest.Command("archive-cmd", "--spool", string(spool), "--lookahead=0", data.Path("pg_wal", name))).Expect(t, 0)
	file := filepath.Join(dir, "walkeep.ini")
	call := func(command string) cmdtest.Result {
		return cmdtest.Run(t, cmdtest.Command("supervisor", "-c", file, command))
	}
	cmdtest.Write(t, file, []byte("spool = "+string(spool)+"\nkeep-day = 14\nlookahead = many\n"))
	call("list").Expect(t, 2, "line 2: unknown option: keep-day")
	wantOut(t, call("check"), 2, "CRITICAL", "there is no backup", "line 2: unknown option: keep-day", "line 3: lookahead")
	cmdtest.Write(t, file, []byte("spool = "+string(spool)+"\nlookahead = many\ncodec = rar\n"))
	call("list").Expect(t, 0, "warning: configuration: ", "line 2: lookahead", `unknown codec "rar"`)
	call("backup").Expect(t, 2, `unknown codec "rar"`)
	wantOut(t, call("check"), 2, "line 2: lookahead", `unknown codec "rar"`)
}

// wantOut checks what a command that ends with this code has printed.
func wantOut(t *testing.T, r cmdtest.Result, code int, words ...string) {
	t.Helper()
	if r.Code != code {
		t.Errorf("got exit code %d, want %d\n%s%s", r.Code, code, r.Stdout, r.Stderr)
	}
	for _, word := range words {
		if !strings.Contains(r.Stdout, word) {
			t.Errorf("what is printed lacks %q:\n%s", word, r.Stdout)
		}
	}
}
