package service_test

import (
	"testing"

	"walkeep/common/cmdtest"
	"walkeep/supervisor/service"
)

// TestUnitGolden holds the whole unit, which people read and change.
func TestUnitGolden(t *testing.T) {
	s := service.Setup{
		Name: "walkeep", Program: "/usr/lib/walkeep/supervisor", Config: "/etc/walkeep/walkeep.ini", User: "postgres",
		Writable: []string{"/srv/the wal", "/srv/drill"},
	}
	cmdtest.Golden(t, "testdata/unit.golden", s.Unit())
}
