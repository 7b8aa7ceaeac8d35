package restore

import (
	"runtime"
	"strings"

	"walkeep/supervisor/pgconf"
)

// Command returns a restore_command that calls restore-cmd for the archive in spool, with this configuration file if
// any, and these further options. All paths are absolute.
func Command(program, spool, file string, options ...string) string {
	words := []string{pgconf.CommandWord(program), "--spool", pgconf.CommandWord(spool)}
	if file != "" {
		words = append(words, "--config", pgconf.CommandWord(file))
	}
	for _, o := range options {
		words = append(words, pgconf.CommandWord(o))
	}
	if runtime.GOOS == "windows" {
		return strings.Join(append(words, "%f", `"%p"`, "%r"), " ")
	}
	// A program that cannot start for lack of memory exits with 2, which PostgreSQL would read as "no such file".
	return strings.Join(append(words, "%f", `"%p"`, "%r"), " ") + " || { c=$?; [ $c = 2 ] && c=126; exit $c; }"
}

// NoteCommand returns the archive_cleanup_command of a standby. It records the standby's restartpoint in the archive,
// also while the standby streams.
func NoteCommand(program, spool, file string) string {
	words := []string{pgconf.CommandWord(program), "--spool", pgconf.CommandWord(spool)}
	if file != "" {
		words = append(words, "--config", pgconf.CommandWord(file))
	}
	return strings.Join(append(words, "--note", "%r"), " ")
}
