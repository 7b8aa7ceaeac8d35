//go:build unix && !linux && !darwin

package durable

import "golang.org/x/sys/unix"

// renameNoReplace is not to be had here; a hard link serves.
func renameNoReplace(string, string) error { return unix.ENOTSUP }
