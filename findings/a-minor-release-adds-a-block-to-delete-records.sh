#!/usr/bin/env bash
# PostgreSQL 18.6 (Debian): a DELETE record refers to two blocks if the page was all-visible: that of the table, and one of its visibility map.
# 18.4 refers to the table's block alone, and clears the map without a reference. 19rc1 does as 18.6.
#
# So the blocks to which a kind of record refers depend on the minor release that wrote it, and on whether VACUUM has been there
# before; the page magic is the same. A reader that takes the last block reference, or the only one, for that of the row finds the map's.
#
# Why it matters here: the row of a dropped database in pg_database is found by the DELETE record in its transaction.
#
# Output seen:
#   18.4: blocks of the DELETE: main
#   18.6: blocks of the DELETE: main vm
#   18.6: blocks of the next DELETE on that page: main
source "$(dirname "${BASH_SOURCE[0]}")/lib/servers.bash"

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

sql() { as "$work/debian/bin/psql" -h "$work" -p "${port[$1]}" -U postgres -XAtqc "$2" postgres; }

# deletes NAME: the forks to which the DELETE records of one page refer, a line each. An all-visible page comes first.
deletes() {
	local name=$1 from to
	cluster "$name" "autovacuum = off"
	start "$name"
	sql "$name" "CREATE TABLE t AS SELECT generate_series(1, 10) n"
	sql "$name" "VACUUM t"
	sql "$name" "CHECKPOINT"
	from=$(sql "$name" "SELECT pg_current_wal_lsn()")
	sql "$name" "DELETE FROM t WHERE n = 3"
	sql "$name" "DELETE FROM t WHERE n = 4"
	to=$(sql "$name" "SELECT pg_current_wal_lsn()")
	stop "$name" fast
	as "$dump" -p "$work/$name/pg_wal" -s "$from" -e "$to" | sed -n '/desc: DELETE/p' | while read -r record; do
		forks=
		while [[ $record =~ blkref\ \#[0-9]+:\ rel\ [0-9/]+(\ fork\ ([a-z]+))?\ blk(.*)$ ]]; do
			forks+=" ${BASH_REMATCH[2]:-main}"
			record=${BASH_REMATCH[3]}
		done
		echo "${forks# }"
	done
}

"$here/scripts/fetch-postgres-debian" 18 "$work/debian"
chmod -R a+rX "$work/debian"
dump=$work/debian/bin/pg_waldump
install 18.4.0-beta.17
deletes earlier >"$work/forks-earlier"
bin=$work/debian/bin
as "$bin/postgres" --version
deletes later >"$work/forks-later"
earlier=$(sed -n 1p "$work/forks-earlier") later=$(sed -n 1p "$work/forks-later") next=$(sed -n 2p "$work/forks-later")
echo "18.4: blocks of the DELETE: $earlier"
echo "18.6: blocks of the DELETE: $later"
echo "18.6: blocks of the next DELETE on that page: $next"
[ "$earlier / $later / $next" = "main / main vm / main" ] || die "the records refer to other blocks"
