package service

import "os"

// IsJournal reports whether a file leads to systemd's journal.
func IsJournal(*os.File) bool { return false }
