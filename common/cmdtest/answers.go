package cmdtest

import (
	"strings"
	"testing"
)

// Answers runs a command with each of the arguments, which it must answer on standard output with a text that holds
// what is wanted.
func Answers(t *testing.T, command string, want map[string]string) {
	t.Helper()
	for arg, say := range want {
		r := Run(t, Command(command, arg))
		r.Expect(t, 0)
		if !strings.Contains(r.Stdout, say) {
			t.Errorf("%s %s prints %q, which lacks %q", command, arg, r.Stdout, say)
		}
	}
}
