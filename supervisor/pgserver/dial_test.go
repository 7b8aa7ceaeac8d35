package pgserver_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"walkeep/common/conninfo"
	"walkeep/supervisor/pgserver"
)

// The servers that a conninfo names are those that libpq connects to.
func TestPlaces(t *testing.T) {
	clear(t)
	file := filepath.Join(t.TempDir(), "services")
	if err := os.WriteFile(file, []byte("# ours\n[other]\nhost=o\n[db]\nhost=s1,s2\nport=5\nhostaddr=10.0.0.1,10.0.0.2\n[next]\nport=6\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		conninfo, environment string
		want                  string
	}{
		{conninfo: "host=a", want: "a:5432"},
		{conninfo: "host=a,b port=1,2", want: "a:1 b:2"},
		{conninfo: "host=a,b port=7 target_session_attrs=read-write load_balance_hosts=disable", want: "a:7 b:7"},
		{conninfo: "host=a,b port=7,", want: "a:7 b:5432"},
		{conninfo: "hostaddr=127.0.0.1 port=6110 user=u", want: "127.0.0.1:6110"},
		{conninfo: "host=name hostaddr=127.0.0.1", want: "127.0.0.1:5432"},
		{conninfo: "host=a,b hostaddr=10.0.0.1,", want: "10.0.0.1:5432 b:5432"},
		{conninfo: "host=/tmp hostaddr=10.0.0.9", want: "10.0.0.9:5432"},
		{conninfo: "host=/tmp/x port=3", want: "/tmp/x:3"},
		{conninfo: "host=@abstract", want: "@abstract:5432"},
		{conninfo: "port=5", environment: "PGHOST=h PGPORT=9", want: "h:5"},
		{conninfo: "host=a", environment: "PGHOSTADDR=10.1.1.1", want: "10.1.1.1:5432"},
		{conninfo: "host=a hostaddr=''", environment: "PGHOSTADDR=10.1.1.1", want: "a:5432"},
		{conninfo: "service=db servicefile=" + file, want: "10.0.0.1:5 10.0.0.2:5"},
		{conninfo: "service=db", environment: "PGSERVICEFILE=" + file, want: "10.0.0.1:5 10.0.0.2:5"},
		{conninfo: "host=x,y", environment: "PGSERVICE=db PGSERVICEFILE=" + file, want: "10.0.0.1:5 10.0.0.2:5"},
		{conninfo: "host=x service=next", environment: "PGPORT=8 PGSERVICEFILE=" + file, want: "x:6"},
		{conninfo: "postgresql://u@h1:1,h2/d?hostaddr=10.0.0.1,10.0.0.2", want: "10.0.0.1:1 10.0.0.2:5432"},
		{conninfo: "postgresql://%2Ftmp%2Fs:7/d", want: "/tmp/s:7"},
		{conninfo: "postgres://[::1]:7/d?ssl=true", want: "[::1]:7"},
		{conninfo: "host=a scram_client_key=k scram_server_key=k oauth_issuer=i oauth_client_id=c oauth_client_secret=s oauth_scope=x oauth_ca_file=f " +
			"sslkeylogfile=l min_protocol_version=3.0 max_protocol_version=3.2 sslnegotiation=postgres require_auth=scram-sha-256 sslcertmode=allow " +
			"gssencmode=disable keepalives=1 tcp_user_timeout=1 replication=true fallback_application_name=walreceiver requirepeer=x channel_binding=prefer", want: "a:5432"},
	} {
		for v := range strings.FieldsSeq(c.environment) {
			name, value, _ := strings.Cut(v, "=")
			t.Setenv(name, value)
		}
		places, err := pgserver.Places(c.conninfo)
		clear(t)
		var got []string
		for _, p := range places {
			got = append(got, strings.ReplaceAll(strings.ReplaceAll(p.String(), "[/", "/"), "]:", "]:"))
		}
		if s := strings.Join(got, " "); err != nil || s != c.want {
			t.Errorf("%s (%s): got %s, %v, want %s", c.conninfo, c.environment, s, err, c.want)
		}
	}
	for _, text := range []string{
		"port=xx", "host=a,b port=1,2,3", "host=a,b hostaddr=10.0.0.1", "port=0", "port=70000", "connect_timeout=x", "target_session_attrs=readwrite host=127.0.0.1",
		"service=none servicefile=" + file, "sslmode=nonsense host=127.0.0.1", "postgres://u:s3cr3t@h:1abc/db", "postgres://u:s3cr3t/b@h/db", "host=a sslmode=verify-full sslrootcert=/none password=s3cr3t",
	} {
		_, err := pgserver.Connect(t.Context(), text)
		if err == nil || strings.Contains(err.Error(), "nil") || strings.Contains(err.Error(), "s3cr3t") || strings.Contains(err.Error(), "`") {
			t.Errorf("%s: got %v", text, err)
		}
	}
	for _, text := range []string{"hots=a", "host=a statement_timeout=5", "host=a database=d", "postgres://a/b?future_word=1"} {
		if _, err := pgserver.Places(text); !errors.Is(err, conninfo.ErrKeyword) {
			t.Errorf("%s: got %v", text, err)
		}
	}
}

// clear takes libpq's variables out of the environment until the test is over.
func clear(t *testing.T) {
	t.Helper()
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "PG") {
			t.Setenv(name, "")
		}
	}
}

// Without a host, the server is looked for in all places of which one is libpq's.
func TestDefaultPlace(t *testing.T) {
	clear(t)
	l, err := net.Listen("unix", "/tmp/.s.PGSQL.59431")
	if err != nil {
		t.Skip(err)
	}
	defer l.Close()
	places, err := pgserver.Places("port=59431")
	if err != nil || !slices.ContainsFunc(places, func(p pgserver.Place) bool { return p.String() == "/tmp:59431" }) {
		t.Errorf("got %v, %v", places, err)
	}
}
