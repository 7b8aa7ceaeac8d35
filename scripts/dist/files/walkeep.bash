# Completion of walkeep's commands and options for bash.
_walkeep() {
	local IFS=$'\n'
	mapfile -t COMPREPLY < <(GO_FLAGS_COMPLETION=1 "$1" "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _walkeep walkeep
