package walmgr

import (
	"errors"
	"regexp"
	"strings"

	"walkeep/common/conninfo"
)

// errConninfo says that a conninfo is not understood. What it holds is not told, for there may be a password in it.
var errConninfo = errors.New("it cannot be read as libpq's keywords, or as a URL")

// withoutPassword divides a conninfo of libpq into one that has no password, and the passwords.
func withoutPassword(text string) (clean string, secrets []string, err error) {
	clean, secrets, err = conninfo.Clean(text)
	if err != nil || hasPassword.MatchString(clean) || strings.ContainsFunc(clean, isControl) {
		return "", secrets, errConninfo
	}
	return clean, secrets, nil
}

// hasPassword is what must not be left.
var hasPassword = regexp.MustCompile(`(?i)passw(or)?d\s*=`)

// What looks like a password in a command or in a parameter that is not known.
var secretForms = regexp.MustCompile(`(?i)((?:passw(?:or)?d|pwd|secret|pgpassword)\s*[=:]\s*)('(?:[^'\\]|\\.)*'|"[^"]*"|[^\s'"&]+)`)

var secretURL = regexp.MustCompile(`(://[^\s:/@]*:)[^\s/]+@`)

// secretNames are those of parameters whose values are not shown.
var secretNames = regexp.MustCompile(`(?i)passw(or)?d|pwd|secret`)

const hidden = "***"

// hide replaces what is a password, or looks like one.
func hide(text string, secrets []string) string {
	text = secretForms.ReplaceAllString(text, "${1}"+hidden)
	text = secretURL.ReplaceAllString(text, "${1}"+hidden+"@")
	for _, secret := range secrets {
		text = replaceWord(text, secret)
	}
	return text
}

// replaceWord hides a secret where it is no part of a longer word, such as the postgres in /var/lib/postgresql.
func replaceWord(text, secret string) string {
	if secret == "" {
		return text
	}
	var b strings.Builder
	for {
		i := strings.Index(text, secret)
		if i < 0 {
			b.WriteString(text)
			return b.String()
		}
		end := i + len(secret)
		if i > 0 && isWord(text[i-1]) || end < len(text) && isWord(text[end]) {
			b.WriteString(text[:i+1])
			text = text[i+1:]
			continue
		}
		b.WriteString(text[:i] + hidden)
		text = text[end:]
	}
}

func isWord(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z'
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }
