package config_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"walkeep/common/config"
)

// What Line writes is read as what it was.
func TestLine(t *testing.T) {
	for _, value := range []string{
		"/srv/wal", "/srv/the server's", `"/srv/wal"`, `/srv/"wal"`, " /srv/wal ", "/srv;wal # x", "[wal]", "a = b", `C:\wal\new`, "/srv/ü\u00a0\u200b", "/srv/\xff\xfe", "/srv/\ttab",
		"/srv/\nline", "\"", `\`, `\"`, "",
	} {
		file := clean(t, config.Line("spool", value)+"\n"+config.Line("stream", "true")+"\n")
		c, keys, err := config.ReadFile(file)
		if err != nil {
			t.Errorf("%q: %v", value, err)
			continue
		}
		if c.Spool != value || !c.Streaming || !keys["spool"] || !keys["stream"] || len(keys) != 2 {
			t.Errorf("%q is read as %q, with the keys %v", value, c.Spool, keys)
		}
		var loaded config.Config
		if err := loaded.Load(file); err != nil || loaded.Spool != value {
			t.Errorf("%q is loaded as %q (%v)", value, loaded.Spool, err)
		}
	}
}

func TestReadFileFails(t *testing.T) {
	for _, content := range []string{"nothing = 1", "spool", "spool = a\nspool = b", "[other]\nspool = a"} {
		if _, _, err := config.ReadFile(clean(t, content)); err == nil {
			t.Errorf("%q was read", content)
		}
	}
	if _, _, err := config.ReadFile(filepath.Join(t.TempDir(), "none")); !os.IsNotExist(err) && err == nil {
		t.Error("a file that is missing was read")
	}
}

// A command that may make the file can do without the one that is named, and no other.
func TestFileMayBeMissing(t *testing.T) {
	clean(t, "")
	missing := filepath.Join(t.TempDir(), "walkeep.ini")
	program := config.Command{Name: "test", Commands: []config.Subcommand{{Name: "makes", NoFile: true}, {Name: "reads"}}}
	if c, _, err := program.ParseCommand([]string{"makes", "--config", missing, "--spool", "/x"}, nil); err != nil || c.Spool != "/x" {
		t.Errorf("got %q, %v", c.Spool, err)
	}
	if _, _, err := program.ParseCommand([]string{"reads", "--config", missing, "--spool", "/x"}, nil); err == nil {
		t.Error("a command that reads the file did without it")
	}
	if runtime.GOOS != "windows" {
		if _, _, err := program.ParseCommand([]string{"makes", "--config", "/dev/null/x", "--spool", "/x"}, nil); err == nil {
			t.Error("a file that cannot be read counts as missing")
		}
	}
}
