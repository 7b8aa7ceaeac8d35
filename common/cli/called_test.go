package cli_test

import (
	"os/exec"
	"runtime"
	"testing"

	"walkeep/common/cli"
)

// A shell gives the words of a printed command to the program as they were.
func TestLineIsQuotedForShell(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("needs a shell")
	}
	words := []string{"plain", "two words", "the server's", `"quoted"`, "$HOME `x` \\ !", "a;b|c&d", "~/x", "*", "", "-x", "ü", "a\nb"}
	out, err := exec.Command("sh", "-c", cli.Line(append([]string{"printf", "<%s>"}, words...)...)).Output()
	if err != nil {
		t.Fatal(err)
	}
	want := ""
	for _, word := range words {
		want += "<" + word + ">"
	}
	if string(out) != want {
		t.Errorf("the shell gives %q, want %q", out, want)
	}
}
