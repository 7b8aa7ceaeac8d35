#!/usr/bin/env bash
# PostgreSQL 18.4: a history file can name, for a timeline, an end that lies before the timeline's begin.
#
# A recovery towards timeline 2 (recovery_target_timeline) whose target lies before the fork ends on timeline 1. The history of the new
# timeline 3 is that of 2 with one more line: 2 was left at the target. So it names timeline 2, of which no byte was replayed,
# and positions decrease from line to line. A reader that follows the lines looks for WAL of timeline 1 up to the fork, which lies
# on a branch that was never replayed.
#
# Why it matters here: the positions before the last one are cut down to it when such a file is read.
#
# Output seen:
#   timelines in 00000003.history: 1 2
#   timeline 2 was left before it begins: yes
#   rows on timeline 3: 100
source "$(dirname "${BASH_SOURCE[0]}")/lib/servers.bash"

install 18.4.0-beta.17
as mkdir "$work/archive"
cluster primary "archive_mode = on" "archive_command = 'cp %p $work/archive/%f'" "autovacuum = off"
start primary
backup primary first
backup primary second
sql primary "CREATE TABLE t AS SELECT generate_series(1, 100)"
early=$(sql primary "SELECT pg_create_restore_point('early')")
sql primary "INSERT INTO t SELECT generate_series(101, 200)"
sql primary "SELECT pg_create_restore_point('late')" >/dev/null
last=$(sql primary "SELECT pg_walfile_name(pg_switch_wal())")
until_true "the segment $last to be archived" test -f "$work/archive/$last"
stop primary fast

for copy in first second; do
	as touch "$work/$copy/recovery.signal"
	configure "$copy" "restore_command = 'cp $work/archive/%f %p'" "recovery_target_action = promote"
done
configure first "recovery_target_name = 'late'"
start first
until_true "00000002.history to be archived" test -f "$work/archive/00000002.history"
configure second "recovery_target_timeline = 2" "recovery_target_lsn = '$early'"
start second
until_true "00000003.history to be archived" test -f "$work/archive/00000003.history"

history=$work/archive/00000003.history
position() { # of a timeline's line, as a number
	local at
	at=$(awk -v t="$1" '$1 == t { print $2 }' "$history")
	echo $((16#${at%/*} * 4294967296 + 16#${at#*/}))
}
expect "timelines in 00000003.history" "$(awk 'NF { print $1 }' "$history" | xargs)" "1 2"
expect "timeline 2 was left before it begins" "$([ "$(position 2)" -lt "$(position 1)" ] && echo yes || echo no)" yes
expect "rows on timeline 3" "$(sql second "SELECT count(*) FROM t")" 100
