# Completion of walkeep's commands and options for fish.
complete -c walkeep -a '(GO_FLAGS_COMPLETION=1 walkeep (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'
