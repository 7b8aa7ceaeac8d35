package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"walkeep/supervisor/progress"
	"walkeep/supervisor/retain"
)

// printJSON prints a value as indented JSON.
func (call *invocation) printJSON(v any) error {
	out := json.NewEncoder(call.out)
	out.SetIndent("", "  ")
	out.SetEscapeHTML(false)
	return out.Encode(v)
}

// bar returns a progress bar for a total of bytes, or nil, which shows nothing, where only errors are wanted.
func (call *invocation) bar(what string, bytes int64) *progress.Bar {
	if call.Quiet {
		return nil
	}
	return progress.New(os.Stderr, what, bytes)
}

// inputTime is a form of times that --target-time reads and that holds in every zone.
const inputTime = "2006-01-02 15:04:05.999999-07:00"

// took returns a duration as it is printed.
func took(d time.Duration) time.Duration { return d.Round(100 * time.Millisecond) }

// count returns a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// amount returns the number of objects and their size.
func amount(s retain.Sum) string { return count(s.Objects, "object") + ", " + progress.Bytes(s.Bytes) }
