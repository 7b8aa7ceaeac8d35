package service_test

import (
	"os"
	"testing"
	"time"
)

// Schedules are in local time, and the tests' expectations in UTC.
func TestMain(m *testing.M) {
	time.Local = time.UTC
	os.Exit(m.Run())
}
