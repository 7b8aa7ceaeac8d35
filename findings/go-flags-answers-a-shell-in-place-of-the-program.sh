#!/usr/bin/env bash
# A program that parses its options with go-flags exits 0 without running if the environment holds GO_FLAGS_COMPLETION.
#
# github.com/jessevdk/go-flags v1.6.1, Go 1.26.
#
# The library completes words for shells: where the variable is set, to whatever value, Parse prints completions and calls
# os.Exit(0). No option of the parser switches that off. A command that PostgreSQL runs, such as an archive_command, inherits the
# environment in which the server was started. PostgreSQL takes exit code 0 for an archived segment and recycles it, although the
# program has not looked at its arguments.
#
# walkeep's two commands for PostgreSQL remove the variable from their environment before they parse.
#
# Seen, with a program that parses one option and then exits 3:
#
#	without the variable: exit 3
#	GO_FLAGS_COMPLETION=off: exit 0
#	GO_FLAGS_COMPLETION=off, and an option that does not exist: exit 0
. "$(dirname "$0")/lib/go.bash"
program github.com/jessevdk/go-flags v1.6.1 <<'GO'
package main

import (
	"os"

	"github.com/jessevdk/go-flags"
)

func main() {
	var o struct {
		Spool string `long:"spool"`
	}
	if _, err := flags.NewParser(&o, flags.HelpFlag|flags.PassDoubleDash).Parse(); err != nil {
		os.Exit(2)
	}
	os.Exit(3)
}
GO

code() { "$@" >/dev/null && echo 0 || echo $?; }
seen=$(
	echo "without the variable: exit $(code env -u GO_FLAGS_COMPLETION "$work/finding" --spool /srv/wal pg_wal/x)"
	echo "GO_FLAGS_COMPLETION=off: exit $(code env GO_FLAGS_COMPLETION=off "$work/finding" --spool /srv/wal pg_wal/x)"
	echo "GO_FLAGS_COMPLETION=off, and an option that does not exist: exit $(code env GO_FLAGS_COMPLETION=off "$work/finding" --wrong pg_wal/x)"
)
echo "$seen"
[ "$seen" = "without the variable: exit 3
GO_FLAGS_COMPLETION=off: exit 0
GO_FLAGS_COMPLETION=off, and an option that does not exist: exit 0" ]
