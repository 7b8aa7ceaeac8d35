// Package cli has what walkeep's programs share towards the person or the server that runs them: exit codes, messages, hints,
// signals and the version.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
)

// Version is walkeep's version; it stands in every object that is stored.
const Version = "0.1.0"

// A Failure is an error that decides the program's exit code.
type Failure struct {
	Code int   // exit code
	Err  error // nil if nothing more is to be printed
	hint string
}

func (f *Failure) Error() string {
	if f.Err == nil {
		return fmt.Sprintf("exit code %d", f.Code)
	}
	return f.Err.Error()
}

func (f *Failure) Unwrap() error { return f.Err }

// Hint returns what the user can do about the failure; empty leaves that to Err.
func (f *Failure) Hint() string { return f.hint }

// Fail makes a Failure. Its hint is printed instead of one that err has; err's is printed where it is empty.
func Fail(code int, err error, hint string) error { return &Failure{code, err, hint} }

// NewerHint is the hint about a version of PostgreSQL that is newer than those that walkeep knows.
const NewerHint = "use a walkeep that knows this version, as soon as there is one"

// Program is one of walkeep's programs.
type Program struct {
	Name string
	// Panic is the exit code for a bug, and for errors that carry no other.
	Panic int
	Run   func(args []string, msg *Messages) error
}

// Main runs the program, which leaves no core, and exits. An error becomes one line on standard error and the exit code of its
// Failure.
func (p Program) Main() {
	growStack()
	// A message to a closed pipe is lost, but the segment must not be.
	signal.Ignore(syscall.SIGPIPE)
	setCalled(p.Name)
	if err := forbidCores(); err != nil {
		(&Messages{program: called, w: os.Stderr}).Warn("", "a core, which would hold keys and plain bytes, cannot be forbidden: %v", err)
	}
	os.Exit(p.call(called, os.Args[1:], os.Stderr))
}

// growStack makes the stack as large as a call of archive-cmd needs it, in one step. It would be made twice as large and be copied four
// times, each time into memory that nothing has used yet.
//
//go:noinline
func growStack() {
	var room [18 << 10]byte
	runtime.KeepAlive(&room)
}

// Call runs the program within this process and returns its exit code. Its messages go to w.
func (p Program) Call(args []string, w io.Writer) int { return p.call(p.Name, args, w) }

func (p Program) call(name string, args []string, w io.Writer) int {
	msg := &Messages{program: name, w: w}
	return p.code(msg, p.run(args, msg))
}

func (p Program) code(msg *Messages, err error) int {
	if err == nil {
		return 0
	}
	var f *Failure
	if !errors.As(err, &f) {
		f = &Failure{Code: p.Panic, Err: err}
	}
	if f.Err != nil {
		msg.print(f.Err.Error())
		msg.hint(Hint(err))
	}
	return f.Code
}

func (p Program) run(args []string, msg *Messages) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = Fail(p.Panic, fmt.Errorf("internal error: %v", v), "this is a bug in walkeep; please report it with what led to it")
		}
	}()
	return p.Run(args, msg)
}

// Context returns a context that ends when a signal asks the program to stop.
func Context() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
}

// PrintVersion prints the output of --version.
func PrintVersion(w io.Writer, program string) error {
	_, err := fmt.Fprintf(w, "%s (walkeep) %s\n", program, Version)
	return err
}

// Messages go to standard error, which is the server's log where the server runs the program: one line each, with the
// program's name.
type Messages struct {
	Verbose bool
	Quiet   bool // errors only
	// Rewrite, unless nil, changes the text of each message, which may quote another program's, before it is printed.
	Rewrite func(string) string

	program string // the prefix of each line; empty for none
	w       io.Writer
}

// NewMessages returns messages that are written to w, without the program's name.
func NewMessages(w io.Writer) *Messages { return &Messages{w: w} }

// Warn prints a warning, with a hint unless that is empty.
func (m *Messages) Warn(hint, format string, args ...any) {
	if !m.Quiet {
		m.print("warning: " + fmt.Sprintf(format, args...))
		m.hint(hint)
	}
}

// Problems warns of faults in the configuration that do not concern this program.
func (m *Messages) Problems(problems []string) {
	const most = 5 // as many as a person wants to read in a log for every segment
	for i, problem := range problems {
		if i == most {
			m.Warn("", "configuration: %d more problems", len(problems)-most)
			return
		}
		m.Warn("", "configuration: %s", problem)
	}
}

// Detail prints a message under --verbose only.
func (m *Messages) Detail(format string, args ...any) {
	if m.Verbose && !m.Quiet {
		m.print(fmt.Sprintf(format, args...))
	}
}

// Next prints what the user can do now that the program has succeeded.
func (m *Messages) Next(hint string) {
	if !m.Quiet {
		m.hint(hint)
	}
}

func (m *Messages) hint(hint string) {
	if hint != "" {
		m.print("hint: " + hint)
	}
}

func (m *Messages) print(text string) {
	if m.Rewrite != nil {
		text = m.Rewrite(text)
	}
	text = OneLine(text)
	if m.program != "" {
		text = m.program + ": " + text
	}
	fmt.Fprintln(m.w, text)
}

// OneLine returns a text without control characters, so that file names and the messages of other programs forge no lines. Errors
// that were joined are separated by semicolons.
func OneLine(text string) string {
	text = strings.ReplaceAll(text, "\n", "; ") // errors that were joined
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
}
