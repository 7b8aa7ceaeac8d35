#!/usr/bin/env bash
# PostgreSQL 19rc1 (Debian 19~rc1-1): pg_verifybackup and pg_waldump recognise a tar archive by its name alone.
#
# pg_verifybackup accepts base.tar, base.tar.zst and so on, refuses the same bytes under another name, and accepts a zstd stream
# of several frames with a skippable one at its end. pg_waldump reads a file as a tar archive if its name
# ends in .tar or .tar.zst and so on; it then takes no names of segments, only positions, although its help shows both.
#
# Why it matters: a backup's volumes are such zstd streams, and PostgreSQL's own tool can check them as they are stored, by a
# link of the right name.
#
# Seen on 2026-11-28:
#   backup successfully verified
#   backup successfully verified
#   pg_verifybackup: error: file "data.tar.zst" is not expected in a tar format backup
#   rmgr: XLOG
#   pg_waldump: error: unnecessary command-line arguments specified with tar archive (first is "000000010000000000000002")
#   pg_waldump: error: could not open directory "pg_wal.archive": Not a directory
#
# The server comes from the newest Debian suite that has it. Needs apt, zstd, and a few minutes.
set -euo pipefail
want="postgres (PostgreSQL) 19rc1 (Debian 19~rc1-1)"
here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d /tmp/finding.XXXXXX)
chmod 755 "$work"
end() {
	local status=$?
	[ ! -f "$work/run/data/postmaster.pid" ] || kill -QUIT "$(head -n 1 "$work/run/data/postmaster.pid")"
	sleep 1
	rm -rf "$work"
	exit $status
}
trap end EXIT
as() {
	if [ "$(id -u)" = 0 ]; then setpriv --reuid=nobody --regid=nogroup --clear-groups env LC_ALL=C "$@"; else env LC_ALL=C "$@"; fi
}
same() { # WHAT GOT WANT
	echo "$2"
	[ "$2" = "$3" ] || { echo "failed: $1: got the above, want: $3" >&2; exit 1; }
}

"$here/scripts/fetch-postgres-debian" 19 "$work/pg"
bin=$work/pg/bin
[ "$("$bin/postgres" --version)" = "$want" ] || echo "this is another version than the one of the finding: $("$bin/postgres" --version)" >&2
mkdir "$work/run"
[ "$(id -u)" != 0 ] || chown nobody:nogroup "$work/run"
cd "$work/run"
as "$bin/initdb" -D data -U postgres -A trust --no-locale -E UTF8 -N >/dev/null
as "$bin/pg_ctl" -D data -l log -w -o "-k $work/run -c listen_addresses=" start >/dev/null
as "$bin/pg_basebackup" -h "$work/run" -U postgres -D backup -Ft -X stream -c fast
start=$(tar -xOf backup/base.tar backup_label | sed -n 's/^START WAL LOCATION: \([^ ]*\) .*/\1/p')
segment=$(tar -xOf backup/base.tar backup_label | sed -n 's/.*(file \(.*\))$/\1/p')
same "the backup" "$(as "$bin/pg_verifybackup" backup 2>&1)" "backup successfully verified"

# Two frames, and a skippable frame of 4 bytes.
{
	head -c 1000000 backup/base.tar | zstd -q
	tail -c +1000001 backup/base.tar | zstd -q
	printf '\x50\x2a\x4d\x18\x04\x00\x00\x00rest'
} | as tee backup/base.tar.zst >/dev/null
as rm backup/base.tar
same "several frames" "$(as "$bin/pg_verifybackup" backup 2>&1)" "backup successfully verified"
as mv backup/base.tar.zst backup/data.tar.zst
same "another name" "$(as "$bin/pg_verifybackup" backup 2>&1 | head -n 1)" \
	'pg_verifybackup: error: file "data.tar.zst" is not expected in a tar format backup'

same "positions" "$(as "$bin/pg_waldump" -n 1 -p backup/pg_wal.tar -s "$start" 2>/dev/null | cut -c 1-10)" "rmgr: XLOG"
same "a segment's name" "$(as "$bin/pg_waldump" -n 1 -p backup/pg_wal.tar "$segment" 2>&1 | head -n 1)" \
	"pg_waldump: error: unnecessary command-line arguments specified with tar archive (first is \"$segment\")"
as cp backup/pg_wal.tar pg_wal.archive
same "a file's other name" "$(as "$bin/pg_waldump" -n 1 -p pg_wal.archive -s "$start" 2>&1 | head -n 1)" \
	'pg_waldump: error: could not open directory "pg_wal.archive": Not a directory'
