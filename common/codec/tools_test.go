package codec_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/s2"

	"walkeep/common/codec"
)

// tools are what anybody has to expand a stored object with: the arguments to expand and to test it, before the file.
var tools = map[string]struct{ expand, test []string }{
	"zstd": {[]string{"zstd", "-q", "-d", "-c"}, []string{"zstd", "-q", "-t"}},
	"none": {[]string{"zstd", "-q", "-d", "-c"}, []string{"zstd", "-q", "-t"}},
	"lz4":  {[]string{"lz4", "-q", "-d", "-c"}, []string{"lz4", "-q", "-t"}},
	"gzip": {[]string{"gzip", "-d", "-c"}, []string{"gzip", "-t"}},
}

// Nothing is locked in: the tools of every system expand what is stored, without a word about the trailer.
func TestOrdinaryTools(t *testing.T) {
	plains := samples()
	for name, tool := range tools {
		t.Run(name, func(t *testing.T) {
			if _, err := exec.LookPath(tool.expand[0]); err != nil {
				t.Skip(err)
			}
			for _, kind := range []string{"text of 1", fmt.Sprintf("text of %d", codec.ChunkSize), fmt.Sprintf("text of %d", codec.ChunkSize+1), "text", "random", "zero"} {
				object, _ := pack(t, name, 0, plains[kind])
				file := filepath.Join(t.TempDir(), "000000010000000A000000FE"+byName(t, name).Ext())
				if err := os.WriteFile(file, object, 0o600); err != nil {
					t.Fatal(err)
				}
				if got := run(t, tool.expand, file); !bytes.Equal(got, plains[kind]) {
					t.Errorf("%s: %v gives %d other bytes, want %d", kind, tool.expand, len(got), len(plains[kind]))
				}
				run(t, tool.test, file)
			}
		})
	}
}

// run runs a tool, which must succeed without a warning, and gives its output.
func run(t *testing.T, command []string, file string) []byte {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(command[0], append(command[1:], file)...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil || errs.Len() > 0 {
		t.Errorf("%v: %v, %s", cmd.Args, err, errs.Bytes())
	}
	return out.Bytes()
}

// The tool for s2 is its library's; it reads with default limits, and past the trailer.
func TestOrdinaryS2(t *testing.T) {
	for kind, plain := range samples() {
		if len(plain) == 0 {
			continue
		}
		object, _ := pack(t, "s2", 0, plain)
		got, err := io.ReadAll(s2.NewReader(bytes.NewReader(object)))
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s: got %d bytes, %v, want %d", kind, len(got), err, len(plain))
		}
	}
}
