package cmdtest

import "testing"

// Long skips a test in a short run (go test -short), because it takes long and others prove nearly as much. The full
// run includes it. CONTRIBUTING.md lists these tests, with what only they prove.
func Long(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("it takes long")
	}
}
