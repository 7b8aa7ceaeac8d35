package flaky_test

import (
	"testing"
	"time"

	"walkeep/common/storage"
	"walkeep/common/storage/flaky"
	"walkeep/common/storage/retry"
	"walkeep/common/storage/storagetest"
)

var manners = flaky.Manners{NoReadBack: true, SilentRemove: true, LateExist: true, Page: 3}

func TestConformance(t *testing.T) {
	storagetest.Run(t, storagetest.Options{NoReadBack: true, SilentRemove: true, Requests: 6000}, func(*testing.T) storage.Backend {
		return &flaky.Backend{Manners: manners}
	})
}

// A store that confirms a checksum need not be read back.
func TestConformanceConfirms(t *testing.T) {
	storagetest.Run(t, storagetest.Options{NoReadBack: true, Confirms: true, SilentRemove: true}, func(*testing.T) storage.Backend {
		b := &flaky.Backend{Manners: manners}
		b.Confirms = true
		return b
	})
}

// A busy store keeps the contract behind the decorator that asks it again.
func TestConformanceBusy(t *testing.T) {
	storagetest.Run(t, storagetest.Options{NoReadBack: true, SilentRemove: true, Requests: 6000}, func(*testing.T) storage.Backend {
		b := &flaky.Backend{Manners: manners}
		b.Busy = 5
		return retry.New(b, 10*time.Microsecond, time.Minute)
	})
}
