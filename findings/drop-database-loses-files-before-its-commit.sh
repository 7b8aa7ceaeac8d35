#!/usr/bin/env bash
# PostgreSQL 18.4: recovery to just before the commit of DROP DATABASE restores the database without its files.
#
# DROP DATABASE writes a record that removes the directory (Database/DROP) before the transaction's commit record. Targets are
# compared with commit records alone, so a recovery that stops before the commit, exclusively or by time, has replayed the removal.
# The database is listed in pg_database, marked invalid by an update in place that no transaction covers, and every connection to it fails.
# Only a target before the removal's record, by its LSN,
# keeps the files. (The chapter on PITR does not mention this.)
#
# Why it matters here: that a target was reached proves nothing about what was replayed before it. A restore to such a target
# should name the position of the removal.
#
# Output seen:
#   databases named victim, recovered to before the transaction: 1
#   connecting to it: cannot connect to invalid database "victim"
#   its directory: missing
#   databases named victim, recovered to before the removal: 1
#   rows in it: 100
source "$(dirname "${BASH_SOURCE[0]}")/lib/servers.bash"

install 18.4.0-beta.17
as mkdir "$work/archive"
cluster primary "archive_mode = on" "archive_command = 'cp %p $work/archive/%f'" "autovacuum = off"
start primary
sql primary "CREATE DATABASE victim"
DB=victim sql primary "CREATE TABLE t AS SELECT generate_series(1, 100)"
oid=$(sql primary "SELECT oid FROM pg_database WHERE datname = 'victim'")
backup primary before_commit
backup primary before_removal
sql primary "CHECKPOINT"
start_lsn=$(sql primary "SELECT pg_current_wal_insert_lsn()")
xid=$(sql primary "SELECT txid_current() + 1")
sql primary "DROP DATABASE victim"
sql primary "CREATE TABLE later ()"
last=$(sql primary "SELECT pg_walfile_name(pg_switch_wal())")
until_true "the segment $last to be archived" test -f "$work/archive/$last"
stop primary fast

for copy in before_commit before_removal; do
	as touch "$work/$copy/recovery.signal"
	configure "$copy" "archive_mode = off" "restore_command = 'cp $work/archive/%f %p'" "recovery_target_action = promote" \
		"recovery_target_inclusive = off"
done
configure before_commit "recovery_target_xid = '$xid'"
configure before_removal "recovery_target_lsn = '$start_lsn'"
for copy in before_commit before_removal; do
	start "$copy"
	until_true "$copy to open" is "$copy" "SELECT pg_is_in_recovery()" false
done

expect "databases named victim, recovered to before the transaction" "$(sql before_commit "SELECT count(*) FROM pg_database WHERE datname = 'victim'")" 1
said=$(DB=victim sql before_commit "SELECT 1" 2>&1 || true)
expect "connecting to it" "$said" 'cannot connect to invalid database "victim"'
expect "its directory" "$([ -d "$work/before_commit/base/$oid" ] && echo there || echo missing)" missing
expect "databases named victim, recovered to before the removal" "$(sql before_removal "SELECT count(*) FROM pg_database WHERE datname = 'victim'")" 1
expect "rows in it" "$(DB=victim sql before_removal "SELECT count(*) FROM t")" 100
