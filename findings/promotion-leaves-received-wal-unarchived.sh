#!/usr/bin/env bash
# PostgreSQL 18.4: a standby marks segments that it received by streaming as archived, although no server has archived them; after a
# failover the archive never gets them.
#
# The walreceiver of a standby with archive_mode = on makes NAME.done for each segment that it completes, because the primary is
# expected to archive it. If the primary could not (a full or unmounted archive) and is lost, the standby that is promoted archives
# the last segment, as NAME.partial, and all that follows, but none of those in between: they lie in its pg_wal, marked
# .done, until they are recycled. Recovery from an older backup then ends at the hole. The archiver counts no failure.
#
# Why it matters here: promote has to store what the archive lacks from the standby's pg_wal before the server is opened.
#
# Output seen:
#   marked .done on the standby, but not in the archive: 3
#   failures that the new primary's archiver counts: 0
#   segments of timeline 1 in the archive after the promotion: 0
#   segments of timeline 2 in the archive: 1
source "$(dirname "${BASH_SOURCE[0]}")/lib/servers.bash"

install 18.4.0-beta.17
as mkdir "$work/archive"
cluster primary "wal_level = replica" "archive_mode = on" "archive_command = 'false'" "autovacuum = off"
start primary
backup primary standby
configure standby "archive_command = 'cp %p $work/archive/%f'" "primary_conninfo = 'host=$work port=${port[primary]} user=postgres'"
as touch "$work/standby/standby.signal"
start standby
until_true "the standby to stream" is standby "SELECT status FROM pg_stat_wal_receiver" streaming
segments=()
for i in 1 2 3; do
	segments+=("$(sql primary "SELECT pg_walfile_name(pg_current_wal_insert_lsn())")")
	sql primary "CREATE TABLE t$i AS SELECT generate_series(1, 100); SELECT pg_switch_wal()" >/dev/null
done
sql primary "CREATE TABLE last ()"
at=$(sql primary "SELECT pg_current_wal_lsn()")
until_true "the standby to replay $at" is standby "SELECT pg_last_wal_replay_lsn() >= '$at'" true
stop primary immediate

sql standby "SELECT pg_promote()" >/dev/null
after=$(sql standby "SELECT pg_walfile_name(pg_switch_wal())")
until_true "the new primary to archive $after" test -f "$work/archive/$after"

hidden=0
for segment in "${segments[@]}"; do
	if [ -f "$work/standby/pg_wal/archive_status/$segment.done" ] && [ ! -f "$work/archive/$segment" ]; then hidden=$((hidden + 1)); fi
done
expect "marked .done on the standby, but not in the archive" "$hidden" 3
expect "failures that the new primary's archiver counts" "$(sql standby "SELECT failed_count FROM pg_stat_archiver")" 0
expect "segments of timeline 1 in the archive after the promotion" "$(find "$work/archive" -name '00000001????????????????' | wc -l)" 0
expect "segments of timeline 2 in the archive" "$(find "$work/archive" -name '00000002????????????????' | wc -l)" 1
