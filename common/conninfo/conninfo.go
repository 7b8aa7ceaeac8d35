// Package conninfo reads and writes what says how to connect to a server, as PostgreSQL's client library libpq does: keywords,
// URLs, the PG* variables and service files. It connects to nothing.
package conninfo

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
)

// An Info is a connection's parameters, from libpq's keywords, a URL and the environment. A later keyword overrides an
// earlier one.
type Info []Keyword

// A Keyword is one of an Info.
type Keyword struct{ Name, Value string }

// FromEnvironment returns the parameters in the PG* variables that a service, which is started without these variables,
// has to know.
func FromEnvironment() Info {
	return slices.DeleteFunc(Environment(os.Getenv).info(), func(k Keyword) bool {
		return slices.Contains(unrecorded, k.Name) || isSecret(k.Name)
	})
}

// Parse reads keywords or a URL.
func Parse(text string) (Info, error) {
	if isURL(text) {
		return parseURL(text)
	}
	return parseKeywords(text)
}

func isURL(text string) bool {
	return strings.HasPrefix(text, "postgres://") || strings.HasPrefix(text, "postgresql://")
}

// ErrSecret says that a conninfo holds a secret where it must not.
var ErrSecret = errors.New("it holds a password")

const space = " \t\n\r\v\f"

var isKeyword = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func parseKeywords(text string) (Info, error) {
	var c Info
	for text = strings.TrimLeft(text, space); text != ""; text = strings.TrimLeft(text, space) {
		name, rest, ok := strings.Cut(text, "=")
		if name = strings.Trim(name, space); !ok || !isKeyword.MatchString(name) {
			return nil, errors.New("conninfo is not made of keyword=value pairs")
		}
		value, rest, err := readValue(strings.TrimLeft(rest, space))
		if err != nil {
			return nil, err
		}
		c, text = append(c, Keyword{name, value}), rest
	}
	return c, nil
}

// readValue reads a value, which may be quoted, and gives what comes behind it.
func readValue(text string) (value, rest string, err error) {
	text, quoted := strings.CutPrefix(text, "'")
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\':
			if i++; i < len(text) {
				b.WriteByte(text[i])
			}
		case quoted && c == '\'':
			return b.String(), text[i+1:], nil
		case !quoted && strings.IndexByte(space, c) >= 0:
			return b.String(), text[i:], nil
		default:
			b.WriteByte(c)
		}
	}
	if quoted {
		return "", "", errors.New("conninfo has a quote that is not closed")
	}
	return b.String(), "", nil
}

// cutURL divides a URL into what comes before its hosts, its hosts, and what follows them. Several hosts are more than what
// net/url reads.
func cutURL(text string) (before, hosts, after string) {
	scheme, rest, _ := strings.Cut(text, "://")
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	at := strings.LastIndexByte(rest[:end], '@') + 1
	return scheme + "://" + rest[:at], rest[at:end], rest[end:]
}

func parseURL(text string) (Info, error) {
	before, list, after := cutURL(text)
	u, err := url.Parse(before + "host" + after)
	if err != nil {
		return nil, errors.New("conninfo is not a valid URL") // the error would show a password
	}
	var c Info
	var hosts, ports []string
	for host := range strings.SplitSeq(list, ",") {
		h, p, err := net.SplitHostPort(host)
		if err != nil {
			h, p = strings.Trim(host, "[]"), ""
		}
		if strings.Trim(p, "0123456789") != "" {
			return nil, errors.New("conninfo has a port that is no number (in a URL, the signs : / @ ? # of a password are written as %3A %2F %40 %3F %23)")
		}
		if h, err = url.PathUnescape(h); err != nil {
			return nil, errors.New("conninfo is not a valid URL")
		}
		hosts, ports = append(hosts, h), append(ports, p)
	}
	add := func(name, value string) {
		if strings.Trim(value, ",") != "" {
			c = append(c, Keyword{name, value})
		}
	}
	add("host", strings.Join(hosts, ","))
	if slices.ContainsFunc(ports, func(p string) bool { return p != "" }) {
		for i := range ports {
			if ports[i] == "" {
				ports[i] = "5432"
			}
		}
		add("port", strings.Join(ports, ","))
	}
	add("user", u.User.Username())
	if password, ok := u.User.Password(); ok {
		add("password", password)
	}
	add("dbname", strings.TrimPrefix(u.Path, "/"))
	query := u.Query()
	names := make([]string, 0, len(query))
	for name := range query {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if name == "ssl" && query.Get(name) == "true" { // as JDBC has it
			add("sslmode", "require")
			continue
		}
		c = append(c, Keyword{name, query.Get(name)})
	}
	return c, nil
}

