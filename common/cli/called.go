package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
)

// called is the name by which this program was called, once Main has seen it.
var called = "supervisor"

// setCalled takes the name from the command line. walkeep on the PATH is a link to supervisor, which may not be there.
func setCalled(program string) {
	called = program
	if len(os.Args) == 0 || os.Args[0] == "" {
		return
	}
	called = strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe")
}

// Called is the name by which this program was called, which is how messages and hints name it.
func Called() string { return called }

// Call is a call of this program, as a person types it into a shell.
func Call(words ...string) string { return Line(append([]string{called}, words...)...) }

// Line is a command with its arguments, as a person types it into a shell.
func Line(words ...string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = Word(word)
	}
	return strings.Join(quoted, " ")
}

// plainWord matches what means itself to every shell.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:=@,+-]+$`)

// Word quotes a word, so that a shell gives it to a program as it is.
func Word(word string) string {
	switch {
	case plainWord.MatchString(word):
		return word
	case runtime.GOOS == "windows":
		return `"` + word + `"`
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
