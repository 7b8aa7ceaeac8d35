//go:build !linux

package durable

import "os"

// beginWriteback leaves the time to the system.
func beginWriteback(*os.File, int64, int64) {}
