#compdef walkeep
# Completion of walkeep's commands and options for zsh.
local -a found
found=("${(@f)$(GO_FLAGS_COMPLETION=1 ${words[1]} "${(@)words[2,CURRENT]}" 2>/dev/null)}")
compadd -a found || _files
