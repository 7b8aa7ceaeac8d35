//go:build linux

package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == reapArgument {
		os.Exit(reapMain())
	}
	os.Exit(m.Run())
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{3}, 3},
		{[]float64{9, 1, 5}, 5},
		{[]float64{4, 1, 3, 2}, 2.5},
	} {
		if got := median(c.values); got != c.want {
			t.Errorf("median(%v) = %v, want %v", c.values, got, c.want)
		}
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("median of nothing = %v, want NaN", got)
	}
}

func TestPercentile(t *testing.T) {
	var values []int
	for i := 100; i > 0; i-- {
		values = append(values, i)
	}
	if got := percentile(values, 0.95); got != 95 {
		t.Errorf("got %d, want 95", got)
	}
	if got := percentile([]int{7}, 0.95); got != 7 {
		t.Errorf("got %d, want 7", got)
	}
}

func TestParseLogLine(t *testing.T) {
	for _, c := range []struct {
		name, line string
		want       logLine
	}{
		{"server", "1795385719.068 LOG:  redo done", logLine{time.UnixMilli(1795385719068), "LOG:  redo done"}},
		{"command", "cp: cannot stat 'x'", logLine{text: "cp: cannot stat 'x'"}},
		{"number", "3.14 is no time", logLine{text: "3.14 is no time"}},
		{"empty", "", logLine{}},
	} {
		if got := parseLogLine(c.line); !got.at.Equal(c.want.at) || got.text != c.want.text {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

func TestTargetVerdicts(t *testing.T) {
	atLeast, atMost, free := target{format: "%.1f x", least: 2}, target{format: "%.1f x", most: 2}, target{format: "%.1f x"}
	for _, c := range []struct {
		target          target
		value           float64
		wanted, verdict string
	}{
		{atLeast, 2, "at least 2.0 x", "reached"},
		{atLeast, 1.9, "at least 2.0 x", "**missed**"},
		{atMost, 2, "at most 2.0 x", "reached"},
		{atMost, 2.1, "at most 2.0 x", "**missed**"},
		{free, 5, "", ""},
	} {
		if wanted, verdict := c.target.judge(c.value); wanted != c.wanted || verdict != c.verdict {
			t.Errorf("%v of %q: got %q, want %q", c.value, c.wanted, verdict, c.verdict)
		}
	}
}

// here is a place without servers, as the user who runs the test.
func here(t *testing.T) *place {
	t.Helper()
	return &place{runs: t.TempDir(), uid: os.Getuid(), gid: os.Getgid()}
}

// burnt is what burn, which is shell code, makes a shell use of CPU itself.
const burnt = 400 * time.Millisecond

var burn = fmt.Sprintf("until read -r stat </proc/$$/stat && set -- $stat && [ $((${14} + ${15})) -ge %d ]; do :; done", burnt/tick)

// leeway is what the start of some processes may use besides.
const leeway = burnt / 2

func TestDetachedProcessesAreCounted(t *testing.T) {
	p := here(t)
	detached, err := p.call(context.Background(), filepath.Join(p.runs, "log"), p.runs, 1, shell("setsid sh -c '"+burn+"' & exit 0"))
	if err != nil {
		t.Fatal(err)
	}
	if got := detached.CPU; (got - burnt).Abs() > leeway {
		t.Errorf("detached: %v of CPU, not about %v", got, burnt)
	}
}

func TestCallsInTurn(t *testing.T) {
	p := here(t)
	log := filepath.Join(p.runs, "log")
	u, err := p.call(context.Background(), log, p.runs, 3, shell("printf a"), shell("printf b"))
	if err != nil {
		t.Fatal(err)
	}
	if got := []int{len(u.Wall), len(u.Wall[0]), len(u.Wall[1])}; !slices.Equal(got, []int{2, 3, 3}) {
		t.Errorf("calls: got %v, want [2 3 3]", got)
	}
	if got, err := os.ReadFile(log); err != nil || string(got) != "ababab" {
		t.Errorf("output: got %q, %v, want %q", got, err, "ababab")
	}
}

func TestFailingCall(t *testing.T) {
	p := here(t)
	u, err := p.call(context.Background(), filepath.Join(p.runs, "log"), p.runs, 1, shell("exit 7"))
	if err == nil || u.Exit != 7 {
		t.Errorf("got exit %d and %v, want 7 and an error", u.Exit, err)
	}
}

func TestEndLeavesNothingBehind(t *testing.T) {
	p := here(t)
	started := filepath.Join(p.runs, "started")
	// It ignores the polite request, and so does what it detaches.
	script := "trap '' QUIT; setsid sh -c \"echo x > " + started + "; sleep 600\" & sleep 600; sleep 600"
	l, err := p.launch(filepath.Join(p.runs, "log"), p.runs, 1, shell(script))
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(started); err == nil {
			break
		}
		if time.Now().After(deadline) {
			l.end()
			t.Fatal("the job did not start")
		}
	}
	start := time.Now()
	l.end()
	if took := time.Since(start); took > 5*time.Minute {
		t.Errorf("took %v, as if it waited for the job", took)
	}
	if l.usage.Killed == 0 {
		t.Error("nothing was killed")
	}
}

func TestCopyTree(t *testing.T) {
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	for name, mode := range map[string]os.FileMode{"linked": 0o600, "sub/copied": 0o640} {
		path := filepath.Join(from, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := copyTree(from, to, func(path string) bool { return path == "linked" }); err != nil {
		t.Fatal(err)
	}
	for name, link := range map[string]bool{"linked": true, "sub/copied": false} {
		original, err := os.Stat(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		other, err := os.Stat(filepath.Join(to, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := os.SameFile(original, other); got != link {
			t.Errorf("%s is a link: got %v, want %v", name, got, link)
		}
		if got, want := other.Mode(), original.Mode(); got != want {
			t.Errorf("%s: mode %v, want %v", name, got, want)
		}
		if content, err := os.ReadFile(filepath.Join(to, name)); err != nil || string(content) != name {
			t.Errorf("%s: content %q, %v", name, content, err)
		}
	}
	if got, err := storedSize(to); err != nil || got != int64(len("linked")+len("sub/copied")) {
		t.Errorf("size: %d, %v", got, err)
	}
}

func TestForeignDirectoryIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "letter"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p := here(t)
	p.dir = dir
	if err := p.claim(); err == nil {
		t.Error("a directory with other files was taken")
	}
}
