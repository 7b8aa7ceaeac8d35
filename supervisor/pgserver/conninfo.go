package pgserver

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
)

// A Conninfo is what libpq's keywords, a URL and the environment say about a connection. A keyword that comes later counts.
type Conninfo []Keyword

// A Keyword is one of a Conninfo.
type Keyword struct{ Name, Value string }

// EnvironmentConninfo is what the PG* variables say, of what a service has to know, which is started without them.
func EnvironmentConninfo() Conninfo {
	return slices.DeleteFunc(environment(os.Getenv).conninfo(), func(k Keyword) bool {
		return slices.Contains(unrecorded, k.Name) || slices.Contains(secrets, k.Name)
	})
}

// ParseConninfo reads keywords or a URL.
func ParseConninfo(text string) (Conninfo, error) {
	if strings.HasPrefix(text, "postgres://") || strings.HasPrefix(text, "postgresql://") {
		return parseURL(text)
	}
	return parseKeywords(text)
}

const space = " \t\n\r\v\f"

func parseKeywords(text string) (Conninfo, error) {
	var c Conninfo
	for text = strings.TrimLeft(text, space); text != ""; text = strings.TrimLeft(text, space) {
		name, rest, ok := strings.Cut(text, "=")
		if name = strings.Trim(name, space); !ok || name == "" || strings.ContainsAny(name, space) {
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

func parseURL(text string) (Conninfo, error) {
	// Several hosts are more than what net/url reads.
	scheme, rest, _ := strings.Cut(text, "://")
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	at := strings.LastIndexByte(rest[:end], '@') + 1
	u, err := url.Parse(scheme + "://" + rest[:at] + "host" + rest[end:])
	if err != nil {
		return nil, errors.New("conninfo is not a valid URL") // the error would show a password
	}
	var c Conninfo
	var hosts, ports []string
	for host := range strings.SplitSeq(rest[at:end], ",") {
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

// With is c with a keyword that counts instead of what it says itself.
func (c Conninfo) With(name, value string) Conninfo {
	c = slices.DeleteFunc(slices.Clone(c), func(k Keyword) bool { return k.Name == name })
	return append(c, Keyword{name, value})
}

// WithoutPasswords leaves out what is secret, and reports whether there was something.
func (c Conninfo) WithoutPasswords() (Conninfo, bool) {
	kept := slices.DeleteFunc(slices.Clone(c), func(k Keyword) bool { return slices.Contains(secrets, k.Name) })
	return kept, len(kept) < len(c)
}

// String writes keywords, each at most once.
func (c Conninfo) String() string {
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

// value is what counts of a keyword; false if it is not there.
func (c Conninfo) value(name string) (string, bool) {
	for _, k := range slices.Backward(c) {
		if k.Name == name {
			return k.Value, true
		}
	}
	return "", false
}

// HasPassword reports whether a conninfo, as keywords or as a URL, holds a password or another secret.
func HasPassword(conninfo string) bool {
	c, err := ParseConninfo(conninfo)
	if err != nil {
		return strings.Contains(conninfo, "password") || strings.Contains(conninfo, "://")
	}
	_, has := c.WithoutPasswords()
	return has
}

// CheckPrimary refuses what cannot be a standby's primary_conninfo, or holds a secret, which would be written into its
// configuration. Whether it leads anywhere is not tried.
func CheckPrimary(conninfo string) error {
	c, err := ParseConninfo(conninfo)
	if err != nil {
		return err
	}
	if _, secret := c.WithoutPasswords(); secret {
		return ErrSecret
	}
	if strings.ContainsAny(conninfo, "\n\r\x00") {
		return errors.New("a conninfo is one line")
	}
	return nil
}

// WithApplication adds an application_name to a conninfo that has none.
func WithApplication(conninfo, name string) string {
	c, err := ParseConninfo(conninfo)
	if own, _ := c.value("application_name"); err != nil || own != "" {
		return conninfo
	}
	return c.With("application_name", name).String()
}
