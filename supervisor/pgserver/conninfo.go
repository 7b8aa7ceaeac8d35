package pgserver

import (
	"fmt"
	"net/url"
	"strings"
)

// keywords reads the names and values of a conninfo, as keywords or as a URL. It reads as libpq does (conninfo_parse and
// conninfo_uri_parse_options in fe-connect.c), but knows nothing of what the names mean.
func keywords(conninfo string) (map[string]string, error) {
	if isURL(conninfo) {
		return urlKeywords(conninfo)
	}
	found := make(map[string]string)
	for rest := strings.TrimLeft(conninfo, space); rest != ""; rest = strings.TrimLeft(rest, space) {
		name, value, ok := strings.Cut(rest, "=")
		name = strings.TrimRight(name, space)
		if !ok || name == "" || strings.ContainsAny(name, space) {
			return nil, fmt.Errorf("a conninfo is keyword=value, with spaces between them, or a URL")
		}
		value, rest, ok = cutValue(strings.TrimLeft(value, space))
		if !ok {
			return nil, fmt.Errorf("a conninfo has a quote that does not end")
		}
		found[name] = value
	}
	return found, nil
}

const space = " \t\r\n\v\f"

// cutValue takes a value off the beginning of a text.
func cutValue(text string) (value, rest string, ok bool) {
	quoted := strings.HasPrefix(text, "'")
	var b strings.Builder
	for i := len(text) - len(strings.TrimPrefix(text, "'")); i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text):
			i++
			b.WriteByte(text[i])
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

func isURL(conninfo string) bool {
	return strings.HasPrefix(conninfo, "postgres://") || strings.HasPrefix(conninfo, "postgresql://")
}

// urlKeywords finds the password and the parameters of a URL. What names hosts, which may be several, is passed over.
func urlKeywords(conninfo string) (map[string]string, error) {
	_, rest, _ := strings.Cut(conninfo, "://")
	place, query, _ := strings.Cut(rest, "?")
	place, _, _ = strings.Cut(place, "/")
	found := make(map[string]string)
	if user, _, ok := strings.Cut(place, "@"); ok {
		if _, password, ok := strings.Cut(user, ":"); ok {
			found["password"] = password
		}
	}
	parameters, err := url.ParseQuery(query)
	if err != nil {
		return nil, fmt.Errorf("the parameters of a conninfo cannot be read")
	}
	for name := range parameters {
		found[name] = parameters.Get(name)
	}
	return found, nil
}

// CheckPrimary refuses what cannot be a standby's primary_conninfo, or holds a secret, which would be written into its
// configuration. Whether it leads anywhere is not tried.
func CheckPrimary(conninfo string) error {
	found, err := keywords(conninfo)
	if err != nil {
		return err
	}
	for _, secret := range []string{"password", "sslpassword"} {
		if _, there := found[secret]; there {
			return fmt.Errorf("%w (%s)", ErrSecret, secret)
		}
	}
	if strings.ContainsAny(conninfo, "\n\r\x00") {
		return fmt.Errorf("a conninfo is one line")
	}
	return nil
}

// WithApplication adds an application_name to a conninfo that has none.
func WithApplication(conninfo, name string) string {
	if found, err := keywords(conninfo); err != nil || found["application_name"] != "" {
		return conninfo
	}
	if !isURL(conninfo) {
		return strings.TrimSpace(conninfo + " application_name='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(name) + "'")
	}
	separator := "?"
	if strings.Contains(conninfo, "?") {
		separator = "&"
	}
	return conninfo + separator + "application_name=" + url.PathEscape(name)
}
