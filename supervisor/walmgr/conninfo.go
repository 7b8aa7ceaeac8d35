package walmgr

import (
	"errors"
	"regexp"
	"strings"

	"walkeep/common/conninfo"
)

// errConninfo reports a conninfo that cannot be parsed. The message does not quote it, because it may contain a
// password.
var errConninfo = errors.New("it cannot be read as libpq's keywords, or as a URL")

// withoutPassword splits a conninfo of libpq into the conninfo without passwords, and the passwords.
func withoutPassword(text string) (clean string, secrets []string, err error) {
	clean, secrets, err = conninfo.Clean(text)
	if err != nil || hasPassword.MatchString(clean) || strings.ContainsFunc(clean, isControl) {
		return "", secrets, errConninfo
	}
	return clean, secrets, nil
}

// hasPassword matches a password parameter. Its match in a result is an error.
var hasPassword = regexp.MustCompile(`(?i)passw(or)?d\s*=`)

// secretForms matches what looks like a password in a command or in an unknown parameter.
var secretForms = regexp.MustCompile(`(?i)((?:passw(?:or)?d|pwd|secret|pgpassword)\s*[=:]\s*)('(?:[^'\\]|\\.)*'|"[^"]*"|[^\s'"&]+)`)

var secretURL = regexp.MustCompile(`(://[^\s:/@]*:)[^\s/]+@`)

// secretNames matches the names of parameters whose values are not shown.
var secretNames = regexp.MustCompile(`(?i)passw(or)?d|pwd|secret`)

const hidden = "***"

// hide replaces the secrets in text, and everything in it that looks like a password.
func hide(text string, secrets []string) string {
	text = secretForms.ReplaceAllString(text, "${1}"+hidden)
	text = secretURL.ReplaceAllString(text, "${1}"+hidden+"@")
	for _, secret := range secrets {
		text = replaceWord(text, secret)
	}
	return text
}

// replaceWord hides a secret unless it is part of a longer word, such as the postgres in /var/lib/postgresql.
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
