package cmdtest

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// update is the option -update of a package's tests: they write the golden files that they otherwise compare with.
var update = flag.Bool("update", false, "write the golden files, and the outputs in the scripts, as they are now")

// Golden compares output with the golden file of that path. Other programs and people may parse every line of it.
func Golden(t testing.TB, path, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		Write(t, path, []byte(got))
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; -update writes it", err)
	}
	if string(want) != got {
		t.Errorf("%s differs; -update writes it again. Lines that are wanted have -, those that were printed +:\n%s", path, differing(string(want), got))
	}
}

// differing returns the lines that only one of two texts has, or has at another place.
func differing(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	var out strings.Builder
	for _, line := range a {
		out.WriteString("-" + line + "\n")
	}
	for _, line := range b {
		out.WriteString("+" + line + "\n")
	}
	return out.String()
}
