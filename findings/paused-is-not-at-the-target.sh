#!/usr/bin/env bash
# PostgreSQL 18.4: a recovery that pauses because the primary's max_connections was raised reports the same state as one that has
# reached its target.
#
# Since 14, a hot standby or a recovery with hot_standby = on (the default) that replays a raised max_connections pauses instead of
# stopping, with a warning in its log. pg_is_wal_replay_paused() and pg_get_wal_replay_pause_state() do not name the reason. Resuming,
# which opens the database at the target, shuts the server down here. Only the position shows that the target was not reached.
#
# Why it matters here: "paused" must not be taken for "at the target".
#
# Output seen:
#   paused: true
#   state: paused
#   replayed up to the target: false
#   rows: 100
#   after pg_wal_replay_resume(): recovery aborted because of insufficient parameter settings
source "$(dirname "${BASH_SOURCE[0]}")/lib/servers.bash"

install 18.4.0-beta.17
as mkdir "$work/archive"
cluster primary "archive_mode = on" "archive_command = 'cp %p $work/archive/%f'" "max_connections = 20" "autovacuum = off"
start primary
backup primary copy
sql primary "CREATE TABLE t AS SELECT generate_series(1, 100)"
configure primary "max_connections = 30"
stop primary fast
start primary
sql primary "INSERT INTO t SELECT generate_series(101, 200)"
target=$(sql primary "SELECT pg_create_restore_point('here')")
last=$(sql primary "SELECT pg_walfile_name(pg_switch_wal())")
until_true "the segment $last to be archived" test -f "$work/archive/$last"
stop primary fast

as touch "$work/copy/recovery.signal"
configure copy "archive_mode = off" "restore_command = 'cp $work/archive/%f %p'" "recovery_target_name = 'here'"
start copy
until_true "the recovery to pause" is copy "SELECT pg_is_wal_replay_paused()" true
expect "paused" "$(sql copy "SELECT pg_is_wal_replay_paused()")" true
expect "state" "$(sql copy "SELECT pg_get_wal_replay_pause_state()")" paused
expect "replayed up to the target" "$(sql copy "SELECT pg_last_wal_replay_lsn() >= '$target'")" false
expect "rows" "$(sql copy "SELECT count(*) FROM t")" 100
sql copy "SELECT pg_wal_replay_resume()" >/dev/null
until_true "the server to stop" sh -c "! test -f $work/copy/postmaster.pid"
expect "after pg_wal_replay_resume()" "$(grep -o 'recovery aborted because of insufficient parameter settings' "$work/copy.log")" \
	"recovery aborted because of insufficient parameter settings"
