package mem_test

import (
	"testing"

	"walkeep/common/storage"
	"walkeep/common/storage/mem"
	"walkeep/common/storage/storagetest"
)

func TestConformance(t *testing.T) {
	storagetest.Run(t, storagetest.Options{}, func(*testing.T) storage.Backend { return new(mem.Backend) })
}
