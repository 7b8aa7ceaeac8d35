// Testreport reads what `go test -json` writes, shows each package's result and the output of what failed, lists what
// was skipped, and ends with a line that counts. A test that is skipped without being expected to is a failure: a
// check that is missing without notice is worse than none.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// allowed are the tests that may be skipped, with the reason.
var allowed = map[string]string{
	"TestPromtool":         "make test-page runs it",
	"TestBrowser":          "make test-page runs it",
	"TestKeyboard":         "make test-page runs it",
	"TestDistributedStore": "make test-stores runs it",
	"TestCostsIdle":        "WALKEEP_LONG=1 runs it",
	"TestOfWindows":        "make test-windows runs it",
}

// short, the option -short, says that the tests ran with -short: those that take long (cmdtest.Long) may be skipped.
var short = flag.Bool("short", false, "the tests that take long were left out")

// long is what cmdtest.Long says.
const long = "it takes long"

type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

type report struct {
	passed, failed, skipped int
	output                  map[string][]string // of tests and packages that run
	out                     io.Writer
}

func main() {
	flag.Parse()
	r := report{output: make(map[string][]string), out: os.Stdout}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		var e event
		if err := json.Unmarshal(in.Bytes(), &e); err != nil {
			fmt.Fprintln(r.out, in.Text()) // such as a compiler's error
			continue
		}
		r.add(e)
	}
	if err := in.Err(); err != nil {
		fmt.Fprintln(r.out, "testreport:", err)
		r.failed++
	}
	if r.passed == 0 {
		r.failed++ // nothing was tested
	}
	fmt.Fprintf(r.out, "%d passed, %d failed, %d skipped\n", r.passed, r.failed, r.skipped)
	if r.failed > 0 {
		os.Exit(1)
	}
}

func (r *report) add(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output", "build-output":
		r.output[key] = append(r.output[key], e.Output)
		return
	case "pass":
		if e.Test != "" {
			r.passed++
		}
	case "fail", "build-fail":
		r.failed++
		r.show(key)
	case "skip":
		if e.Test != "" {
			r.skip(e, key)
		}
	default:
		return
	}
	if e.Test == "" && (e.Action == "pass" || e.Action == "fail") {
		fmt.Fprintf(r.out, "%-4s %s %.1fs\n", e.Action, e.Package, e.Elapsed)
	}
	delete(r.output, key)
}

func (r *report) show(key string) {
	for _, line := range r.output[key] {
		fmt.Fprint(r.out, line)
	}
}

func (r *report) skip(e event, key string) {
	r.skipped++
	if *short && slices.ContainsFunc(r.output[key], func(line string) bool { return strings.HasSuffix(strings.TrimSpace(line), ": "+long) }) {
		return
	}
	reason, ok := allowed[e.Test]
	if !ok {
		r.failed++
		reason = "NOT ALLOWED"
	}
	why := slices.DeleteFunc(r.output[key], func(line string) bool {
		return strings.HasPrefix(strings.TrimSpace(line), "---") || strings.HasPrefix(line, "===")
	})
	fmt.Fprintf(r.out, "skip %s %s (%s): %s\n", e.Package, e.Test, reason, strings.TrimSpace(strings.Join(why, "")))
}
