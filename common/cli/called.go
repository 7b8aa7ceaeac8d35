package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
)

// called is the name by which this program was called; Main sets it.
var called = "supervisor"

// setCalled sets the name from the command line, or to program if that has none. walkeep on the PATH is a link to supervisor, which
// may not exist.
func setCalled(program string) {
	called = program
	if len(os.Args) == 0 || os.Args[0] == "" {
		return
	}
	called = strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe")
}

// Called returns the name by which this program was called. Messages and hints use it.
func Called() string { return called }

// Call returns a call of this program, as a person types it into a shell.
func Call(words ...string) string { return Line(append([]string{called}, words...)...) }

// Line returns a command with its arguments, as a person types it into a shell.
func Line(words ...string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = Word(word)
	}
	return strings.Join(quoted, " ")
}

// plainWord matches words that need no quotes in any shell.
var plainWord = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_./:=@,+-]+$`) })

// Word returns a word quoted, so that a shell passes it to a program unchanged.
func Word(word string) string {
	switch {
	case plainWord().MatchString(word):
		return word
	case runtime.GOOS == "windows":
		return `"` + word + `"`
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
