package pgserver_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"walkeep/supervisor/pgserver"
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
		c, err := pgserver.ParseConninfo(text)
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
		if c, err := pgserver.ParseConninfo(text); err == nil {
			t.Errorf("%s was taken: %v", text, c)
		}
	}
}

func TestConninfoWithoutPasswords(t *testing.T) {
	for _, text := range []string{
		"host=h password=s3cr3t", "password = 's3 cr3t' host=h", "host=h sslpassword=s3cr3t",
		"postgres://u:s3cr3t@h/d", "postgres://h/d?password=s3cr3t", "postgres://h/d?sslpassword=s3cr3t",
	} {
		c, err := pgserver.ParseConninfo(text)
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
	if c := (pgserver.Conninfo{{Name: "host", Value: "h"}}); c.With("user", "x").With("user", "it's").String() != `host=h user='it\'s'` {
		t.Errorf("got %s", c.With("user", "x").With("user", "it's"))
	}
}
