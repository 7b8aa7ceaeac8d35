package wal

import "time"

// FormatTime returns a time as messages show it to people: in UTC, to the microsecond, which is what the WAL stores.
func FormatTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.999999 MST") }
