package pgdata

import (
	"encoding/binary"
	"fmt"
	"io"
	"path/filepath"

	"walkeep/common/durable"
)

// A DBState is the state of a cluster, as its control file has it.
type DBState uint32

// The states that are looked for (DBState in src/include/catalog/pg_control.h, the same in all releases).
const (
	ShutDown           DBState = 1
	ShutDownInRecovery DBState = 2
	InProduction       DBState = 6
)

// State reads the state of a cluster, which follows the identifier, the control file's version and the catalog's, in every
// release so far. Of one to come it is taken for granted, too.
func State(dir string) (DBState, error) {
	f, err := durable.Open(filepath.Join(dir, "global", "pg_control"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var b [20]byte
	if _, err := io.ReadFull(f, b[:]); err != nil {
		return 0, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return DBState(binary.LittleEndian.Uint32(b[16:])), nil
}
