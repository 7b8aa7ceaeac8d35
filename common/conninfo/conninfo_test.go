package conninfo_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"walkeep/common/conninfo"
)

// What is written as keywords is what the driver reads out of the original.
func TestConninfo(t *testing.T) {
	for _, text := range []string{
		"host=/tmp port=5433 user=u dbname=d",
		`host = '/tmp/it\'s' user='a b' dbname=x\ y application_name=''`,
		"user=first host=h user=last",
		"postgresql://u@h:5433/d?sslmode=disable&application_name=a%20b",
		"postgres://u@h1:1,h2/d?target_session_attrs=primary&sslmode=disable",
		"postgres://[::1]:7/d?sslmode=disable",
		"postgresql:///d?host=/tmp&user=x%27y&sslmode=disable",
	} {
		c, err := conninfo.Parse(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		a, err := pgconn.ParseConfig(text)
		if err != nil {
			t.Fatal(err)
		}
		b, err := pgconn.ParseConfig(c.String())
		if err != nil {
			t.Errorf("%s became %s: %v", text, c, err)
			continue
		}
		if a.Host != b.Host || a.Port != b.Port || a.User != b.User || a.Database != b.Database || len(a.Fallbacks) != len(b.Fallbacks) ||
			a.RuntimeParams["application_name"] != b.RuntimeParams["application_name"] {
			t.Errorf("%s became %s: got %+v, want %+v", text, c, b, a)
		}
	}
	for _, text := range []string{"host", "host=h user", "host='h", "a b=c", "=x", "postgres://u:s3cr3t@h:port/"} {
		if c, err := conninfo.Parse(text); err == nil {
			t.Errorf("%s was taken: %v", text, c)
		}
	}
}

func TestConninfoWithoutPasswords(t *testing.T) {
	for _, text := range []string{
		"host=h password=s3cr3t", "password = 's3 cr3t' host=h", "host=h sslpassword=s3cr3t",
		"postgres://u:s3cr3t@h/d", "postgres://h/d?password=s3cr3t", "postgres://h/d?sslpassword=s3cr3t",
	} {
		c, err := conninfo.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		kept, had := c.WithoutPasswords()
		for _, k := range kept {
			if k.Name == "password" || k.Name == "sslpassword" {
				t.Errorf("%s: %s is kept", text, kept)
			}
		}
		if !had || len(kept) == 0 {
			t.Errorf("%s: got %s, %v", text, kept, had)
		}
	}
	if c := (conninfo.Info{{Name: "host", Value: "h"}}); c.With("user", "x").With("user", "it's").String() != `host=h user='it\'s'` {
		t.Errorf("got %s", c.With("user", "x").With("user", "it's"))
	}
}

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
		err := conninfo.CheckPrimary(c.conninfo)
		if got := errors.Is(err, conninfo.ErrSecret); got != c.secret || (err != nil) != (c.secret || c.bad) {
			t.Errorf("%q: got %v", c.conninfo, err)
		}
		if c.secret && !conninfo.HasPassword(c.conninfo) && c.conninfo != "host=a sslpassword=x" {
			t.Errorf("%q: no password was seen", c.conninfo)
		}
	}
}

func TestWithApplication(t *testing.T) {
	for text, want := range map[string]string{
		"host=a":                             `host=a application_name='it\'s'`,
		"host=a application_name=b":          "host=a application_name=b",
		"postgres://a":                       `host=a application_name='it\'s'`,
		"postgres://a/?sslmode=off":          `host=a sslmode=off application_name='it\'s'`,
		"postgres://a/?application_name=own": "postgres://a/?application_name=own",
	} {
		if got := conninfo.WithApplication(text, "it's"); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// Clean keeps the form of a conninfo, and gives the secrets as they are written and as they are meant.
func TestClean(t *testing.T) {
	for _, c := range []struct {
		text, want string
		secrets    []string
	}{
		{"host=a password='z\\'z' port=1", "host=a port=1", []string{"z'z"}},
		{"host=a PassWord=z sslpassword=y", "host=a", []string{"z", "y"}},
		{"host=a", "host=a", nil},
		{"postgres://u:z%40z@h1:1,[::1]:2/d?x=1&password=y%26y", "postgres://u@h1:1,[::1]:2/d?x=1", []string{"z@z", "y&y", "z%40z", "y%26y"}},
		{"postgresql://:z@h?%70assword=y", "postgresql://h", []string{"z", "y", "z", "y"}},
		{"postgresql://h/d?oauth_client_secret=y&user=u", "postgresql://h/d?user=u", []string{"y", "y"}},
		{"postgresql:///d", "postgresql:///d", nil},
		{"postgresql://u:z@z@h/d", "", nil},
		{"postgresql://u:z/z@h/d", "", nil},
		{"host=a 'password'=z", "", nil},
	} {
		got, secrets, err := conninfo.Clean(c.text)
		if got != c.want || (err != nil) != (c.want == "") || c.want != "" && !slices.Equal(secrets, c.secrets) {
			t.Errorf("%s: got %q, %q, %v; want %q, %q", c.text, got, secrets, err, c.want, c.secrets)
		}
	}
}
