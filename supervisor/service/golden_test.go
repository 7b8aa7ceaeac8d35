package service_test

import (
	"testing"

	"walkeep/common/cmdtest"
	"walkeep/supervisor/service"
)

// TestUnitGolden compares the whole unit with a golden file, because users read and change it.
func TestUnitGolden(t *testing.T) {
	s := service.Installation{
		Name: "walkeep", Program: "/usr/lib/walkeep/supervisor", Config: "/etc/walkeep/walkeep.ini", User: "postgres",
		Writable: []string{"/srv/the wal", "/srv/drill"},
	}
	cmdtest.Golden(t, "testdata/unit.golden", s.Unit())
}
