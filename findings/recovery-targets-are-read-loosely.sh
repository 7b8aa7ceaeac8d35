#!/usr/bin/env bash
# PostgreSQL 18.4: the server accepts recovery targets that have no meaning, and refuses an empty target after one that is set, but
# not before it.
#
# recovery_target_xid = 'abc' is read as transaction 0, which never ends: all WAL is replayed, and only then the server fails, because
# its target was not reached. recovery_target_timeline = '1x' is read as 1. (19 refuses both at its start.) Of the five targets
# only one may be set; an empty second one is refused, too, if it comes later: the same two lines are accepted or refused by
# their order.
#
# Why it matters here: targets are checked before they are written, and empty ones are written before the one that counts.
#
# Output seen:
#   recovery_target_xid = abc is refused at once: no
#   all WAL was replayed before it failed: yes
#   timeline 1x opens with rows: 100
#   empty name before the target: opens
#   empty name behind the target: multiple recovery targets specified
source "$(dirname "${BASH_SOURCE[0]}")/lib/servers.bash"

install 18.4.0-beta.17
as mkdir "$work/archive"
cluster primary "archive_mode = on" "archive_command = 'cp %p $work/archive/%f'" "autovacuum = off"
start primary
for copy in xid timeline before behind; do backup primary "$copy"; done
sql primary "CREATE TABLE t AS SELECT generate_series(1, 100)"
target=$(sql primary "SELECT pg_create_restore_point('here')")
last=$(sql primary "SELECT pg_walfile_name(pg_switch_wal())")
until_true "the segment $last to be archived" test -f "$work/archive/$last"
stop primary fast

for copy in xid timeline before behind; do
	as touch "$work/$copy/recovery.signal"
	configure "$copy" "archive_mode = off" "restore_command = 'cp $work/archive/%f %p'" "recovery_target_action = promote"
done
configure xid "recovery_target_xid = 'abc'"
configure timeline "recovery_target_timeline = '1x'"
configure before "recovery_target_name = ''" "recovery_target_lsn = '$target'"
configure behind "recovery_target_lsn = '$target'" "recovery_target_name = ''"

start xid 2>/dev/null || true
until_true "the recovery to fail" sh -c "! test -f $work/xid/postmaster.pid"
expect "recovery_target_xid = abc is refused at once" "$(grep -q 'redo starts at' "$work/xid.log" && echo no || echo yes)" no
expect "all WAL was replayed before it failed" "$(grep -q 'recovery ended before configured recovery target was reached' "$work/xid.log" && echo yes || echo no)" yes
start timeline
until_true "the copy to open" is timeline "SELECT pg_is_in_recovery()" false
expect "timeline 1x opens with rows" "$(sql timeline "SELECT count(*) FROM t")" 100
start before
until_true "the copy to open" is before "SELECT pg_is_in_recovery()" false
expect "empty name before the target" opens opens
if start behind 2>/dev/null; then die "an empty target behind the one that is set is taken: the behaviour has changed"; fi
expect "empty name behind the target" "$(grep -o 'multiple recovery targets specified' "$work/behind.log" | head -1)" "multiple recovery targets specified"
