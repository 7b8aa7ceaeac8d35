package filebackup

import (
	"strconv"
	"strings"
)

// tempPrefix begins the names of temporary files and of directories of them.
const tempPrefix = "pgsql_tmp"

// emptied reports whether BASE_BACKUP sends a directory of this name without its content, wherever it is (excludeDirContents).
func emptied(name string) bool {
	switch name {
	case "pg_stat_tmp", "pg_replslot", "pg_dynshmem", "pg_notify", "pg_serial", "pg_snapshots", "pg_subtrans":
		return true
	}
	return false
}

// excluded reports whether BASE_BACKUP of this major version leaves out a file of this name, wherever it is (excludeFiles).
func excluded(name string, major int) bool {
	switch name {
	case "postgresql.auto.conf.tmp", "current_logfiles.tmp", "backup_label", "tablespace_map", "postmaster.pid", "postmaster.opts", ".DS_Store":
		return true
	case "backup_manifest":
		return major >= 13
	}
	return strings.HasPrefix(name, tempPrefix) || major >= 11 && strings.HasPrefix(name, "pg_internal.init")
}

// A relation is what the name of a relation's file says.
type relation struct {
	number  string // its file number
	init    bool   // the fork from which an unlogged relation is made anew
	segment uint32 // number of the file in its fork
}

// parseRelation reads names such as 16384, 16384.1, 16384_fsm and 16384_init; false for all others.
func parseRelation(name string) (r relation, ok bool) {
	r.number, name = digits(name)
	if r.number == "" || r.number[0] == '0' || len(r.number) > 10 {
		return r, false
	}
	if fork, found := strings.CutPrefix(name, "_"); found {
		end := strings.IndexByte(fork, '.')
		if end < 0 {
			end = len(fork)
		}
		switch fork[:end] {
		case "init":
			r.init = true
		case "fsm", "vm":
		default:
			return r, false
		}
		name = fork[end:]
	}
	if segment, found := strings.CutPrefix(name, "."); found {
		n, err := strconv.ParseUint(segment, 10, 32)
		if err != nil || n == 0 || segment[0] == '0' {
			return r, false
		}
		r.segment, name = uint32(n), ""
	}
	return r, name == ""
}

// temporary reports whether a name is that of a file of a temporary relation, t3_16384 and the like.
func temporary(name string) bool {
	rest, found := strings.CutPrefix(name, "t")
	if !found {
		return false
	}
	backend, rest := digits(rest)
	rest, found = strings.CutPrefix(rest, "_")
	if backend == "" || !found {
		return false
	}
	_, is := parseRelation(rest)
	return is
}

// digits splits a text behind the decimal digits with which it begins.
func digits(text string) (number, rest string) {
	end := 0
	for end < len(text) && text[end] >= '0' && text[end] <= '9' {
		end++
	}
	return text[:end], text[end:]
}

// allDigits reports whether a name consists of decimal digits.
func allDigits(name string) bool {
	number, rest := digits(name)
	return number != "" && rest == ""
}
