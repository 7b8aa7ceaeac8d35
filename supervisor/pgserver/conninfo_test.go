package pgserver_test

import (
	"errors"
	"testing"

	"walkeep/supervisor/pgserver"
)

func TestCheckPrimary(t *testing.T) {
	for _, c := range []struct {
		conninfo string
		secret   bool
		bad      bool
	}{
		{conninfo: "host=a port=5432 user=rep passfile=/etc/pgpass"},
		{conninfo: "host = a   user = 'my password=x'"},
		{conninfo: "postgresql://rep@a:1,b:2/postgres?sslmode=require"},
		{conninfo: "service=primary"},
		{conninfo: "host=a password=x", secret: true},
		{conninfo: "host=a password = ''", secret: true},
		{conninfo: "host='a'password=x", secret: true},
		{conninfo: "host=a sslpassword=x", secret: true},
		{conninfo: "postgres://rep:x@a:1,b:2/postgres", secret: true},
		{conninfo: "postgres://a/postgres?password=x", secret: true},
		{conninfo: "host", bad: true},
		{conninfo: "host='a", bad: true},
		{conninfo: "host=a\nuser=b", bad: true},
	} {
		err := pgserver.CheckPrimary(c.conninfo)
		if got := errors.Is(err, pgserver.ErrSecret); got != c.secret || (err != nil) != (c.secret || c.bad) {
			t.Errorf("%q: got %v", c.conninfo, err)
		}
		if c.secret && !pgserver.HasPassword(c.conninfo) && c.conninfo != "host=a sslpassword=x" {
			t.Errorf("%q: no password was seen", c.conninfo)
		}
	}
}

func TestWithApplication(t *testing.T) {
	for conninfo, want := range map[string]string{
		"host=a":                             `host=a application_name='it\'s'`,
		"host=a application_name=b":          "host=a application_name=b",
		"postgres://a":                       "postgres://a?application_name=it%27s",
		"postgres://a/?sslmode=off":          "postgres://a/?sslmode=off&application_name=it%27s",
		"postgres://a/?application_name=own": "postgres://a/?application_name=own",
	} {
		if got := pgserver.WithApplication(conninfo, "it's"); got != want {
			t.Errorf("%q: got %q, want %q", conninfo, got, want)
		}
	}
}
