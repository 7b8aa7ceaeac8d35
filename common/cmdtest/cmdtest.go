// Package cmdtest runs walkeep's real commands in tests, as PostgreSQL would, and checks their results without
// using their code: it has its own reader of WAL records, and expands stored objects itself.
//
// # Environment variables
//
//   - WALKEEP_FLIPS and WALKEEP_KILLS set how many bits of a segment are changed on the way to archive-cmd, and how often
//     it is killed, instead of 2,500 and 500.
//   - WALKEEP_FAULTS=all lets each system call fail with every error, instead of with one of them and EIO.
//   - WALKEEP_SEED repeats a run of the random tests with the seed that it logged.
//   - WALKEEP_BIN is a directory with commands to be tested instead of freshly built ones, for a system without a Go
//     toolchain.
package cmdtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
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

// bin is the directory of the commands.
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
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as make build sets it
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

// Path returns the path of a command.
func Path(program string) string {
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	return filepath.Join(bin, program)
}

// hangs is the time after which a call counts as hanging. A call that does not wait takes at most some hundred
// milliseconds, but the machine may be slow and busy.
const hangs = 5 * time.Minute

// Command prepares a call of one of walkeep's programs, without the tester's own configuration.
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

// Through makes another program, such as strace, run a call, which it receives as its last arguments.
func Through(cmd *exec.Cmd, program string, args ...string) *exec.Cmd {
	by := exec.Command(program, append(append(args, cmd.Path), cmd.Args[1:]...)...)
	by.Env, by.Dir, by.SysProcAttr = cmd.Env, cmd.Dir, cmd.SysProcAttr
	return by
}

// A Result is the result of a call.
type Result struct {
	Code           int // -1 if a signal ended it
	Signal         syscall.Signal
	Stdout, Stderr string
	Took           time.Duration

	call []string
}

// Run makes a call and waits for its end. It fails the test if the call hangs. Any goroutine may call it.
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

// Inside makes a call of a program within this process, where call runs it. It costs a tenth of a process that only starts,
// so tests that call a program thousands of times make most calls like this.
func Inside(call func(args []string, stderr io.Writer) int, cmd *exec.Cmd) Result {
	var stderr bytes.Buffer
	args := append([]string{"-c", os.DevNull}, cmd.Args[1:]...)
	return Result{Code: call(args, &stderr), Stderr: stderr.String(), call: cmd.Args}
}

// Ended makes the result of a call from the error of its Wait.
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

// Expect checks a call's exit code and its messages. Each line must begin with the program's name. A failure must
// print a message, and a success none, unless words are given, which the messages must contain.
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

// program returns the program whose messages a call prints, which another program may run.
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

// FileURL returns the URL of a repository in a directory.
func FileURL(dir string) string {
	return "file:///" + strings.TrimPrefix(filepath.ToSlash(dir), "/")
}

// FastDir is Dir in memory if the system has such a directory: for tests that make thousands of calls.
func FastDir(t testing.TB) string {
	t.Helper()
	const memory = "/dev/shm"
	if info, err := os.Stat(memory); err == nil && info.IsDir() && runtime.GOOS != "windows" { // under wine the directory for all is in memory
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

// Rand returns a random generator. The log of a failed test contains its seed.
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
