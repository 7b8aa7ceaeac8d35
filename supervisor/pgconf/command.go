package pgconf

import (
	"runtime"
	"strings"

	"walkeep/common/cli"
)

// CommandWord quotes a path for archive_command or restore_command: for the shell, and its percent signs for
// PostgreSQL, which replaces those.
func CommandWord(path string) string {
	return strings.ReplaceAll(cli.Word(path), "%", "%%")
}

// CommandWords is the inverse for all words of a command: it returns the words that the shell passes on, with percent
// signs as PostgreSQL reads them. The bool is false for a command that does more than call a program with constant
// arguments.
func CommandWords(command string) ([]string, bool) {
	var words []string
	var word strings.Builder
	inWord, quote := false, rune(0)
	escaped := false
	windows := runtime.GOOS == "windows"
	for _, r := range command {
		switch {
		case escaped:
			if quote == '"' && !strings.ContainsRune("\\\"$`", r) {
				word.WriteRune('\\')
			}
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'' && !windows:
			escaped, inWord = true, true
		case quote != 0:
			if r == quote {
				quote = 0
			} else if quote == '"' && !windows && (r == '$' || r == '`') {
				return nil, false
			} else {
				word.WriteRune(r)
			}
		case r == '"' || r == '\'' && !windows:
			quote, inWord = r, true
		case r == ' ' || r == '\t':
			if inWord {
				words = append(words, word.String())
			}
			word.Reset()
			inWord = false
		case strings.ContainsRune("|&;<>()$`\n*?[]{}~#!", r):
			return nil, false
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	if quote != 0 || escaped {
		return nil, false
	}
	if inWord {
		words = append(words, word.String())
	}
	for i := range words {
		words[i] = strings.ReplaceAll(words[i], "%%", "%")
	}
	return words, true
}
