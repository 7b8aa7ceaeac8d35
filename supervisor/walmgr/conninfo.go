package walmgr

import (
	"errors"
	"net/url"
	"regexp"
	"strings"
)

// errConninfo says that a conninfo is not understood. What it holds is not told, for there may be a password in it.
var errConninfo = errors.New("it cannot be read as libpq's keywords, or as a URL")

// withoutPassword divides a conninfo of libpq into one that has no password, and the passwords.
func withoutPassword(conninfo string) (clean string, secrets []string, err error) {
	if strings.HasPrefix(conninfo, "postgres://") || strings.HasPrefix(conninfo, "postgresql://") {
		clean, secrets, err = urlWithoutPassword(conninfo)
	} else {
		clean, secrets, err = keywordsWithoutPassword(conninfo)
	}
	if err == nil && (hasPassword.MatchString(clean) || strings.ContainsFunc(clean, isControl)) {
		err = errConninfo
	}
	if err != nil {
		return "", secrets, err
	}
	return clean, secrets, nil
}

// hasPassword is what must not be left.
var hasPassword = regexp.MustCompile(`(?i)passw(or)?d\s*=`)

func isSecret(keyword string) bool {
	return strings.EqualFold(keyword, "password") || strings.EqualFold(keyword, "sslpassword")
}

// keywordsWithoutPassword reads `keyword = value` pairs as conninfo_parse in libpq's fe-connect.c does.
func keywordsWithoutPassword(rest string) (string, []string, error) {
	var kept, secrets []string
	for {
		if rest = strings.TrimLeft(rest, space); rest == "" {
			return strings.Join(kept, " "), secrets, nil
		}
		keyword, after, ok := strings.Cut(rest, "=")
		keyword = strings.TrimRight(keyword, space)
		if !ok || !isKeyword.MatchString(keyword) {
			return "", secrets, errConninfo
		}
		value, after, ok := keywordValue(strings.TrimLeft(after, space))
		if !ok {
			return "", secrets, errConninfo
		}
		rest = after
		if isSecret(keyword) {
			secrets = append(secrets, value)
			continue
		}
		kept = append(kept, keyword+"="+quoteValue(value))
	}
}

var isKeyword = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func keywordValue(text string) (value, after string, ok bool) {
	quoted := strings.HasPrefix(text, "'")
	if quoted {
		text = text[1:]
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text):
			i++
			b.WriteByte(text[i])
		case c == '\\': // libpq drops one at the end
		case quoted && c == '\'':
			return b.String(), text[i+1:], true
		case !quoted && strings.IndexByte(space, c) >= 0:
			return b.String(), text[i:], true
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), "", !quoted
}

func quoteValue(value string) string {
	if value != "" && !strings.ContainsAny(value, space+`'\`) {
		return value
	}
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
}

// urlWithoutPassword cuts by hand, because libpq's URLs can name several hosts, which package url does not know.
func urlWithoutPassword(conninfo string) (string, []string, error) {
	var secrets []string
	scheme, rest, _ := strings.Cut(conninfo, "://")
	signs := 0 // of @ that may be left
	if end := strings.IndexAny(rest, "@/"); end >= 0 && rest[end] == '@' {
		user, password, _ := strings.Cut(rest[:end], ":")
		if password != "" {
			secrets = append(secrets, password, unescape(password))
		}
		if rest = rest[end+1:]; user != "" {
			rest, signs = user+"@"+rest, 1
		}
	}
	if before, query, ok := strings.Cut(rest, "?"); ok {
		var kept []string
		for _, pair := range strings.Split(query, "&") {
			key, value, _ := strings.Cut(pair, "=")
			if isSecret(unescape(key)) {
				secrets = append(secrets, value, unescape(value))
				continue
			}
			kept = append(kept, pair)
		}
		if rest = before; len(kept) > 0 {
			rest += "?" + strings.Join(kept, "&")
		}
	}
	// A password with an unescaped @ or / in it would be left behind, and one of which the @ was forgotten looks like a port.
	before, _, _ := strings.Cut(rest, "?")
	if strings.Count(before, "@") != signs {
		return "", secrets, errConninfo
	}
	hosts, _, _ := strings.Cut(before[strings.Index(before, "@")+1:], "/")
	for host := range strings.SplitSeq(hosts, ",") {
		if !isHost.MatchString(host) {
			return "", secrets, errConninfo
		}
	}
	return scheme + "://" + rest, secrets, nil
}

// isHost matches a host, or an address in brackets, with or without a port.
var isHost = regexp.MustCompile(`^(\[[^\]]*\]|[^:\[\]]*)(:[0-9]*)?$`)

func unescape(text string) string {
	if plain, err := url.PathUnescape(text); err == nil {
		return plain
	}
	return text
}

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
