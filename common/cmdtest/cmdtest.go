// Package cmdtest runs walkeep's real commands in tests, as PostgreSQL would, and judges what they leave behind without
// their code: it reads WAL records and expands stored objects by itself.
//
// # Environment variables
//
//   - WALKEEP_FLIPS and WALKEEP_KILLS say how many bits of a segment are changed on the way to archive-cmd, and how often
//     it is killed, instead of 2,500 and 500.
//   - WALKEEP_SEED repeats a run of the random tests with the seed that it logged.
//   - WALKEEP_BIN is a directory with commands to be tested instead of freshly built ones, for a system without a Go
//     toolchain.
package cmdtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// bin holds the commands.
var bin string

// Main is the body of TestMain: it builds the two commands, and other programs that are named, runs the tests and returns
// their exit code.
func Main(m *testing.M, programs ...string) int {
	if bin = os.Getenv("WALKEEP_BIN"); bin != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "walkeep-bin")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	bin = dir
	args := []string{"build", "-o", dir + string(filepath.Separator)}
	for _, program := range append([]string{"archive-cmd", "restore-cmd"}, programs...) {
		args = append(args, "walkeep/"+program)
	}
	build := exec.Command("go", args...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as make build has it
	out, err := build.CombinedOutput()
	if err == nil {
		err = os.Chmod(dir, 0o755) // unprivileged users run them, too
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "build the commands: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// Path is where a command is.
func Path(program string) string {
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	return filepath.Join(bin, program)
}

// hangs is when a call counts as hanging. None takes more than some hundred milliseconds, unless it waits, but the machine may be
// slow and busy.
const hangs = 5 * time.Minute

// Command prepares a call of one of walkeep's programs, with none of the tester's own configuration.
func Command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(Path(program), args...)
	cmd.Env = append(environment(), "WALKEEP_CONFIG="+os.DevNull)
	return cmd
}

func environment() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "WALKEEP_") && !strings.HasPrefix(v, "GOMAXPROCS=") && !strings.HasPrefix(v, "GOTRACEBACK=") {
			env = append(env, v)
		}
	}
	return env
}

// Through has a call made by another program, such as strace, which is given the call as its last arguments.
func Through(cmd *exec.Cmd, program string, args ...string) *exec.Cmd {
	by := exec.Command(program, append(append(args, cmd.Path), cmd.Args[1:]...)...)
	by.Env, by.Dir, by.SysProcAttr = cmd.Env, cmd.Dir, cmd.SysProcAttr
	return by
}

// A Result is how a call ended.
type Result struct {
	Code           int // -1 if a signal ended it
	Signal         syscall.Signal
	Stdout, Stderr string
	Took           time.Duration

	call []string
}

// Run makes a call and waits for its end. A call that hangs fails the test. It may be called by any goroutine.
func Run(t testing.TB, cmd *exec.Cmd) Result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &stdout
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &stderr
	}
	ctx, cancel := context.WithTimeout(t.Context(), hangs)
	defer cancel()
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		t.Errorf("start %s: %v", cmd.Args, err)
		return Result{Code: -1, call: cmd.Args}
	}
	stop := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	err := cmd.Wait()
	if !stop() {
		t.Errorf("%s hangs", cmd.Args)
	}
	r := Ended(cmd, err)
	r.Stdout, r.Stderr, r.Took = stdout.String(), stderr.String(), time.Since(begin)
	return r
}

// Ended reads the result of a call out of what its Wait returned.
func Ended(cmd *exec.Cmd, err error) Result {
	r := Result{call: cmd.Args}
	var exit *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit):
		r.Code = exit.ExitCode()
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			r.Signal = status.Signal()
		}
	default:
		r.Code = -1
	}
	return r
}

// Expect checks a call's exit code and its messages: each line begins with the program's name; a failure says why, and
// a success says nothing, unless words are given that must be among what is said.
func (r Result) Expect(t testing.TB, code int, words ...string) {
	t.Helper()
	if r.Code != code || r.Signal != 0 {
		t.Errorf("%s: got exit code %d, signal %d, want %d\n%s", r.call, r.Code, r.Signal, code, r.Stderr)
		return
	}
	program := program(r.call)
	for line := range strings.Lines(r.Stderr) {
		if !strings.HasPrefix(line, program+": ") {
			t.Errorf("%s: message without the program's name: %q", r.call, line)
		}
	}
	for _, word := range words {
		if !strings.Contains(r.Stderr, word) {
			t.Errorf("%s: messages lack %q:\n%s", r.call, word, r.Stderr)
		}
	}
	if said := r.Stderr != ""; len(words) == 0 && said != (code != 0) {
		t.Errorf("%s: exit code %d with the messages %q", r.call, code, r.Stderr)
	}
}

// program is whose messages a call prints, which another program may have made.
func program(call []string) string {
	for _, arg := range call {
		if base := strings.TrimSuffix(filepath.Base(arg), ".exe"); base == "archive-cmd" || base == "restore-cmd" {
			return base
		}
	}
	return filepath.Base(call[0])
}

// Dir makes a temporary directory that unprivileged users can reach, unlike testing's.
func Dir(t testing.TB) string {
	t.Helper()
	return tempDir(t, "")
}

// FastDir is Dir in memory where the system has such a place: for tests that make thousands of calls.
func FastDir(t testing.TB) string {
	t.Helper()
	const memory = "/dev/shm"
	if info, err := os.Stat(memory); err == nil && info.IsDir() {
		return tempDir(t, memory)
	}
	return tempDir(t, "")
}

func tempDir(t testing.TB, in string) string {
	t.Helper()
	dir, err := os.MkdirTemp(in, "walkeep-test")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Rand gives random numbers whose seed is in the log of a test that fails.
func Rand(t testing.TB) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv("WALKEEP_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("WALKEEP_SEED: %v", err)
		}
	}
	t.Logf("WALKEEP_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// Write makes a file that everyone may read.
func Write(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}
