package restore

import (
	"regexp"
	"runtime"
	"strings"
)

// Command is a restore_command that calls restore-cmd for the archive in spool, with this configuration file if any. All
// three are absolute paths.
func Command(program, spool, file string) string {
	words := []string{shellWord(program), "--spool", shellWord(spool)}
	if file != "" {
		words = append(words, "--config", shellWord(file))
	}
	if runtime.GOOS == "windows" {
		return strings.Join(append(words, "%f", `"%p"`, "%r"), " ")
	}
	// A program that the system gives no memory to start with ends with 2, which PostgreSQL takes for "no such file".
	return strings.Join(append(words, "%f", `"%p"`, "%r"), " ") + " || { c=$?; [ $c = 2 ] && c=126; exit $c; }"
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:=@,+-]+$`)

// shellWord quotes a path for the shell, and its percent signs for PostgreSQL, which replaces those.
func shellWord(path string) string {
	if !plainWord.MatchString(path) {
		if runtime.GOOS == "windows" {
			path = `"` + path + `"`
		} else {
			path = "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
		}
	}
	return strings.ReplaceAll(path, "%", "%%")
}
