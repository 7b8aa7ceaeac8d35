package pgserver_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"walkeep/common/pgtest"
	"walkeep/supervisor/pgserver"
)

// hostile are settings that a role may have for its own users; the second are those of versions from the first on.
var hostile = map[int][]string{
	10: {
		"datestyle = 'SQL, DMY'", "intervalstyle = 'sql_standard'", "timezone = 'Asia/Kathmandu'", "client_encoding = 'LATIN1'",
		"default_transaction_isolation = 'serializable'", "default_transaction_deferrable = on", "default_transaction_read_only = on",
		"statement_timeout = 1", "lock_timeout = 1", "idle_in_transaction_session_timeout = 1", "search_path = evil",
		"bytea_output = 'escape'",
	},
	14: {"idle_session_timeout = '500ms'"},
	17: {"transaction_timeout = '200ms'"}, // a connection must have the time to change it
}

// What the configuration or a role sets for others changes nothing of what a connection says, and does not end it.
func TestSession(t *testing.T) {
	for _, major := range []int{10, 19} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			pgtest.Need(t, major)
			c := pgtest.New(t, pgtest.Options{Major: major, Dir: pgtest.TempDir(t) + "/c", Settings: map[string]string{"max_wal_senders": "3", "wal_level": "replica"}})
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			must(c.Start(t.Context()))
			admin, err := c.Conn(t.Context())
			must(err)
			defer admin.Close(t.Context())
			exec := func(sql string) {
				t.Helper()
				_, err := admin.Exec(t.Context(), sql)
				must(err)
			}
			exec("SET synchronous_commit = local")
			exec("CREATE SCHEMA evil")
			exec("CREATE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ SELECT '2001-01-01'::timestamptz $$")
			if major >= 14 {
				exec("ALTER SYSTEM SET idle_session_timeout = '500ms'") // for connections for replication, of which no role's settings count
				exec("SET idle_session_timeout = 0")
				exec("SELECT pg_reload_conf()")
			}
			for from, settings := range hostile {
				for _, s := range settings {
					if major >= from {
						exec("ALTER ROLE postgres SET " + s)
					}
				}
			}
			replication, err := pgserver.ConnectReplication(t.Context(), c.ConnString(), func(*pgconn.Notice) {})
			must(err)
			defer replication.Close(t.Context())
			for _, wanted := range []string{"any", "primary"} {
				s, err := pgserver.Connect(t.Context(), c.ConnString()+" target_session_attrs="+wanted)
				must(err)
				now, err := s.Clock(t.Context())
				must(err)
				if d := time.Since(now).Abs(); d > 10*time.Minute {
					t.Errorf("the server's time is %s off", d)
				}
				if major >= 14 {
					_, err = admin.Exec(t.Context(), "SELECT pg_sleep(1)") // longer than its idle_session_timeout
					must(err)
				}
				_, err = s.Info(t.Context())
				must(err)
				must(s.MakeSlot(t.Context(), "walkeep_"+wanted)) // it writes
				settings := map[string]string{
					"transaction_isolation": "read committed", "statement_timeout": "0", "DateStyle": "ISO, MDY", "search_path": "pg_catalog",
					"transaction_read_only": "off", "idle_in_transaction_session_timeout": "0",
				}
				if major >= 17 {
					settings["transaction_timeout"] = "0"
				}
				for setting, want := range settings {
					if got, err := s.Strings(t.Context(), "SELECT current_setting('"+setting+"')"); err != nil || got[0] != want {
						t.Errorf("%s: got %q, %v, want %q", setting, got, err, want)
					}
				}
				if err := s.Close(t.Context()); err != nil {
					t.Error(err)
				}
			}
			if _, err := replication.Exec(t.Context(), "IDENTIFY_SYSTEM").ReadAll(); err != nil {
				t.Errorf("a connection for replication that was idle: %v", err)
			}
			if _, err := pgserver.Connect(t.Context(), c.ConnString()+" target_session_attrs=read-write"); err == nil || !strings.Contains(err.Error(), "read only") {
				t.Errorf("a server that is set to be read only counts as open for writing: %v", err)
			}
			// A restored cluster is read whatever its roles and databases are set to.
			exec("ALTER DATABASE postgres SET session_preload_libraries = 'not_on_this_host'")
			exec("CREATE ROLE nobody")
			exec("ALTER ROLE postgres SET role = nobody")
			s, err := pgserver.ConnectSuperuser(t.Context(), "user=postgres", c.RunDir(), portOf(t, c), "postgres")
			must(err)
			if got, err := s.Strings(t.Context(), "SELECT current_user::text"); err != nil || got[0] != "postgres" {
				t.Errorf("reads as %q, %v", got, err)
			}
			must(s.Close(t.Context()))
		})
	}
}

func portOf(t *testing.T, c *pgtest.Cluster) uint16 {
	t.Helper()
	places, err := pgserver.Places(c.ConnString())
	if err != nil {
		t.Fatal(err)
	}
	return places[0].Port
}
