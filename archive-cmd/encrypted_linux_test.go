package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"walkeep/common/cmdtest"
	"walkeep/common/sealed/sealedtest"
)

// The temporary file of a call that is killed before it gets its name has nothing of the segment in plain, which is looked for in blocks
// of 16 bytes.
func TestKilledEncrypted(t *testing.T) {
	cmdtest.NeedStrace(t)
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	names := files.Segments()[:2]
	b := newBench(t, cmdtest.FastDir(t), files.Only(names...))
	options := []string{"--recipients-file", sealedtest.New(t).Recipients, "--codec", "none"}
	b.run(t, names[0], options...).Expect(t, 0)
	// The header is written last, and all else by write alone. With --seccomp-bpf strace sends no signal.
	r := cmdtest.Run(t, cmdtest.Through(archive(b.spool, b.data.Path("pg_wal", names[1]), options...), "strace", "-f", "-qq", "-o", os.DevNull,
		"-e", "trace=pwrite64", "-e", "inject=pwrite64:signal=KILL:when=1"))
	if r.Signal != syscall.SIGKILL {
		t.Fatalf("it was not killed: %+v", r)
	}
	left, err := filepath.Glob(filepath.Join(string(b.spool), "wal", names[1][:16], "."+names[1]+"*"))
	if err != nil || len(left) != 1 {
		t.Fatalf("it left %q, %v", left, err)
	}
	content, err := os.ReadFile(left[0])
	if err != nil {
		t.Fatal(err)
	}
	plain := string(files[names[1]])
	if len(content) < len(plain) {
		t.Errorf("it has %d bytes, so that this test shows nothing", len(content))
	}
	stored := make(map[string]bool)
	for i := range len(content) - 15 {
		stored[string(content[i:i+16])] = true
	}
	for ; len(plain) >= 16; plain = plain[16:] {
		if block := plain[:16]; stored[block] && strings.Trim(block, block[:1]) != "" {
			t.Fatalf("it holds the plain bytes %x", block)
		}
	}
}
