//go:build !linux

package main_test

import (
	"testing"

	"walkeep/common/pgtest"
)

// clusterDir makes a directory for data directories.
func clusterDir(t testing.TB) string { return pgtest.TempDir(t) }