// With returns c with a keyword set to a value.
func (c Info) With(name, value string) Info {
	c = slices.DeleteFunc(slices.Clone(c), func(k Keyword) bool { return k.Name == name })
	return append(c, Keyword{name, value})
}

// WithoutPasswords leaves out what is secret, and reports whether there was something.
func (c Info) WithoutPasswords() (Info, bool) {
	kept := slices.DeleteFunc(slices.Clone(c), func(k Keyword) bool { return isSecret(k.Name) })
	return kept, len(kept) < len(c)
}

// Clean divides a conninfo into one in the same form without passwords and other secrets, and those, both as they are written and
// as they are meant. A URL in which a password is not written as URLs want it is an error: what is left of it could hold a part
// of the password.
func Clean(text string) (clean string, secrets []string, err error) {
	c, err := Parse(text)
	if err != nil {
		return "", nil, err
	}
	for _, k := range c {
		if isSecret(k.Name) {
			secrets = append(secrets, k.Value)
		}
	}
	if !isURL(text) {
		kept, _ := c.WithoutPasswords()
		return kept.String(), secrets, nil
	}
	before, hosts, after := cutURL(text)
	scheme, login, _ := strings.Cut(before, "://")
	user, written, _ := strings.Cut(strings.TrimSuffix(login, "@"), ":")
	if strings.Contains(written, "@") {
		return "", secrets, errors.New("conninfo has a password with an @, which in a URL is written as %40")
	}
	if user != "" {
		user += "@"
	}
	secrets = append(secrets, written)
	after, query, _ := strings.Cut(after, "?")
	var kept []string
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if plain, err := url.QueryUnescape(name); err != nil || isSecret(plain) {
			secrets = append(secrets, value)
		} else if pair != "" {
			kept = append(kept, pair)
		}
	}
	if query = strings.Join(kept, "&"); query != "" {
		query = "?" + query
	}
	return scheme + "://" + user + hosts + after + query, slices.DeleteFunc(secrets, func(s string) bool { return s == "" }), nil
}

// String writes keywords, each at most once.
func (c Info) String() string {
	var words []string
	for i, k := range c {
		if slices.ContainsFunc(c[i+1:], func(later Keyword) bool { return later.Name == k.Name }) {
			continue
		}
		value := k.Value
		if value == "" || strings.ContainsAny(value, space+`'\`) {
			value = "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
		}
		words = append(words, fmt.Sprintf("%s=%s", k.Name, value))
	}
	return strings.Join(words, " ")
}

// Value returns a keyword's value; false if the keyword is not there.
func (c Info) Value(name string) (string, bool) {
	for _, k := range slices.Backward(c) {
		if k.Name == name {
			return k.Value, true
		}
	}
	return "", false
}

// HasPassword reports whether a conninfo, as keywords or as a URL, holds a password or another secret.
func HasPassword(text string) bool {
	c, err := Parse(text)
	if err != nil {
		return strings.Contains(text, "password") || strings.Contains(text, "://")
	}
	_, has := c.WithoutPasswords()
	return has
}

// CheckPrimary returns an error for a text that cannot be a standby's primary_conninfo, or that holds a secret, which
// would be written into the standby's configuration. It connects to nothing.
func CheckPrimary(text string) error {
	c, err := Parse(text)
	if err != nil {
		return err
	}
	if _, secret := c.WithoutPasswords(); secret {
		return ErrSecret
	}
	if strings.ContainsAny(text, "\n\r\x00") {
		return errors.New("a conninfo is one line")
	}
	return nil
}

// WithApplication adds an application_name to a conninfo that has none.
func WithApplication(text, name string) string {
	c, err := Parse(text)
	if own, _ := c.Value("application_name"); err != nil || own != "" {
		return text
	}
	return c.With("application_name", name).String()
}
