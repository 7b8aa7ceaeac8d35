package pgserver

import (
	"context"
	"maps"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// session are settings with which each connection begins, so that settings of the configuration, a database or a role
// change neither the form of the server's answers nor how long they may take. All supported versions know them.
var session = map[string]string{
	"client_encoding":                     "UTF8",
	"datestyle":                           "ISO, MDY",
	"intervalstyle":                       "postgres",
	"timezone":                            "UTC",
	"extra_float_digits":                  "1",
	"bytea_output":                        "hex",
	"standard_conforming_strings":         "on",
	"search_path":                         "pg_catalog",
	"client_min_messages":                 "notice",
	"default_transaction_isolation":       "read committed", // a standby refuses serializable
	"default_transaction_deferrable":      "off",
	"statement_timeout":                   "0",
	"lock_timeout":                        "0",
	"idle_in_transaction_session_timeout": "0",
}

// adjust returns SQL for the settings that cannot be part of the connection request: a server refuses a connection for a
// setting that it does not know, and the last one would change the answer to whether the server is open for writing.
func adjust(major int) string {
	var sql string
	if major >= 17 {
		sql += "SET transaction_timeout = 0; "
	}
	if major >= 14 {
		sql += "SET idle_session_timeout = 0; "
	}
	return sql + "SET default_transaction_read_only = off"
}

// prepareSession has a connection begin with the session's settings.
func prepareSession(config *pgx.ConnConfig) {
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "walkeep"
	}
	maps.Copy(config.RuntimeParams, session)
	config.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		_, err := conn.Exec(ctx, adjust(Major(conn.ParameterStatus("server_version")))).ReadAll()
		return err
	}
}

// untouched are settings of a superuser's session that reads what a restored cluster holds, beyond those of [session]: a
// database or a role may load what this host does not have, or have damage passed over.
var untouched = map[string]string{
	"session_preload_libraries": "",
	"local_preload_libraries":   "",
	"row_security":              "off",
	"role":                      "none",
	"zero_damaged_pages":        "off",
	"ignore_checksum_failure":   "off",
}
