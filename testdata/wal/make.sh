#!/bin/bash
# Makes the WAL files of this directory anew with real servers: for each major version a cluster with the
# smallest segments it can have is taken through continued records, a switch, a backup, crashes
# that lose the rest of a record, and promotions. What the server archived is kept, compressed.
#
#   make.sh SERVERS [MAJOR...]
#
# SERVERS holds one directory per major version with bin/initdb, bin/pg_ctl and bin/postgres in it (15 may
# be a link to /usr/lib/postgresql/15). psql, pgbench and zstd are taken from PATH, pg_waldump from SERVERS/15.
# Run it as root: the servers run as the user postgres, below a temporary directory.
set -euo pipefail
servers=$(realpath "${1:?usage: make.sh SERVERS [MAJOR...]}")
shift
majors=${*:-10 11 12 13 14 15 16 17 18 19}
out=$(realpath "$(dirname "$0")")
top=$(mktemp -d /tmp/walkeep-wal.XXXXXX)
chown postgres "$top"
export LC_ALL=C PGUSER=postgres PGDATABASE=postgres PGTZ=UTC PGOPTIONS="-c client_min_messages=warning"
bin= work= port=5600 # of the cluster at hand

as() { setpriv --reuid=postgres --regid=postgres --clear-groups env -C "$work" "$@"; }
sql() { psql -X -q -A -t -v ON_ERROR_STOP=1 "$@"; }
start() { as "$bin/pg_ctl" -D "$work/data" -l "$work/log" -w -t 60 start >/dev/null || { tail -20 "$work/log" >&2; exit 1; }; }
stop() { as "$bin/pg_ctl" -D "$work/data" -w -m "$1" stop >/dev/null; }
cleanup() {
  for d in "$top"/*/data; do
    [ -f "$d/postmaster.pid" ] && kill -QUIT "$(head -1 "$d/postmaster.pid")" 2>/dev/null
  done
  sleep 1
  rm -rf "$top"
}
trap cleanup EXIT

current() { sql -c 'select pg_walfile_name(pg_current_wal_insert_lsn())'; }
switch() { sql -c 'select pg_switch_wal()' >/dev/null; }
archived() { # waits until a file is in the archive
  for _ in $(seq 300); do
    [ -f "$work/archive/$1" ] && return
    sleep 0.1
  done
  echo "$1 was not archived" >&2
  exit 1
}
keep() { # FILE: from the archive into the test data
  archived "$1"
  zstd -q -19 --long=24 -c "$work/archive/$1" >"$out/$major/$1.zst"
}
rows() { # a table of N rows: small records, and images of full pages
  sql -c "create table if not exists t (a int primary key, b text);
          insert into t select g, 'row ' || g % 7 from generate_series((select coalesce(max(a), 0) from t) + 1,
                               (select coalesce(max(a), 0) from t) + $1) g;
          update t set b = b || '!' where a % 10 = 0; delete from t where a % 50 = 3;"
}
message() { # a record of N bytes, flushed
  sql -c "begin; select txid_current(); select pg_logical_emit_message(false, 'walkeep', repeat('x', $1)); commit;" >/dev/null
}
archiving() { # on or off
  local command=$archive_command
  [ "$1" = off ] && command=false
  sql -c "alter system set archive_command = '$command'" -c 'select pg_reload_conf()' >/dev/null
}

# crash KILLS the server right after it wrote a record of N bytes, loses WAL from the given offset of the
# given segment after the current one on, and starts the server again.
crash() { # BYTES SEGMENTS-AFTER OFFSET
  archiving off
  switch
  rows 10
  local first seg n
  first=$(current)
  message "$1"
  stop immediate
  n=$((16#${first:16:8} + $2))
  seg=$(printf '%s%08X' "${first:0:16}" "$n")
  if [ "$3" = 0 ]; then
    rm "$work/data/pg_wal/$seg"
  else
    as dd if=/dev/zero of="$work/data/pg_wal/$seg" bs=8192 seek=$(($3 / 8192)) count=$(((size - $3) / 8192)) conv=notrunc status=none
  fi
  start
  sql -c 'checkpoint'
  switch
  archiving on
  crashed=("$first" "$seg")
}

recover() { # recovery to a new timeline after a crash; extra settings as arguments
  stop immediate
  if [ "$major" -lt 12 ]; then
    { echo "restore_command = 'cp $work/archive/%f %p'"; printf '%s\n' "$@"; } >"$work/data/recovery.conf"
    chown postgres "$work/data/recovery.conf"
  else
    { echo "restore_command = 'cp $work/archive/%f %p'"; printf '%s\n' "$@"; } >>"$work/data/postgresql.conf"
    as touch "$work/data/recovery.signal"
  fi
  start
  for _ in $(seq 100); do
    [ "$(sql -c 'select pg_is_in_recovery()')" = f ] && return
    sleep 0.1
  done
  echo "recovery does not end" >&2
  exit 1
}

make_one() {
  major=$1 work=$top/$1 bin=$servers/$1/bin port=$((port + 1))
  size=$((1 << 20))
  local initopts=(--wal-segsize=1)
  [ "$major" = 10 ] && size=$((16 << 20)) initopts=()
  archive_command="cp %p $work/archive/new && mv $work/archive/new $work/archive/%f"
  mkdir -p "$work" "$out/$major"
  rm -f "$out/$major"/*
  chown postgres "$work"
  as mkdir "$work/archive"
  as "$bin/initdb" -D "$work/data" -U postgres -A trust --data-checksums -E UTF8 --no-locale -N "${initopts[@]}" >/dev/null
  cat >>"$work/data/postgresql.conf" <<EOF
listen_addresses = ''
unix_socket_directories = '$work'
port = $port
archive_mode = on
archive_command = '$archive_command'
wal_level = replica
wal_buffers = 128kB
autovacuum = off
fsync = off
min_wal_size = $((2 * size / 1048576))MB
max_wal_size = $((64 * size / 1048576))MB
bgwriter_lru_maxpages = 0
EOF
  export PGHOST=$work PGPORT=$port
  start

  # A full segment of ordinary records, and a record that goes on in the next one, which a switch ends.
  rows 200
  switch
  rows 500
  local a b
  a=$(current)
  message $((size - size / 4))
  rows 200
  message $((size / 2))
  b=$(current)
  [ "$a" != "$b" ] || { echo "no segment was filled" >&2; exit 1; }
  sql -c 'select pg_switch_wal()' >/dev/null
  keep "$a"
  keep "$b"

  # A backup.
  local started=pg_start_backup stopped='pg_stop_backup(false)'
  [ "$major" -ge 15 ] && started=pg_backup_start stopped='pg_backup_stop()'
  [ "$major" -lt 15 ] && b=', false' || b=''
  a=$(printf "select pg_walfile_name(%s('walkeep', true%s));\nselect from %s;\n" "$started" "$b" "$stopped" | sql)
  sleep 0.5
  for b in "$work/archive/$a".*.backup; do keep "$(basename "$b")"; done

  # Crashes that lose the rest of a record: inside a segment, and from the start of one.
  crash $((2 * size + size / 2)) 1 $((size / 2))
  keep "${crashed[0]}"
  keep "${crashed[1]}"
  crash $((2 * size)) 1 0
  keep "${crashed[0]}"
  keep "${crashed[1]}"

  # Promotions: the segment of timeline 2 starts with pages of timeline 1, and the one of timeline 3 has
  # pages of all three.
  rows 100
  a=$(current)
  recover
  rows 100
  recover "recovery_target_timeline = 'latest'"
  rows 50
  b=$(current)
  switch
  [ "$major" = 10 ] || keep "$a.partial" # 16 MB of a recycled segment do not compress
  keep "00000002${a:8}.partial"
  keep 00000002.history
  keep "$b"
  keep 00000003.history
  stop fast
  if [ "$major" = 15 ]; then pgbench_one; expected_15; fi
  rm -rf "$work"
}

# pgbench_one adds a segment of what pgbench writes.
pgbench_one() {
  start
  pgbench -q -i -s 1 --unlogged-tables >/dev/null 2>&1
  pgbench -q -i -s 1 >/dev/null 2>&1
  pgbench -c 2 -t 1000 >/dev/null 2>&1
  local a
  a=$(current)
  pgbench -c 2 -t 2000 >/dev/null 2>&1
  keep "$a"
  stop fast
}

# expected_15 writes down what pg_waldump makes of the segments of 15: name, records, start of the last one.
expected_15() {
  local f name
  for f in "$out"/15/*.zst; do
    name=$(basename "$f" .zst)
    [[ $name =~ ^[0-9A-F]{24}$ ]] || continue
    "$servers/15/bin/pg_waldump" -p "$work/archive" "$name" 2>/dev/null |
      awk -v n="$name" 'match($0, /lsn: [0-9A-F\/]+/) { c++; l = substr($0, RSTART + 5, RLENGTH - 5) } END { print n, c, l }'
  done >"$out/15/pg_waldump.txt"
}

for m in $majors; do
  make_one "$m"
  echo "$m: $(du -bs "$out/$m" | cut -f1) bytes in $(ls "$out/$m" | wc -l) files"
done
