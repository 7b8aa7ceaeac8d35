package restore

import (
	"runtime"
	"strings"

	"walkeep/supervisor/pgconf"
)

// Command is a restore_command that calls restore-cmd for the archive in spool, with this configuration file if any. All
// three are absolute paths.
func Command(program, spool, file string) string {
	words := []string{pgconf.CommandWord(program), "--spool", pgconf.CommandWord(spool)}
	if file != "" {
		words = append(words, "--config", pgconf.CommandWord(file))
	}
	if runtime.GOOS == "windows" {
		return strings.Join(append(words, "%f", `"%p"`, "%r"), " ")
	}
	// A program that the system gives no memory to start with ends with 2, which PostgreSQL takes for "no such file".
	return strings.Join(append(words, "%f", `"%p"`, "%r"), " ") + " || { c=$?; [ $c = 2 ] && c=126; exit $c; }"
}

// NoteCommand is the archive_cleanup_command of a standby, by which the archive hears how far it has come although it streams.
func NoteCommand(program, spool, file string) string {
	words := []string{pgconf.CommandWord(program), "--spool", pgconf.CommandWord(spool)}
	if file != "" {
		words = append(words, "--config", pgconf.CommandWord(file))
	}
	return strings.Join(append(words, "--note", "%r"), " ")
}
