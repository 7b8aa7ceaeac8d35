package main

import (
	"io"
	"testing"
)

// A skip is a failure, except for one that takes long in a short run.
func TestSkips(t *testing.T) {
	for _, test := range []struct {
		name, why string
		short     bool
		failed    int
	}{
		{"in a full run", "it takes long", false, 1},
		{"in a short run", "it takes long", true, 0},
		{"something is missing, in a short run", "strace cannot be used", true, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			defer func(was bool) { *short = was }(*short)
			*short = test.short
			r := report{output: make(map[string][]string), out: io.Discard}
			r.add(event{Action: "output", Package: "p", Test: "TestX", Output: "    x_test.go:1: " + test.why + "\n"})
			r.add(event{Action: "skip", Package: "p", Test: "TestX"})
			if r.failed != test.failed || r.skipped != 1 {
				t.Errorf("got %d failed and %d skipped, want %d and 1", r.failed, r.skipped, test.failed)
			}
		})
	}
}
