#!/usr/bin/env bash
# PostgreSQL 18.4: a copy that is recovered on the primary's host writes into the primary's tablespace, if that was created after
# the backup.
#
# Replay of CREATE TABLESPACE makes the directory and the link in pg_tblspc at the place that the record names, also if the running primary
# uses it: in recovery "directory already in use" is no error. tablespace_map and links that are
# mapped elsewhere do not help, because the tablespace was not in the backup. From then on two servers write the same files. Neither
# logs a message.
#
# Why it matters here: a drill, or a restore beside a server, has to look for such records in the WAL before it lets a
# server replay them.
#
# Output seen:
#   the copy's tablespace is the primary's directory: yes
#   the primary's file was changed by the copy: yes
#   sum on the primary before: 5050
#   sum on the primary after its restart: 105050
source "$(dirname "${BASH_SOURCE[0]}")/lib/servers.bash"

install 18.4.0-beta.17
as mkdir "$work/archive" "$work/space"
cluster primary "archive_mode = on" "archive_command = 'cp %p $work/archive/%f'" "autovacuum = off"
start primary
backup primary copy
sql primary "CREATE TABLESPACE space LOCATION '$work/space'"
sql primary "CREATE TABLE t TABLESPACE space AS SELECT generate_series(1, 100)::bigint AS n"
last=$(sql primary "SELECT pg_walfile_name(pg_switch_wal())")
until_true "the segment $last to be archived" test -f "$work/archive/$last"
before=$(sql primary "SELECT sum(n) FROM t")
sql primary "CHECKPOINT"
file=$(sql primary "SELECT pg_relation_filepath('t')")
content=$(md5sum <"$work/primary/$file")

as touch "$work/copy/recovery.signal"
configure copy "archive_mode = off" "restore_command = 'cp $work/archive/%f %p'"
start copy
until_true "the copy to open" is copy "SELECT pg_is_in_recovery()" false
sql copy "UPDATE t SET n = n + 1000"
sql copy "VACUUM (FREEZE) t" # so that the rows count whatever a server knows of their transactions
sql copy "CHECKPOINT"

same() { [ "$1" = "$2" ] && echo yes || echo no; }
oid=$(sql primary "SELECT oid FROM pg_tablespace WHERE spcname = 'space'")
expect "the copy's tablespace is the primary's directory" "$(same "$(readlink "$work/copy/pg_tblspc/$oid")" "$(readlink "$work/primary/pg_tblspc/$oid")")" yes
expect "the primary's file was changed by the copy" "$([ "$content" != "$(md5sum <"$work/primary/$file")" ] && echo yes || echo no)" yes
expect "sum on the primary before" "$before" 5050
stop primary fast
start primary
expect "sum on the primary after its restart" "$(sql primary "SELECT sum(n) FROM t")" 105050
