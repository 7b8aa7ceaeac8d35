# What the findings about Go libraries have in common: a program in a temporary directory that uses one pinned module. Source it; then
#
#   program MODULE VERSION <<'GO' ...   build the program that is read from stdin
#   expect OUTPUT                       run it, as nobody if called by root, and fail unless it prints that
#
# The directory goes at the end.

set -euo pipefail
work=$(mktemp -d -t finding.XXXXXX)
chmod 755 "$work"
trap 'rm -rf "$work"' EXIT

program() {
	cat >"$work/main.go"
	(
		cd "$work"
		go mod init finding
		go get "$1@$2"
		go mod tidy
		go build -o finding .
	) >"$work/log" 2>&1 || {
		cat "$work/log" >&2
		exit 1
	}
}

expect() {
	local got
	if [ "$(id -u)" = 0 ]; then
		got=$(setpriv --reuid=nobody --regid=nogroup --clear-groups "$work/finding")
	else
		got=$("$work/finding")
	fi
	echo "$got"
	[ "$got" = "$1" ] || { echo "failed: want: $1" >&2; exit 1; }
}
